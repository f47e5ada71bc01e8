"""Runs on a Mixture-of-Experts model by metrics of agreement and of routing, and by the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import nassearch
from nassearch.config import make_config
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.problem import make_problem

SIZES = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 3}
ENDS = {"max_position_embeddings": 32, "pad_token_id": None, "bos_token_id": 256, "eos_token_id": 256}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a run on a tiny model with a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("olmoe")
    torch.manual_seed(0)
    hf.OlmoeForCausalLM(hf.OlmoeConfig(**SIZES, **HEADS, **ENDS)).save_pretrained(folder / "model")
    tok = Tokenizer(
        models.BPE({c: i for i, c in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"])}, [])
    )
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    hf.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<end>").save_pretrained(folder / "model")
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("The quick brown fox.\n" * 60)
    return {
        "space": "experts",
        "model": str(folder / "model"),
        "task": f"causal-lm:text:{folder / 'text'},block=16,cache={folder / 'cache'}",
        "objectives": ["nll:min", "esap:max", "size_mb:min", "active_experts:min"],
        "constraints": ["esap >= 1", "sch.4.4 >= 1", "srp.4 >= 1"],
        "num_evals": 4,
        "batch_size": 2,
        "strategy": "nsga2",
        "export": {"format": "none"},
        "out": str(folder / "run"),
    }


def test_metrics_of_agreement_and_routing_are_goals_and_limits(settings: dict[str, Any]) -> None:
    run = nassearch.run(settings, console=make_console(quiet=True))
    assert [r.status for r in run.records] == ["ok"] * 4
    assert {"nll", "esap", "kl", "size_mb", "active_size_mb", "sch.4.4", "srp.4"} <= set(run.front[0].values)
    assert {"esap", "kl", "sch.4.4", "srp.4"} <= set(run.front[0].report)
    assert all(1 <= r.values["sch.4.4"] <= 100 for r in run.records)


def test_metrics_that_cannot_be_shown_are_refused_before_any_work(settings: dict[str, Any], tmp_path: Path) -> None:
    objectives = ["nll:min", "srp.64:max", "sch.0.4:max", "esab:max"]
    with pytest.raises(ConfigError) as caught:
        make_problem(make_config(settings | {"objectives": objectives, "constraints": []}))
    text = str(caught.value)
    assert "did you mean 'esap'" in text
    assert "'sch.0.4' is no metric of experts; write " in text
    problem = make_problem(make_config(settings | {"objectives": objectives[:2], "constraints": []}))
    with pytest.raises(ConfigError, match="needs texts of 64 tokens; they have 16"):
        problem.check_behaviours(problem.build_supernet())
    digits = {"space": "mobilenetv3-tiny", "task": "digits", "objectives": ["top1:max", "srp.4:max"], "num_evals": 4}
    with pytest.raises(ConfigError, match=r"family 'mobilenetv3' show no metric 'srp\.4'"):
        nassearch.run(digits | {"out": str(tmp_path / "run")}, console=make_console(quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "options", "found"),
    [
        ("uniform", {"fixed": "criterion=reap+op=drop+k=largest+width=largest"}, 3),
        ("evoesap", {"fixed": "criterion=reap+op=drop", "share": 0.75}, 3),
        ("additive-mip", {"fixed": "criterion=reap+op=drop+k=largest+width=largest"}, 9),
    ],
)
def test_baselines_run_and_end_with_their_networks(
    settings: dict[str, Any], strategy: str, options: dict[str, Any], found: int, tmp_path: Path
) -> None:
    """Two layers that keep 4, 6 or 8 experts: so many networks are alike, have a total of 12, or are there at all."""
    changes = {
        "objectives": ["esap:max", "size_mb:min"], "constraints": [], "strategy": strategy, "strategy_options": options,
        "model_options": {"keep": [4, 6, 8], "shared": [0]}, "num_evals": 30, "out": str(tmp_path / "run"),
    }  # fmt: skip
    run = nassearch.run(settings | changes, console=make_console(quiet=True))
    assert [r.status for r in run.records] == ["ok"] * found
    kept = [(r.arch["keep.0"], r.arch["keep.1"]) for r in run.records]
    assert len(set(kept)) == found
    if strategy == "uniform":
        assert all(a == b for a, b in kept)
    if strategy == "evoesap":
        assert {a + b for a, b in kept} == {12}
    assert run.front
    again = nassearch.resume(run.folder, console=make_console(quiet=True))
    assert len(again.records) == found
