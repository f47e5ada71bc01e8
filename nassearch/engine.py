"""`nassearch run`: check, train, search, look at the front again, report, export."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nassearch.config import RunConfig, make_config
from nassearch.console import Console, make_console
from nassearch.devices import KnownDevices
from nassearch.errors import ConfigError, RunFolderError
from nassearch.executors import Executor
from nassearch.finish import export_chosen, print_front, review_front, save_explanation, save_predictors, write_front
from nassearch.folders import check_folder_is_free, locked
from nassearch.goal import Goal
from nassearch.manifest import command_line, make_manifest, replace_folder, write_atomically, write_json
from nassearch.metrics import is_measured
from nassearch.places import check_place, cost_bounds, quality_bounds, run_executor
from nassearch.pretrained import local_folder
from nassearch.problem import Problem, make_problem
from nassearch.profile import Bounds, analytic_bounds, bounds_table, check_satisfiable, unsatisfiable
from nassearch.progress import SearchProgress
from nassearch.runs import CONFIG_FILE, MANIFEST_FILE, STORE_FILE, SUPERNET_FOLDER, Run
from nassearch.search import Search, SearchSettings
from nassearch.store import Store
from nassearch.strategies import Strategy, make_strategy
from nassearch.training import train_supernet
from nassearch.warm_start import WarmStart, gather
from supernets import Supernet, load, save

_PROFILE_SAMPLE = 3  # sampled networks besides the two ends: each costs a full evaluation


def run(
    config: RunConfig | Mapping[str, Any] | str | Path,
    *,
    overwrite: bool = False,
    console: Console | None = None,
    command: str | None = None,
) -> Run:
    """Search a space for the Pareto front of its networks, from configuration to report.

    Args:
        config: A configuration, its fields as a mapping, or the path of a YAML file.
        overwrite: Delete an existing run folder first.
        console: Where progress and tables are printed. Default: standard output.
        command: What to note as the command. Default: that of this process.

    Returns:
        The finished run.

    Raises:
        ConfigError: Bad input; nothing was written.
        EvaluationError: Too many evaluations failed in a row; what finished is saved.

    Example:
        >>> import nassearch
        >>> run = nassearch.run(  # doctest: +SKIP
        ...     {"space": "mobilenetv3-tiny", "task": "digits", "objectives": ["top1:max", "macs_m:min"]}
        ... )
    """
    console = console or make_console()
    if not isinstance(config, RunConfig):
        config = make_config(file=Path(config)) if isinstance(config, str | Path) else make_config(config)
    folder = config.folder
    check_folder_is_free(folder, overwrite)
    problem = make_problem(config)
    for note in problem.source.notes:
        console.print(f"[yellow]{note}[/]")
    warm = gather(problem)
    net = problem.build_supernet()
    problem.check_training(net)
    problem.check_latency(net)
    problem.check_behaviours(net)
    check_place(problem)
    devices = KnownDevices(warm.devices if warm else None)
    bounds = _first_bounds(problem, net, devices, console)
    check_satisfiable(problem.constraints, bounds)

    _make_folder(folder, problem, bounds, devices, command or command_line(), overwrite, warm)
    with locked(folder):
        return _Session(problem, net, folder, console, bounds).run()


def resume(
    folder: str | Path,
    *,
    num_evals: int | None = None,
    executor: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    console: Console | None = None,
) -> Run:
    """Go on with a run where it stopped; nothing that finished is done again.

    Args:
        folder: The run folder.
        num_evals: A new budget. Default: the run's.
        executor: Changes of where evaluations run (`ExecutorConfig` fields); the search stays the same.
        retry_failed: Evaluate first, once more, what failed; the strategy is told what comes of it.
        console: Where progress and tables are printed.

    Raises:
        RunFolderError: The folder is no run, is in use, or its space or data are not what they were.
    """
    console = console or make_console()
    folder = Path(folder)
    stopped = Run(folder)
    with locked(folder):
        # What was taken over from other runs is in the store.
        config = stopped.config.model_copy(update={"out": folder, "warm_start": [], "reuse": []})
        with stopped.open_store() as store:
            trained = store.meta("trained") is not None
        if trained:  # where the first weights came from does not matter any more, and may be gone
            train = config.train.model_copy(update={"method": config.train_method})
            config = config.model_copy(update={"checkpoint": None, "supernet": None, "train": train})
        if num_evals is not None:
            if num_evals <= 0:
                raise ConfigError(f"--num-evals {num_evals} is not positive; give at least 1")
            config = config.model_copy(update={"num_evals": num_evals})
        if executor:
            if executor.get("asynchronous", config.executor.asynchronous) != config.executor.asynchronous:
                raise ConfigError("--async cannot be changed by --resume: the log of a run has one order; leave it out")
            merged = config.executor.model_dump() | dict(executor)
            config = make_config(config.model_dump(mode="json") | {"executor": merged})
        problem = make_problem(config, base=stopped.started_in, space=stopped.space if trained else None)
        fingerprint = stopped.manifest.get("data_fingerprint")
        if fingerprint != problem.task.fingerprint:
            raise RunFolderError(
                f"the data of task {config.task!r} have fingerprint {problem.task.fingerprint}, those of the run in "
                f"{folder} had {fingerprint}; restore the data or start a new run"
            )
        Store(folder / STORE_FILE, problem.space, read_only=True).close()
        if not trained:
            check_place(problem)
        bounds = {m: Bounds(**b) for m, b in stopped.bounds.items()}  # type: ignore[arg-type]
        net = load(folder / SUPERNET_FOLDER) if trained else problem.build_supernet()
        if config.num_evals != stopped.config.num_evals:  # or the next resume would fall back to the old budget
            longer = stopped.config.model_copy(update={"num_evals": config.num_evals})
            write_atomically(folder / CONFIG_FILE, longer.to_yaml())
        return _Session(problem, net, folder, console, bounds, retry_failed).run()


class _Session:
    """One process's work on a run folder, from whatever state it is in."""

    def __init__(
        self,
        problem: Problem,
        net: Supernet,
        folder: Path,
        console: Console,
        bounds: dict[str, Bounds],
        retry_failed: bool = False,
    ) -> None:
        self.problem, self.net, self.folder, self.console, self.bounds = problem, net, folder, console, bounds
        self.retry_failed = retry_failed

    def run(self) -> Run:
        config = self.problem.config
        with Store(self.folder / STORE_FILE, self.problem.space) as store:
            self._train(store)
            goal = self._goal(store)
            with run_executor(self.problem, self.net, KnownDevices.of_store(store)) as executor:
                strategy = self._search(executor, store, goal)
                review_front(executor, store, Run(self.folder), self.console)
            store.set_meta("diagnostics", strategy.diagnostics())
        finished = Run(self.folder)
        write_front(finished)
        print_front(finished, self.console)
        save_predictors(finished, self.net, self.console)
        save_explanation(finished, self.net, self.problem.task)
        from nassearch.reports import write_report

        write_report(finished)
        if config.export.format != "none" and finished.front:
            export_chosen(finished, config.export.subnet, config.export.format, self.console)
        self.console.print(f"Report: {self.folder / 'report.html'}")
        return finished

    # -- training ------------------------------------------------------------------------------------

    def _train(self, store: Store) -> None:
        saved = self.folder / SUPERNET_FOLDER
        if store.meta("trained"):
            self.net = load(saved)
            return
        started = time.perf_counter()
        if self.problem.training is not None:
            self.net = train_supernet(self.problem, self.net, self.folder / "training", self.console)
        save(self.net, saved)
        store.set_meta(
            "trained",
            {
                "method": self.problem.config.train_method,
                "importance_order": self.problem.orders_units,
                "wall_s": time.perf_counter() - started,
            },
        )
        shutil.rmtree(self.folder / "training", ignore_errors=True)
        self.net = load(saved)

    # -- search --------------------------------------------------------------------------------------

    def _goal(self, store: Store) -> Goal:
        """Resolve the constraints; those on quality only now, with the weights the search will use."""
        wanted = {c.metric for c in self.problem.constraints} - set(self.bounds)
        if wanted:
            found, _ = quality_bounds(self.problem, self.net, sorted(wanted), n_sampled=_PROFILE_SAMPLE)
            self.bounds |= found
            store.set_meta("bounds", {m: b.to_json() for m, b in self.bounds.items()})
            self.console.print(bounds_table(found, "Bounds of constrained metrics"))
            # A few networks prove nothing of quality, and the training is done: the search may find better ones.
            for constraint in self.problem.constraints:
                if unsatisfiable([constraint], found):
                    self.console.print(
                        f"[yellow]No network of this table meets {constraint}: the front may stay empty.[/]"
                    )
        return Run(self.folder).goal

    def _search(self, executor: Executor, store: Store, goal: Goal) -> Strategy:
        config = self.problem.config
        strategy = make_strategy(
            config.strategy,
            self.problem.space,
            objectives=goal.objectives,
            constraints=goal.constraints,
            seed=config.seed,
            analytic=self.net.analytic,
            budget=store.meta("planned_budget"),
            **config.strategy_options,
        )
        warm = WarmStart.of_store(store)
        if warm is not None:
            strategy.warm_start(warm.genotypes, warm.known, warm.prior)
            self.console.print(warm.summary)
        settings = SearchSettings(
            config.num_evals,
            config.batch_size,
            config.seed,
            config.strategy,
            config.executor.asynchronous,
            config.executor.max_consecutive_failures,
            self.retry_failed,
        )
        if config.executor.num_workers > config.batch_size and not config.executor.asynchronous:
            self.console.print(
                f"[yellow]{config.executor.num_workers} workers, but batches of {config.batch_size}: some will idle. "
                "The batch size is part of the search; raise --batch-size or use --async.[/]"
            )
        with SearchProgress(self.console, goal, config.num_evals) as progress:
            reused = warm.reused if warm is not None else {}
            Search(strategy, executor, store, goal, settings, progress, reused).run()
        return strategy


