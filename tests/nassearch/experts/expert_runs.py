"""A finished run on a tiny Mixture-of-Experts model, for tests of what comes after a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import nassearch
from nassearch.console import make_console
from nassearch.runs import Run

SIZES = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 2}
ENDS = {"max_position_embeddings": 32, "pad_token_id": None, "bos_token_id": 256, "eos_token_id": 256}


def make_model(folder: Path) -> Path:
    """Write an OLMoE with random weights and a tokenizer of bytes."""
    torch.manual_seed(0)
    hf.OlmoeForCausalLM(hf.OlmoeConfig(**SIZES, **HEADS, **ENDS)).save_pretrained(folder)
    tok = Tokenizer(
        models.BPE({c: i for i, c in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"])}, [])
    )
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    hf.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<end>").save_pretrained(folder)
    return folder


def make_expert_run(folder: Path, **changes: Any) -> Run:
    """Search expert configurations of `make_model`'s model."""
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("The quick brown fox.\n" * 60)
    settings: dict[str, Any] = {
        "space": "experts",
        "model": str(make_model(folder / "model")),
        "model_options": {"keep": [2, 4, 8], "operators": ["drop", "m-smoe", "mone"], "width": [16], "k": [2]},
        "task": f"causal-lm:text:{folder / 'text'},block=16,cache={folder / 'cache'}",
        "objectives": ["nll:min", "size_mb:min"],
        "num_evals": 8,
        "batch_size": 4,
        "strategy": "random",
        "export": {"format": "none"},
        "out": str(folder / "run"),
    }
    return nassearch.run(settings | changes, console=make_console(quiet=True))
