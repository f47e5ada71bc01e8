"""A finished run on a tiny Mixture-of-Experts model, for tests of what comes after a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import nassearch
from nassearch.config import make_config
from nassearch.console import make_console
from nassearch.runs import Run
from nassearch.store import Outcome, Store
from search_spaces import Gene, SearchSpace

SIZES = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 2}
ENDS = {"max_position_embeddings": 32, "pad_token_id": None, "bos_token_id": 256, "eos_token_id": 256}
TEXT = "The quick brown fox.\n" * 60


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
    (folder / "text" / "a.txt").write_text(TEXT)
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


def made_up_space(layers: int, experts: int, *, kinds: bool = False) -> SearchSpace:
    """The space of a model whose layers keep experts of their own number; the first can be dense or skipped."""
    keeps = tuple(experts * i // 8 for i in (2, 4, 5, 6, 7, 8))
    genes = [Gene("block.0", ("experts", "dense", "skip"), "categorical", role="block", layer=0)] if kinds else []
    for i in range(layers):
        routed = {"block.0": ["experts"]} if kinds and not i else {}
        genes.append(Gene(f"keep.{i}", keeps, role="experts", layer=i, active_when=routed))
        fewer = {f"keep.{i}": list(keeps[:-1])}
        operators = ("drop", "ream", "m-smoe", "mone")
        genes.append(Gene(f"op.{i}", operators, "categorical", role="operator", layer=i, active_when=fewer))
        genes.append(Gene(f"k.{i}", (1, 2, 4), role="top_k", layer=i))
    return SearchSpace("experts-olmoe", genes)


def made_up_run(
    folder: Path,
    *,
    strategy: str = "nsga2",
    n: int = 80,
    seed: int = 0,
    worse: float = 0.0,
    told: bool = True,
    kinds: bool = False,
    **changes: Any,
) -> Run:
    """Write a run folder of `made_up_space` without a model.

    Args:
        folder: Where; must not exist.
        strategy: Name in the configuration.
        n: Evaluations.
        seed: Decides every value.
        worse: How much more nll the loss of all experts costs.
        told: Whether there is an ``explained.json``, of four domains.
        kinds: Whether the first block can be dense or skipped.
        **changes: Of its configuration.
    """
    folder.mkdir(parents=True)
    space, rng = made_up_space(8, 32, kinds=kinds), np.random.default_rng(seed)
    fields = {
        "space": "experts", "model": "models/olmoe", "task": "causal-lm:text:data/shakespeare", "seed": seed,
        "objectives": ["nll:min", "size_mb:min"], "num_evals": n, "strategy": strategy, "out": str(folder),
    }  # fmt: skip
    (folder / "config.yaml").write_text(make_config(fields | changes).to_yaml(), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps({"command": "nassearch run --space experts …", "seed": seed}))
    keeps = [i for i, g in enumerate(space.genes) if g.role == "experts"]
    rows = space.sample(n, rng)
    target = rng.integers(0, 6, n)
    for place in keeps:  # networks of all sizes: the mean of many independent genes is always the same
        rows[:, place] = np.clip(target + rng.integers(-1, 2, n), 0, 5)
    rows = space.canonical(np.unique(rows, axis=0))
    rng.shuffle(rows)
    with Store(folder / "evaluations.sqlite", space, create=True) as store:
        store.set_meta("bounds", {})
        for p in store.propose(rows, seed=seed, origin="search", predicted=None):
            arch = space.decode(np.array([p.row]))[0]
            share = float(np.mean([arch[space.genes[i].name] / 32 for i in keeps]))  # type: ignore[operator]
            nll = 2.1 + 1.6 * np.exp(-7 * (share - 0.2)) + worse * (1 - share) + abs(rng.normal(0, 0.03))
            store.append(Outcome(p.id, "ok", {"nll": float(nll), "size_mb": 8 + 32 * share}, {}, wall_s=0.4))
    run = Run(folder)
    if told:
        weight = rng.gamma(1.2, 1, (4, 8, 32))
        subnets = []
        for record in run.front:
            states = np.zeros((8, 32), dtype=int)
            for i in range(8):
                order, keep = np.argsort(-weight[0, i]), int(record.arch[f"keep.{i}"])
                states[i, order[:keep]] = 3
                states[i, order[keep:]] = {"m-smoe": 2, "mone": 1}.get(str(record.arch[f"op.{i}"]), 0)
            subnets.append(states.tolist())
        names = ("calibration", "shakespeare", "wikitext", "python")
        usage = {n: (w / w.sum(1, keepdims=True)).tolist() for n, w in zip(names, weight, strict=True)}
        data = {
            "kind": "experts", "ids": [r.id for r in run.front], "layers": list(range(8)), "n_experts": 32,
            "states": ["gone", "constant", "merged", "kept"], "usage": usage, "subnets": subnets,
        }  # fmt: skip
        (folder / "explained.json").write_text(json.dumps(data))
    return run
