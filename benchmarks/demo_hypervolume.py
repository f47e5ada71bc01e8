"""The demo's own front: hypervolume of each strategy after 50, 100 and 150 evaluations, over seeds.

One supernet is trained once (or taken from a run); every strategy and seed then searches it for top1 and measured
latency. Hypervolume is normalised by the ideal and the nadir of everything that any run evaluated, and the best
front over all runs counts as 1. Each search is a run folder in ``--work``; a stopped benchmark goes on with those.

    python benchmarks/demo_hypervolume.py --supernet results/demo/supernet --work runs/demo-hypervolume
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from rows import append_row, machine

import nassearch
from nassearch.console import make_console
from nassearch.pareto import hypervolume, non_dominated
from nassearch.runs import Run

COLUMNS = ["strategy", "seed", "evaluations", "hypervolume", "of_best", "front", "machine"]
CHECKPOINTS = (50, 100, 150)


def search(strategy: str, seed: int, args: argparse.Namespace) -> Run:
    """Return the finished run of a strategy and seed, going on where it stopped."""
    folder = args.work / f"{strategy}-s{seed}"
    console = make_console(quiet=True)
    if (folder / "config.yaml").is_file():
        run = Run(folder)
        return run if len(run.records) == CHECKPOINTS[-1] else nassearch.resume(folder, console=console)
    return nassearch.run(
        {
            "space": "mobilenetv3-tiny",
            "task": args.task,
            "objectives": ["top1:max", "latency_ms:min"],
            "num_evals": CHECKPOINTS[-1],
            "seed": seed,
            "strategy": strategy,
            "supernet": args.supernet,
            "out": folder,
            "export": {"format": "none"},
        },
        console=console,
        command="benchmarks/demo_hypervolume.py",
    )


def main() -> None:
    """Search what is missing, then write the table and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/demo_hypervolume.csv"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--supernet", type=Path, required=True)
    parser.add_argument("--task", default="digits")
    parser.add_argument("--strategies", nargs="+", default=["random", "nsga2", "linas"])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    runs = {}
    for seed in range(args.seeds):
        for strategy in args.strategies:
            runs[strategy, seed] = search(strategy, seed, args)
            print(f"{strategy} seed {seed}: front of {len(runs[strategy, seed].front)}", flush=True)
    objectives = next(iter(runs.values())).goal.objectives
    values = {key: run.objective_values(run.records) for key, run in runs.items()}
    everything = np.concatenate(list(values.values()))
    everything = everything[np.isfinite(everything).all(axis=1)]
    # Latencies have a long tail of disturbed measurements: the nadir is that of the middle 98 %.
    worst = np.array(
        [np.percentile(everything[:, j], 1 if o.direction == "max" else 99) for j, o in enumerate(objectives)]
    )
    ideal = np.array([(np.max if o.direction == "max" else np.min)(everything[:, j]) for j, o in enumerate(objectives)])
    box = float(np.abs(ideal - worst).prod())
    best = hypervolume(everything, worst, objectives) / box
    args.out.unlink(missing_ok=True)
    for (strategy, seed), found in values.items():
        for n in CHECKPOINTS:
            part = found[:n]
            share = hypervolume(part, worst, objectives) / box
            front = int(non_dominated(part, objectives).sum())
            append_row(args.out, COLUMNS, [strategy, seed, n, f"{share:.4f}", f"{share / best:.4f}", front, machine()])
    table = {(s, n): [] for s in args.strategies for n in CHECKPOINTS}
    for (strategy, _), found in values.items():
        for n in CHECKPOINTS:
            table[strategy, n].append(hypervolume(found[:n], worst, objectives) / box / best)
    for (strategy, n), shares in table.items():
        print(
            f"{strategy:7} {n:4} evaluations: median {statistics.median(shares):.3f} of the best front known "
            f"(min {min(shares):.3f}, max {max(shares):.3f}, {len(shares)} seeds)"
        )


if __name__ == "__main__":
    main()
