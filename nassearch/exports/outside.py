"""Running an export in a process of its own, where nothing of ours can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nassearch.errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs

OURS = ("nassearch", "supernets", "predictors", "search_spaces")

# What is imported must not be ours, and an export may hold code: it runs here.
_SCRIPT = """
import sys, inspect, torch
from safetensors.torch import load_file, save_file
folder = sys.argv[1]
torch.set_num_threads(int(sys.argv[5]))
{loader}
model.eval()
extra = {{}}
if "use_cache" in inspect.signature(model.forward).parameters:
    extra["use_cache"] = False
def tensors(out):
    if out is None:
        return []
    if isinstance(out, torch.Tensor):
        return [out]
    if hasattr(out, "keys"):
        return tensors(out["logits"]) if "logits" in out else [t for v in out.values() for t in tensors(v)]
    return [t for v in out for t in tensors(v)]
given, results = load_file(sys.argv[2]), {{}}
with torch.no_grad():
    for b in range(int(sys.argv[4])):
        inputs = {{k.split(".", 2)[2]: v for k, v in given.items() if k.startswith(f"{{b}}.")}}
        keywords = any(k.startswith(f"{{b}}.k.") for k in given)
        out = model(**inputs, **extra) if keywords else model(*(inputs[str(i)] for i in range(len(inputs))))
        results |= {{f"{{b}}.{{i}}": t.contiguous().clone() for i, t in enumerate(tensors(out))}}
bad = [m for m in sys.modules if m.split(".")[0] in {ours!r}]
assert not bad, bad
save_file(results, sys.argv[3])
"""


def run_outside(loader: str, folder: Path, batches: Sequence[Inputs], what: str) -> list[tuple[Tensor, ...]]:
    """Load an export in another process and return its outputs of each batch; logits alone where there are some.

    Args:
        loader: Python that makes ``model`` from the path ``folder``.
        folder: The export.
        batches: Inputs.
        what: What does not load, in the error.

    Raises:
        ExportError: It does not load, or needs a package of ours.
    """
    import torch
    from safetensors.torch import load_file, save_file

    given: dict[str, Tensor] = {}
    for b, batch in enumerate(batches):
        by_name = isinstance(batch, Mapping)
        items = batch.items() if isinstance(batch, Mapping) else enumerate(batch)
        given |= {f"{b}.{'k' if by_name else 'p'}.{name}": t.contiguous() for name, t in items}
    with tempfile.TemporaryDirectory() as scratch:
        inputs, results = Path(scratch) / "inputs.safetensors", Path(scratch) / "results.safetensors"
        save_file(given, inputs)
        arguments = [str(folder.resolve()), str(inputs), str(results), str(len(batches)), str(torch.get_num_threads())]
        # -I and another folder: only what is installed can be imported, and nothing of the project's folder.
        # -B: no __pycache__ is left in the export. What transformers copies of its code goes with the scratch folder.
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", _SCRIPT.format(loader=loader, ours=OURS), *arguments],
            cwd=scratch,
            env={**os.environ, "HF_MODULES_CACHE": scratch, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportError(f"{what} does not load: {last}")
        loaded = load_file(results)
    counts = [sum(name.startswith(f"{b}.") for name in loaded) for b in range(len(batches))]
    return [tuple(loaded[f"{b}.{i}"] for i in range(n)) for b, n in enumerate(counts)]