def _first_bounds(problem: Problem, net: Supernet, devices: KnownDevices, console: Console) -> dict[str, Bounds]:
    """Return the bounds that do not need trained weights: analytic metrics, and measured ones in constraints."""
    bounds = analytic_bounds(problem.space, net, problem.config.seed)
    measured = [c.metric for c in problem.constraints if is_measured(c.metric)]
    if measured:
        bounds |= cost_bounds(problem, net, measured, n_sampled=_PROFILE_SAMPLE, devices=devices)[0]
    constrained = {c.metric: bounds[c.metric] for c in problem.constraints if c.metric in bounds}
    if constrained:
        console.print(bounds_table(constrained, "Bounds of constrained metrics"))
    return bounds


def absolute_paths(config: RunConfig) -> dict[str, Any]:
    """Return the paths of a configuration made absolute, so that the run can be gone on with from anywhere."""
    paths: dict[str, Any] = {
        n: path.resolve() for n in ("checkpoint", "supernet", "offload") if (path := getattr(config, n))
    }
    if config.model is not None and (model := local_folder(config.model)) is not None:
        timm = "timm:" if config.model.startswith("timm:") else ""
        paths["model"] = f"{timm}{model.resolve()}"
    teacher = config.train.options.get("teacher")
    if isinstance(teacher, str) and teacher:
        options = {**config.train.options, "teacher": str(Path(teacher).resolve())}
        paths["train"] = config.train.model_copy(update={"options": options})
    paths["warm_start"] = [path.resolve() for path in config.warm_start]
    return paths


def _make_folder(
    folder: Path,
    problem: Problem,
    bounds: dict[str, Bounds],
    devices: KnownDevices,
    command: str,
    overwrite: bool,
    warm: WarmStart | None,
) -> None:
    """Make a run folder with configuration, manifest and an empty store: whole, or not at all."""
    target = folder.resolve()
    new = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be made: {error}; choose another folder") from error
    config = problem.config
    with Store(new / STORE_FILE, problem.space, create=True) as store:
        store.set_meta("bounds", {m: b.to_json() for m, b in bounds.items()})
        devices.save(store)
        # What the strategy plans with: a resumed run may get a larger budget, its strategy must stay the same.
        store.set_meta("planned_budget", problem.config.num_evals)
        if warm is not None:
            warm.save(store)
    write_json(new / MANIFEST_FILE, make_manifest(problem, command))
    write_atomically(new / CONFIG_FILE, config.model_copy(update=absolute_paths(config)).to_yaml())
    if overwrite and target.exists():
        shutil.rmtree(target)
    replace_folder(new, target)
