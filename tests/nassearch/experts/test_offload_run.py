"""A run of a model whose layers stay on disk, by the command line, to its export; what its folder costs in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import transformers as hf
from expert_runs import TEXT
from safetensors.torch import load_file
from test_checkpoints import TASK, Watch

from nassearch.cli import _run
from nassearch.pretrained import load_pretrained
from nassearch.runs import Run
from supernets import convert, load, save

_LISTS = {"keep": [2, 4, 8], "operators": ["drop", "m-smoe", "mone"], "width": [16], "k": [2]}


def command(folder: Path) -> list[str]:
    """Return the command whose settings are those of `make_expert_run`, with the model on disk."""
    sets = [f"model_options.{n}={json.dumps(v)}" for n, v in _LISTS.items()] + ["export.format=none"]
    task = f"causal-lm:text:{folder / 'text'},block=16,cache={folder / 'cache'}"
    return [
        "run", "--space", "experts", "--model", str(folder / "sharded"), "--task", task, "--offload",
        str(folder / "scratch"), "--objective", "nll:min", "--objective", "size_mb:min", "--num-evals", "8",
        "--batch-size", "4", "--strategy", "random", "--out", str(folder / "lazy"),
        *(part for s in sets for part in ("--set", s)),
    ]  # fmt: skip


def test_a_run_with_layers_on_disk_is_the_run_without(expert_run: Run, tmp_path: Path) -> None:
    """The same evaluations from shards that are read as needed; what is exported are the weights of the model."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(TEXT)
    source = expert_run.config.model
    hf.AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "sharded")
    whole = hf.AutoModelForCausalLM.from_pretrained(source)
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert _run(command(tmp_path), debug=False) == 0
    lazy, out = Run(tmp_path / "lazy"), tmp_path / "out"
    assert list((tmp_path / "scratch").iterdir())
    assert [(r.arch, r.values) for r in lazy.records] == [(r.arch, r.values) for r in expert_run.records]
    assert [r.report for r in lazy.front] == [r.report for r in expert_run.front]
    first = lazy.front[0]
    subnet = ["--subnet", str(first.id), "--format", "state-dict", "--out", str(out)]
    assert _run(["export", str(lazy.folder), *subnet], debug=False) == 0
    (file,) = out.rglob("*.safetensors")
    exported, expected = load_file(file), expert_run.supernet().extract(first.arch).state_dict()
    assert exported.keys() == expected.keys()
    assert all(torch.equal(t, expected[n]) for n, t in exported.items())


def costs(folder: str) -> None:
    """Print the size of a model on disk, and the most memory that saving its supernet, and opening it, took."""
    config = hf.OlmoeConfig(
        vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=4, num_experts=16, num_experts_per_tok=2, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    source, saved = str(Path(folder) / "model"), str(Path(folder) / "supernet")
    hf.OlmoeForCausalLM(config).save_pretrained(source, max_shard_size="8MB")
    lazy = load_pretrained(source, TASK, seed=0, offload=Path(folder) / "files").module
    size = sum(p.numel() * p.element_size() for p in lazy.parameters())
    net = convert(lazy, space="experts", copy=False, width=[256], keep=[8, 16])
    with Watch() as saving:
        save(net, saved)
    with Watch() as opening:
        again = load(saved)
    print(json.dumps([size, saving.most, opening.most]), len(again.space.genes))


def test_what_saving_and_opening_cost(tmp_path: Path) -> None:
    """What the guide says: about one model to save, three to open."""
    make = "import runpy, sys; sys.path[:0] = sys.argv[3:]; runpy.run_path(sys.argv[1])['costs'](sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", make, __file__, str(tmp_path), *sys.path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    size, saving, opening = json.loads(done.stdout.splitlines()[-1].rpartition("]")[0] + "]")
    print(f"model {size / 1e6:.0f} MB, saving {saving / size:.2f}, opening {opening / size:.2f} of it")
    assert saving < 1.3 * size
    assert opening < 3.3 * size
