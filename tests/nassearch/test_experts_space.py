"""Runs on Mixture-of-Experts models: calibrated on the task's split, not trained, searched, exported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import nassearch
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.runs import Run

SIZES = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 3}
ENDS = {"max_position_embeddings": 32, "pad_token_id": None, "bos_token_id": 256, "eos_token_id": 256}


def save_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<end>"])}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    hf.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<end>").save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("olmoe")
    torch.manual_seed(0)
    hf.OlmoeForCausalLM(hf.OlmoeConfig(**SIZES, **HEADS, **ENDS)).save_pretrained(folder / "model")
    save_tokenizer(folder / "model")
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("The quick brown fox.\n" * 60)
    return folder


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    options = {"block": 16, "cache": folder / "cache", **changes.pop("task", {})}
    return {
        "space": "experts",
        "model": str(folder / "model"),
        "task": f"causal-lm:text:{folder / 'text'}," + ",".join(f"{n}={v}" for n, v in options.items()),
        "objectives": ["nll:min", "size_mb:min", "active_params_m:min", "active_experts:min"],
        "num_evals": 6,
        "batch_size": 3,
        "strategy": "nsga2",
        "export": {"format": "none"},
        "out": str(folder / "run"),
        **changes,
    }


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return nassearch.run(settings(folder, constraints=["size_mb <= 60%"]), console=make_console(quiet=True))


def test_experts_are_searched_calibrated_and_untrained(run: Run) -> None:
    assert run.config.train_method == "none"
    assert [r.status for r in run.records] == ["ok"] * 6
    limit = 0.6 * run.bounds["size_mb"]["largest"]
    assert sum(r.values["size_mb"] <= limit for r in run.records) >= 5  # the largest is asked, too
    net: Any = run.supernet()
    assert net.calibrated
    assert float(net.statistics[0].tokens) > 0
    assert {"nll", "size_mb", "active_params_m", "active_experts"} <= set(run.front[0].values)
    original: Any = hf.OlmoeForCausalLM.from_pretrained(run.config.model)
    inputs = net.example_inputs()
    with torch.no_grad():
        torch.testing.assert_close(net(**inputs).logits, original(**inputs).logits, rtol=1e-5, atol=1e-5)


def dense(folder: Path) -> dict[str, Any]:
    llama = {n: v for n, v in (SIZES | HEADS).items() if "expert" not in n}
    hf.LlamaForCausalLM(hf.LlamaConfig(**llama, **ENDS)).save_pretrained(folder / "dense")
    save_tokenizer(folder / "dense")
    return {"model": str(folder / "dense")}


def small_vocabulary(folder: Path) -> dict[str, Any]:
    config = hf.OlmoeConfig(**SIZES | {"vocab_size": 50}, **HEADS, **ENDS | {"bos_token_id": 1, "eos_token_id": 1})
    hf.OlmoeForCausalLM(config).save_pretrained(folder / "small")
    save_tokenizer(folder / "small")
    return {"model": str(folder / "small")}


def in_shards(folder: Path) -> Path:
    torch.manual_seed(0)
    model = hf.OlmoeForCausalLM(hf.OlmoeConfig(**SIZES, **HEADS, **ENDS))
    model.save_pretrained(folder / "shards", max_shard_size="20KB")
    save_tokenizer(folder / "shards")
    return folder / "shards"


def missing_shard(folder: Path) -> dict[str, Any]:
    shards = in_shards(folder)
    files = sorted(shards.glob("*.safetensors"))
    assert len(files) > 3
    files[2].unlink()
    return {"model": str(shards)}


def missing_experts(folder: Path) -> dict[str, Any]:
    """A file that was written whole, but without one expert."""
    target = folder / "lacking"
    shutil.copytree(folder / "model", target)
    tensors = load_file(target / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if ".experts.3." not in n or "layers.1" not in n}
    assert len(kept) < len(tensors)
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return {"model": str(target)}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (dense, "LlamaForCausalLM .llama. has no experts.*--space auto"),
        (lambda _: {"space": "auto"}, "--space experts instead of --space auto"),
        (small_vocabulary, "the tokenizer does not match the model"),
        (lambda _: {"task": {"block": 4, "calibration": 2}}, "calibration saw 8 tokens; at least 22 are needed"),
        (lambda _: {"constraints": ["size_mb <= 0.001"]}, "cannot be met.*for the smallest"),
        (missing_shard, r"is not whole: model-00003-of-\d+\.safetensors is missing"),
        (missing_experts, "shapes.*layers.1.mlp.experts.*lack some"),
        (lambda _: {"model_options": {"keep": [3]}}, "lacks 8"),
        (lambda _: {"model_options": {"blocks": ["moe", "experts"]}}, "'moe' is not possible"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(
    folder: Path, tmp_path: Path, case: Callable[[Path], dict[str, Any]], message: str
) -> None:
    shutil.copytree(folder, tmp_path / "own", ignore=shutil.ignore_patterns("run"))
    own = tmp_path / "own"
    given = settings(own, out=str(tmp_path / "out"), **case(own))
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        nassearch.run(given, console=make_console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_costs_of_experts_need_experts(tmp_path: Path) -> None:
    given = {"space": "mobilenetv3-tiny", "task": "digits", "objectives": ["top1:max", "active_experts:min"]}
    with pytest.raises(ConfigError, match=r"has no active_experts.*params_m"):
        nassearch.run({**given, "out": str(tmp_path / "out")}, console=make_console(quiet=True))
    assert not (tmp_path / "out").exists()
