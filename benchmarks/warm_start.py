"""Evaluations that a search needs with and without a warm start from another device's search.

On tables of known networks: `linas` searches for the first device, then for the second one, in three ways: from
nothing; warm-started with everything as a prior (as with other weights); warm-started with the accuracy known (as
with `--reuse accuracy`). A row is written for each finished search; a stopped benchmark goes on with those missing.

    python benchmarks/warm_start.py --data DIR
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import append_row, machine, read_rows
from threadpoolctl import threadpool_limits

from nassearch.bench import make_problem
from nassearch.bench.problem import TabularProblem
from nassearch.metrics import base_name
from nassearch.strategies import make_strategy

CHECKPOINTS = (20, 50, 100, 150)
TARGETS = (0.9, 0.95, 0.97, 0.98, 0.99)
WAYS = ("cold", "prior", "known")
COLUMNS = [
    "problem", "source", "strategy", "way", "seed", *(f"to_{t}" for t in TARGETS), *(f"at_{n}" for n in CHECKPOINTS),
    "machine",
]  # fmt: skip
PROBLEMS = {
    "pixel3 to raspi4": ("nas-bench-201:{}/nas_bench_201,device=pixel3", "nas-bench-201:{}/nas_bench_201"),
    "titan_rtx_32 to raspi4": ("nas-bench-201:{}/nas_bench_201,device=titan_rtx_32", "nas-bench-201:{}/nas_bench_201"),
    "ofa 176 to 224 px": ("ofa-mobilenetv3:{}/ofa_mobilenetv3,resolution=176", "ofa-mobilenetv3:{}/ofa_mobilenetv3"),
}

Found = tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]


def search(problem: TabularProblem, strategy: str, seed: int, budget: int, start: Any = None) -> tuple[Found, list]:
    """Return the rows with their objectives, and the score after each batch of ten."""
    made = make_strategy(
        strategy, problem.space, objectives=problem.objectives, seed=seed, analytic=problem.analytic, budget=budget
    )
    if start is not None:
        made.warm_start(*start)
    rows: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float64]] = []
    scores = []
    while sum(map(len, rows)) < budget and len(G := made.ask(10)):
        figures = problem.evaluate(G)
        rows.append(G)
        values.append(problem.values(figures))
        made.tell(G, values[-1])
        told = np.concatenate(values)
        scores.append((len(told), problem.score(told, np.zeros((len(told), 0)), told)))
    columns = np.concatenate(values).T
    return (np.concatenate(rows), {o.metric: c for o, c in zip(problem.objectives, columns, strict=True)}), scores


def start_of(found: Found, target: TabularProblem, way: str) -> Any:
    """Return the arguments of `Strategy.warm_start`, or None."""
    if way == "cold":
        return None
    rows, values = found
    known, prior = {}, {}
    for o in target.objectives:
        (same,) = [c for m, c in values.items() if base_name(m) == base_name(o.metric)]
        (known if way == "known" and base_name(o.metric) != "latency_ms" else prior)[o.metric] = same
    return rows, known, prior


def main() -> None:
    """Search what is missing, then print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with nas_bench_201/ and ofa_mobilenetv3/")
    parser.add_argument("--out", type=Path, default=Path("results/warm_start.csv"))
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--strategies", nargs="+", default=["linas", "nsga2"])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    done = {tuple(r[c] for c in COLUMNS[:5]) for r in read_rows(args.out)}
    for name in args.problems:
        source, target = (make_problem(text.format(args.data)) for text in PROBLEMS[name])
        # Where the resolution differs, so does the accuracy: nothing is known, all is a prior.
        ways = [w for w in WAYS if w != "known" or not name.startswith("ofa")]
        for seed in range(args.seeds):
            found = None
            for strategy in args.strategies:
                for way in ways:
                    if (target.name, source.name, strategy, way, str(seed)) in done:
                        continue
                    with threadpool_limits(1):
                        found = found or search(source, "linas", seed + 100, 200)[0]
                        start = start_of(found, target, way)
                        scores = search(target, strategy, seed, CHECKPOINTS[-1], start)[1]
                    reached = [next((n for n, s in scores if s >= t), "") for t in TARGETS]
                    at = [f"{next(s for n, s in scores if n >= c):.4f}" for c in CHECKPOINTS]
                    row = [target.name, source.name, strategy, way, seed, *reached, *at, machine()]
                    append_row(args.out, COLUMNS, row)
    report(args.out)


def report(path: Path) -> None:
    """Print, for each problem, strategy and way, the medians over seeds; a target not reached counts as the budget."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_rows(path):
        groups.setdefault(tuple(row[c] for c in COLUMNS[:4]), []).append(row)
    for key, rows in groups.items():
        reached = {t: statistics.median(int(r[f"to_{t}"] or CHECKPOINTS[-1] + 1) for r in rows) for t in TARGETS}
        at = {n: round(statistics.median(float(r[f"at_{n}"]) for r in rows), 3) for n in CHECKPOINTS}
        print(*key, len(rows), "evaluations to", reached, "score at", at)


if __name__ == "__main__":
    main()
