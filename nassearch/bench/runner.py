"""Comparing strategies: problems times strategies times seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from nassearch.bench.log import BenchLog, BenchSettings, locked
from nassearch.bench.pool import Finished, Trial, Work, run_here, run_on_ray
from nassearch.bench.problem import TabularProblem
from nassearch.bench.registry import list_readers, make_problem
from nassearch.bench.result import BenchResult
from nassearch.bench.trial import Contender, Point
from nassearch.config import import_plugins
from nassearch.errors import ConfigError, EvaluationError
from nassearch.strategies import list_strategies
from search_spaces.errors import SearchSpaceError

Progress = Callable[[Finished, int, int], None]


def bench(
    problems: Sequence[TabularProblem | str],
    strategies: Sequence[str],
    *,
    seeds: int = 5,
    budget: int = 400,
    batch_size: int = 10,
    objectives: Sequence[str] | None = None,
    constraints: Sequence[str] | None = None,
    workers: int = 1,
    threads: int = 1,
    out: str | Path | None = None,
    checkpoints: Sequence[int] | None = None,
    targets: Sequence[float] | None = None,
    baseline: str | None = None,
    address: str | None = None,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
) -> BenchResult:
    """Run every strategy on every problem with every seed.

    The number of workers changes nothing but the time: a trial depends on its seed, budget and batch size alone.

    Args:
        problems: Problems, or specifications as `make_problem` reads them.
        strategies: ``NAME[,option=value…]``.
        seeds: Number of seeds; trials have the seeds 0, 1, ….
        budget: Distinct evaluations of a trial.
        batch_size: Proposals a batch.
        objectives: Instead of the tables' own, for problems given as specifications.
        constraints: Instead of the tables' own, for problems given as specifications.
        workers: Trials at a time; with 1 and no ``address`` they run in this process, else on Ray.
        threads: Threads of a trial.
        out: Folder for trials, tables, curves and report. Trials that it has are not run again; trials of other
            settings are refused. Default: nothing is written.
        checkpoints: Evaluations at which the table compares. Default: round numbers up to the budget.
        targets: Scores of the table of evaluations to targets. Default: those that tell the strategies apart.
        baseline: The strategy that others are compared with. Default: ``random`` if it is there, else the first.
        address: Address of a Ray cluster.
        plugins: Python modules to import first; they may register strategies, spaces or readers.
        progress: Called with every finished trial, and how many of how many are finished.

    Raises:
        ConfigError: Something unknown or not allowed; all faults together, before any trial.
        EvaluationError: Trials failed; those that did not are saved.
    """
    import_plugins(plugins)
    counts = {"seeds": seeds, "budget": budget, "batch_size": batch_size, "workers": workers, "threads": threads}
    found: list[TabularProblem] = []
    contenders: list[Contender] = []
    faults = [f"{k} must be at least 1; got {v}" for k, v in counts.items() if v < 1]
    for problem in problems:
        with _noted(faults):
            if isinstance(problem, str):
                problem = make_problem(problem, objectives=objectives, constraints=constraints)
            found.append(problem)
    for text in dict.fromkeys(strategies):
        with _noted(faults):
            contender = Contender.parse(text)
            contender.resolved()
            contenders.append(contender)
    _check(problems, strategies, found, contenders, budget, faults)
    settings = BenchSettings(
        budget, batch_size, {p.name: p.describe() for p in found}, {str(c): c.resolved() for c in contenders}
    )
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a folder")
    options = {"checkpoints": checkpoints, "targets": targets, "baseline": baseline}
    with locked(folder) if folder is not None else nullcontext():
        log = BenchLog(folder, settings) if folder is not None else None
        points: list[Point] = log.points if log is not None else []
        known = log.settings if log is not None else settings
        # Faults of the options show before hours of trials, not after them.
        BenchResult(known, points, **options)  # type: ignore[arg-type]
        have = {p.key for p in points}
        # Seed by seed, so that an early end leaves something to compare.
        trials = [Trial(p.name, str(c), s) for s in range(seeds) for p in found for c in contenders]
        todo = [t for t in trials if (t.problem, t.strategy, t.seed) not in have]
        work = Work(
            {p.name: p for p in found}, {str(c): c for c in contenders}, budget, batch_size, threads, tuple(plugins)
        )
        local = (workers == 1 and address is None) or not todo
        runs = run_here(work, todo) if local else run_on_ray(work, todo, workers=workers, address=address)
        failures = []
        with closing(runs):  # at an interruption the cluster ends now, not some time later
            for i, finished in enumerate(runs, start=len(trials) - len(todo) + 1):
                if finished.error is not None:
                    failures.append(f"{finished.trial}: {finished.error}")
                elif log is not None:
                    log.append(finished.points)
                else:
                    points += finished.points
                if progress is not None:
                    progress(finished, i, len(trials))
        result = BenchResult(known, points, **options)  # type: ignore[arg-type]
        if folder is not None and points:
            from nassearch.bench.output import write_outputs

            write_outputs(result, folder)
    if failures:
        kept = f"; the others are saved in {folder}" if folder is not None else ""
        raise EvaluationError(f"{len(failures)} of {len(trials)} trials failed{kept}:\n  " + "\n  ".join(failures))
    return result


@contextmanager
def _noted(faults: list[str]) -> Iterator[None]:
    """Collect bad input instead of raising it, so that all faults are reported together."""
    try:
        yield
    except ConfigError as error:
        faults += error.faults
    except SearchSpaceError as error:
        faults.append(str(error))


def _check(
    problems: Sequence[object], strategies: Sequence[str], found: Sequence[TabularProblem],
    contenders: Sequence[Contender], budget: int, faults: list[str],
) -> None:  # fmt: skip
    """Raise all faults: those noted, repeated names, and strategies that do not handle a problem."""
    names = [p.name for p in found]
    faults += [
        f"two problems are called {n!r}; give tables other file names, or compare them in two folders"
        for n in sorted({n for n in names if names.count(n) > 1})
    ]
    if not problems:
        faults.append(f"no problem given; there are {', '.join(f'{name}:PATH' for name in list_readers())}")
    if not strategies:
        faults.append(f"no strategy given; there are {', '.join(list_strategies())}")
    if budget >= 1:
        for problem in found:
            for contender in contenders:
                refused: list[str] = []
                with _noted(refused):
                    contender.build(problem, 0, budget)
                faults += [f"on {problem.name}: {fault}" for fault in refused]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
