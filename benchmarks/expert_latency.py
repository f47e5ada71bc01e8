"""Time of uniform exports, loaded by stock transformers, against the bytes that a token uses.

    python benchmarks/expert_latency.py --model FOLDER/model --data DIR

Each uniform configuration of experts kept, experts per token and width is extracted, written by ``save_pretrained``,
and read by ``from_pretrained``; ``difference`` is the greatest one between their outputs. CPU time of one thread,
median over rounds in which the configurations take turns, so that other work on the machine meets all: prefill of
``--batch`` x 128 tokens, and one token after a prefill of 128 (``use_cache``). A row per configuration in ``--out``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from expert_jobs import ALL, LENGTH, open_job
from rows import append_row, machine

COLUMNS = ["keep", "k", "width", "size_mb", "active_mb", "prefill_ms", "decode_ms", "difference", "machine"]


def exported(net: Any, arch: dict[str, Any], batch: torch.Tensor) -> tuple[Any, float]:
    """Return the stock model that a folder gives, and how far its outputs are from the extracted module's."""
    from transformers import AutoModelForCausalLM

    module = net.extract(arch).eval()
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        difference = (module(input_ids=batch).logits - loaded(input_ids=batch).logits).abs().max()
    return loaded, float(difference)


def cpu_ms(run: Any) -> float:
    """Return the CPU time of a call in ms."""
    began = time.thread_time()
    run()
    return 1e3 * (time.thread_time() - began)


@torch.inference_mode()
def decode_ms(model: Any, ids: torch.Tensor) -> float:
    """Return the CPU time of one token after a prefill."""
    cache = model(input_ids=ids, use_cache=True).past_key_values
    return cpu_ms(lambda: model(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True))


@torch.inference_mode()
def prefill_ms(model: Any, batch: torch.Tensor) -> float:
    """Return the CPU time of a batch."""
    return cpu_ms(lambda: model(input_ids=batch))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/expert_latency.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/experts"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    net: Any = open_job(args, ALL, 0, uniform=True, k=[1, 2], operators=["drop"], criteria=["reap"]).net
    full = net.space.decode(net.space.largest[None])[0]
    archs = []
    for keep in (max(net.choices.keep), max(net.choices.keep) // 2):
        for k in sorted(net.choices.k, reverse=True):
            archs += [{**full, "keep": keep, "k": k, "width": w} for w in sorted(net.choices.width, reverse=True)]
    costs = net.analytic(net.space.encode(archs))
    batch = torch.from_numpy(np.random.default_rng(0).integers(1, net.model.config.vocab_size, (args.batch, LENGTH)))
    models = [exported(net, a, batch) for a in archs]
    times = np.array([
        [(prefill_ms(m, batch), decode_ms(m, batch[:1])) for m, _ in models] for _ in range(args.rounds + 2)
    ])[2:]  # fmt: skip
    args.out.unlink(missing_ok=True)
    for i, arch in enumerate(archs):
        prefill, decode = np.median(times[:, i], axis=0)
        append_row(args.out, COLUMNS, [
            arch["keep"], arch["k"], arch["width"], f"{costs['size_mb'][i]:.3f}",
            f"{4 * costs['active_params_m'][i]:.3f}", f"{prefill:.2f}", f"{decode:.2f}", f"{models[i][1]:.1e}",
            machine(),
        ])  # fmt: skip
        print(arch, f"{4 * costs['active_params_m'][i]:.2f} MB active, {prefill:.1f} ms, {decode:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
