"""How far criteria and the search are from the best subsets of experts, on a model of eight experts a layer.

    python benchmarks/moe_train.py --data DIR --out FOLDER --size oracle
    python benchmarks/expert_oracle.py --model FOLDER/model --data DIR --seeds 0 1 2

The oracle is NAEE's (Lu et al., 2024): in each layer all subsets of the kept size are tried, and the one whose output
is nearest to the whole layer's (Frobenius norm over the calibration probes) stays. It knows single layers, not the
loss: a search may do better. Rows as in `expert_search`, with method ``naee``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from expert_jobs import ALL, block_losses, expert_mb
from expert_search import COLUMNS, OPERATORS, REMOVED, Job
from rows import append_row, machine, read_rows

from supernets.experts import Request, get_operator, list_criteria
from supernets.experts.probing import mix, probe_inputs, probe_outputs


def best_subset(block: Any, statistics: Any, keep: int) -> list[int]:
    """Return the experts whose layer's output is nearest to the whole layer's, of all subsets of a size."""
    x, outputs = probe_inputs(block, statistics), probe_outputs(block, statistics)
    full = mix(block, outputs, x)
    subsets = [list(s) for s in itertools.combinations(range(block.n_experts), keep)]
    return min(subsets, key=lambda s: float((full - mix(block, outputs, x, s)).square().sum()))


def oracle_losses(job: Job, keep: int) -> tuple[np.ndarray[Any, Any], list[list[int]]]:
    """Return the report losses of the model with the best subset in each layer, and the subsets."""
    net: Any = job.scores.net
    chosen = [best_subset(b, s, keep) for b, s in zip(net.blocks, net.statistics, strict=True)]
    with net.activated(job.scores.full):
        for block, statistics, kept in zip(net.blocks, net.statistics, chosen, strict=True):
            others = [e for e in range(block.n_experts) if e not in kept]
            request = Request([*kept, *others], kept, frozenset())
            block.setting.plan = get_operator("drop").plan(block, statistics, request)
        return block_losses(net, job.scores.report), chosen


def write_oracle(job: Job, removed: float) -> None:
    """Append the oracle's row."""
    net, began = job.scores.net, time.process_time()
    experts = max(net.choices.keep)  # type: ignore[attr-defined]
    losses, chosen = oracle_losses(job, round((1 - removed) * experts))
    change = losses - job.base
    size = net.analytic(net.space.largest[None])["size_mb"][0] - removed * expert_mb(net, net.space.largest[None])[0]
    figures = [losses.mean(), change.mean(), change.std(ddof=1) / np.sqrt(len(change))]
    append_row(job.args.out, COLUMNS, [
        job.domain, job.seed, removed, "naee", 0, f"{size:.4f}", f"{1 - removed:.4f}", "", "",
        *(f"{f:.5f}" for f in figures), f"{time.process_time() - began:.0f}", json.dumps(chosen), machine(),
    ])  # fmt: skip


def print_regret(path: Path) -> None:
    """Print by how much each method's loss and its rise are above the oracle's, mean over seeds."""
    rows = read_rows(path)
    oracle = {(r["domain"], r["seed"], r["removed"]): r for r in rows if r["method"] == "naee"}
    regrets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for r in rows:
        best = oracle.get((r["domain"], r["seed"], r["removed"]))
        if best is not None and r is not best:
            loss = float(r["nll"]) / float(best["nll"]) - 1
            rise = float(r["delta_nll"]) / float(best["delta_nll"]) - 1
            regrets.setdefault((r["removed"], r["method"]), []).append((loss, rise))
    for (removed, method), found in sorted(regrets.items()):
        loss, rise = np.mean(found, axis=0)
        print(f"{removed} {method}: loss {100 * loss:+.1f} %, rise {100 * rise:+.1f} % ({len(found)} seeds)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("results/expert_oracle.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/expert_oracle"))
    args = parser.parse_args()
    args.criteria, args.operators, args.methods = list_criteria(), OPERATORS, ["searched"]
    torch.set_num_threads(1)
    for seed in args.seeds:
        job = Job(ALL, seed, args)
        for removed in REMOVED:
            if job.missing(str(removed), "naee"):
                write_oracle(job, removed)
            job.at_budget(removed)
    print_regret(args.out)


if __name__ == "__main__":
    main()
