"""Runs on Mixture-of-Experts models: calibrated on the task's split, not trained, searched, exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import nassearch
from nassearch.console import make_console
from nassearch.runs import Run

SIZES = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 3}
ENDS = {"max_position_embeddings": 32, "pad_token_id": None, "bos_token_id": 256, "eos_token_id": 256}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
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
    settings: dict[str, Any] = {
        "space": "experts",
        "model": str(folder / "model"),
        "task": f"causal-lm:text:{folder / 'text'},block=16,cache={folder / 'cache'}",
        "objectives": ["nll:min", "esap:max", "size_mb:min", "active_experts:min"],
        "constraints": ["esap >= 1", "sch.4.4 >= 1", "srp.4 >= 1"],
        "num_evals": 6,
        "batch_size": 3,
        "strategy": "nsga2",
        "export": {"format": "none"},
        "out": str(folder / "run"),
    }
    return nassearch.run(settings, console=make_console(quiet=True))


def test_experts_are_searched_calibrated_and_untrained(run: Run) -> None:
    assert run.config.train_method == "none"
    assert [r.status for r in run.records] == ["ok"] * 6
    net: Any = run.supernet()
    assert net.calibrated
    assert float(net.statistics[0].tokens) > 0
    assert {"nll", "esap", "kl", "size_mb", "active_params_m", "active_experts"} <= set(run.front[0].values)
    assert {"esap", "kl", "sch.4.4", "srp.4"} <= set(run.front[0].report)
    assert 1 <= run.front[0].values["sch.4.4"] <= 100
    original: Any = hf.OlmoeForCausalLM.from_pretrained(run.config.model)
    inputs = net.example_inputs()
    with torch.no_grad():
        torch.testing.assert_close(net(**inputs).logits, original(**inputs).logits, rtol=1e-5, atol=1e-5)
