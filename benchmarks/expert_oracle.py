"""How far criteria and the search are from the best subsets of experts, on a model of eight experts a layer.

    python benchmarks/moe_train.py --data DIR --out FOLDER --size oracle
    python benchmarks/expert_oracle.py --model FOLDER/model --data DIR --seeds 0 1 2

The oracle is NAEE's (Lu et al., 2024): in each layer all subsets of the kept size are tried, and the one whose output
is nearest to the whole layer's (Frobenius norm over the calibration probes) stays. It knows single layers, not the
loss: a search may do better. The search does not have it among its operators. Rows as in `expert_search`, with method
``naee``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from expert_jobs import ALL
from expert_search import OPERATORS, REMOVED, Job, uniform_rows
from rows import read_rows

from supernets.experts import list_criteria


def write_oracle(job: Job, removed: float) -> None:
    """Append the oracle's row."""
    began = time.process_time()
    names, rows = uniform_rows(job.scores.net, removed)
    job.write(str(removed), "naee", rows[names.index("uniform:reap:naee")], 0, began)


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
        oracle = Job(ALL, seed, args, criteria=["reap", "frequency"], operators=["drop", "naee"])
        for removed in REMOVED:
            if job.missing(str(removed), "naee"):
                write_oracle(oracle, removed)
            job.at_budget(removed)
    print_regret(args.out)


if __name__ == "__main__":
    main()
