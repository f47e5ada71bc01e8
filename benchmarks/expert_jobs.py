"""What the benchmarks of expert configurations share: the model of a job, its budget, and scores that are kept.

A job is a domain (or all), a seed and a method. The seed draws calibration and search blocks and is that of the
strategy; the report blocks are the same for all. Scores of a domain and seed are kept in ``--work``, so that a stopped
job goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from moe_texts import DOMAINS, read_domains, token_blocks
from numpy.typing import NDArray
from rows import append_row, read_rows
from torch import Tensor

if TYPE_CHECKING:
    from supernets.base import Supernet

LENGTH, BATCH = 128, 20
CALIBRATION, SEARCH, REPORT = 100, 40, 240  # blocks; of all domains, each has the same number
KEEP = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
WIDTH = (0.5, 0.75, 1.0)
ALL = "all"
ALLOWED = 0.004  # of the expert memory
Blocks = NDArray[np.int64]


def draw(blocks: Mapping[str, Blocks], domain: str, count: int, seed: int | None) -> Blocks:
    """Return blocks of one domain or, the same number of each, of all; the first ones without a seed."""
    names = DOMAINS if domain == ALL else (domain,)
    parts = []
    for name in names:
        own, n = blocks[name], min(count // len(names), len(blocks[name]))
        places = np.arange(n) if seed is None else np.random.default_rng((seed, n)).choice(len(own), n, False)
        parts.append(own[np.sort(places)])
    return np.concatenate(parts)


def batches(blocks: Blocks) -> list[dict[str, Tensor]]:
    """Return inputs of the model."""
    return [{"input_ids": torch.from_numpy(blocks[at : at + BATCH])} for at in range(0, len(blocks), BATCH)]


@torch.no_grad()
def block_losses(net: Any, inputs: list[dict[str, Tensor]]) -> NDArray[np.float64]:
    """Return the mean negative log-likelihood of a token in each block, in nats."""
    losses = []
    for batch in inputs:
        ids, logits = batch["input_ids"], net(**batch).logits[:, :-1].float()
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        losses.append(each.mean(1).double().numpy())
    return np.concatenate(losses)


@dataclass(frozen=True)
class Scores:
    """Scores of configurations of one net, kept in a table.

    Attributes:
        net: The supernet.
        search: The blocks that searches see.
        report: The blocks that decide nothing.
        path: The table.
    """

    net: Supernet
    search: list[dict[str, Tensor]]
    report: list[dict[str, Tensor]]
    path: Path

    def __post_init__(self) -> None:
        from supernets.experts.fidelity import Reference

        known = {(r["split"], r["arch"]): r["values"] for r in read_rows(self.path)}
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_reference", Reference(self.net, self.search))

    def _kept(self, split: str, arch: Mapping[str, Any], make: Any) -> list[float]:
        known: dict[tuple[str, str], str] = self._known  # type: ignore[attr-defined]
        key = (split, json.dumps(arch))
        if key not in known:
            known[key] = " ".join(f"{v:.6f}" for v in make())
            append_row(self.path, ["split", "arch", "values"], [*key, known[key]])
        return [float(v) for v in known[key].split()]

    def fidelity(self, arch: Mapping[str, Any]) -> tuple[float, float]:
        """Return KL divergence to the full model (nats) and ESAP (percent) on the search split."""

        def make() -> tuple[float, float]:
            found = self._reference.compare(self.net, arch)  # type: ignore[attr-defined]
            return found["kl"], found["esap"]

        kl, esap = self._kept("search", arch, make)
        return kl, esap

    def losses(self, arch: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the loss of each block of the report split."""

        def make() -> NDArray[np.float64]:
            with self.net.activated(arch):
                return block_losses(self.net, self.report)

        return np.array(self._kept("report", arch, make))

    @property
    def full(self) -> dict[str, Any]:
        """The architecture of the full model."""
        return self.net.space.decode(self.net.space.largest[None])[0]


def open_job(args: argparse.Namespace, domain: str, seed: int, **choices: Any) -> Scores:
    """Return the converted, calibrated model of a job and its scores.

    Args:
        args: ``model``, ``data``, ``work``.
        domain: One of `DOMAINS`, or ``"all"``.
        seed: Of the blocks.
        **choices: Of `supernets.convert`.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from supernets import convert

    model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    texts = read_domains(args.data, 0)
    own = {s: token_blocks(texts, tokenizer, s, LENGTH) for s in ("calibration", "search", "report")}
    experts, width = model.config.num_experts, model.config.moe_intermediate_size
    given = {
        "keep": sorted({max(model.config.num_experts_per_tok, round(experts * s)) for s in KEEP}),
        "width": [round(width * s) for s in WIDTH],
        "k": [model.config.num_experts_per_tok],
    }
    calibration = batches(draw(own["calibration"], domain, CALIBRATION, seed))
    net = convert(model, calibration=calibration, **{**given, **choices}).eval()
    return Scores(
        net,
        batches(draw(own["search"], domain, SEARCH, seed)),
        batches(draw(own["report"], domain, REPORT, None)),
        scores_path(args.work, domain, seed),
    )


def scores_path(work: Path, domain: str, seed: int | str) -> Path:
    """Return where the scores of a job are kept; of other numbers of blocks in another file."""
    return work / f"{domain}-{seed}-{CALIBRATION}-{SEARCH}-{REPORT}.csv"


def expert_mb(net: Supernet, G: NDArray[Any]) -> NDArray[np.float64]:
    """Return the memory of routers and experts, in 1e6 bytes, float64 ``[n]``."""
    blocks: Any = net.blocks  # type: ignore[attr-defined]
    tensors = [
        t for b in blocks for m in (b.router, b.experts) for t in (*m._parameters.values(), *m._buffers.values())
    ]
    full = sum(t.numel() * t.element_size() for t in tensors if t is not None) / 1e6
    sizes = net.analytic(np.concatenate([net.space.largest[None], G]))["size_mb"]
    return full - (sizes[0] - sizes[1:])


def limit_mb(net: Supernet, removed: float) -> float:
    """Return the most a model may have without a share of its expert memory, in 1e6 bytes.

    Routers belong to that memory, so that a uniform configuration which drops the share of the experts meets it. What
    merges keep beside experts (rows of the router, maps, constants) is allowed: less than the smallest step of weights,
    so that no configuration gains any by it.
    """
    largest = net.space.largest[None]
    return float(net.analytic(largest)["size_mb"][0] - (removed - ALLOWED) * expert_mb(net, largest)[0])
