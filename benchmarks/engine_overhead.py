"""Engine overhead per evaluation: everything but the evaluation itself, local and over Ray.

The evaluator does nothing, so a search's wall time is the engine's: ask, propose (fsync), submit, collect,
append (fsync), tell. ``random`` shows the engine alone, other strategies add their own time.

    python benchmarks/engine_overhead.py --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import append_row, machine, read_rows

from nassearch.evaluation import EvaluatorSource, Part
from nassearch.executors import ExecutorSettings
from nassearch.executors.local import LocalExecutor
from nassearch.goal import Goal
from nassearch.objectives import Objective
from nassearch.search import Search, SearchSettings
from nassearch.store import Store
from nassearch.strategies import make_strategy
from search_spaces import get_space

COLUMNS = ["executor", "workers", "strategy", "evaluations", "repeat", "ms_per_evaluation", "machine"]


class Nothing:
    """Evaluates in no time."""

    needs_cost = False

    def quality(self, arch: Mapping[str, Any], split: str = "search") -> Part:
        return Part(
            {"top1": float(sum(v for k, v in arch.items() if k.startswith("ks"))), "macs_m": float(arch["e.0"])}
        )

    def cost(self, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        raise AssertionError("nothing is measured here")


class NothingSource(EvaluatorSource):
    """Makes it on a worker."""

    def arrays(self) -> dict[str, Any]:
        return {}

    def build(self, arrays: Mapping[str, Any]) -> Nothing:
        return Nothing()


def measure(executor_name: str, workers: int, strategy: str, evaluations: int, seed: int) -> float:
    """Return milliseconds per evaluation of one search, without starting and stopping workers."""
    space = get_space("ofa-mobilenetv3-w1.0")
    goal = Goal((Objective("top1", "max"), Objective("macs_m", "min")))
    settings = ExecutorSettings(num_workers=workers)
    if executor_name == "ray":
        from nassearch.executors.ray import RayExecutor

        executor: Any = RayExecutor(NothingSource(), settings)
    else:
        executor = LocalExecutor(Nothing(), settings)
    with (
        tempfile.TemporaryDirectory() as folder,
        executor,
        Store(Path(folder) / "evaluations.sqlite", space, create=True) as store,
    ):
        # The first evaluations wait for workers to start and modules to load.
        first = make_strategy("random", space, objectives=goal.objectives, seed=seed)
        Search(first, executor, store, goal, SearchSettings(2, 2, seed, "random")).run()
        made = make_strategy(strategy, space, objectives=goal.objectives, seed=seed, budget=evaluations)
        search = Search(made, executor, store, goal, SearchSettings(evaluations + 2, 10, seed, strategy))
        started = time.perf_counter()
        search.run()
        return 1000 * (time.perf_counter() - started) / evaluations


def main() -> None:
    """Measure what is missing and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/engine_overhead.csv"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100)
    args = parser.parse_args()
    cases = [
        ("local", 1, "random"),
        ("local", 1, "nsga2"),
        ("local", 1, "linas"),
        ("ray", 1, "random"),
        ("ray", 2, "random"),
    ]
    done = {(r["executor"], r["workers"], r["strategy"], r["repeat"]) for r in read_rows(args.out)}
    for repeat in range(args.repeats):
        for executor, workers, strategy in cases:
            if (executor, str(workers), strategy, str(repeat)) in done:
                continue
            ms = measure(executor, workers, strategy, args.evaluations, repeat)
            append_row(
                args.out, COLUMNS, [executor, workers, strategy, args.evaluations, repeat, f"{ms:.2f}", machine()]
            )
    for executor, workers, strategy in cases:
        values = [
            float(r["ms_per_evaluation"])
            for r in read_rows(args.out)
            if (r["executor"], r["workers"], r["strategy"]) == (executor, str(workers), strategy)
        ]
        print(
            f"{executor:5} x{workers} {strategy:7} median {statistics.median(values):6.2f} ms per evaluation "
            f"(min {min(values):.2f}, max {max(values):.2f}, n {len(values)})"
        )


if __name__ == "__main__":
    main()
