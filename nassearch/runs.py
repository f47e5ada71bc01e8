"""Reading a run folder: evaluations, the measured front, selection of a subnet."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nassearch.config import RunConfig, make_config
from nassearch.errors import ConfigError, RunFolderError
from nassearch.goal import Goal
from nassearch.store import REUSED, Outcome, Proposal, Store, stored_space
from search_spaces import SearchSpace, Value
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from nassearch.tasks import Task
    from supernets import Supernet

STORE_FILE = "evaluations.sqlite"
CONFIG_FILE = "config.yaml"
MANIFEST_FILE = "manifest.json"
SUPERNET_FOLDER = "supernet"
EXPLANATION_FILE = "explained.json"


@dataclass(frozen=True)
class Record:
    """One evaluated architecture, as readers see it.

    Attributes:
        id: Counts up from 1 in the order of asking.
        batch: The batch in which it was asked for, from 0.
        arch: Gene name -> value.
        row: Choice indices.
        status: ``"ok"`` or ``"failed"``.
        values: Metric -> value on the search split, computed, or measured during the search.
        std: Metric -> spread of the measurement.
        predicted: Metric -> what the strategy predicted before the evaluation.
        feasible: Whether every constraint holds.
        on_front: Whether no feasible evaluated architecture dominates it.
        remeasured: Metric -> value of the second measurement, for front members.
        report: Metric -> value on the report split, for front members.
        error: Why it failed.
        device: Setting and device of each measured metric.
        wall_s: Duration of the evaluation in seconds.
        measured: Metric -> how the value came about (see `Outcome`).
    """

    id: int
    batch: int
    arch: dict[str, Value]
    row: tuple[int, ...]
    status: str
    values: Mapping[str, float]
    std: Mapping[str, float]
    predicted: Mapping[str, float]
    feasible: bool
    on_front: bool = False
    remeasured: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    device: Mapping[str, Any] = field(default_factory=dict)
    wall_s: float = 0.0
    measured: Mapping[str, str] = field(default_factory=dict)

    @property
    def reused(self) -> dict[str, str]:
        """Metric -> folder of the earlier run whose value was taken over instead of evaluating it anew."""
        return {m: how.removeprefix(REUSED) for m, how in self.measured.items() if how.startswith(REUSED)}


class Run:
    """A run folder, finished or not; reading never changes it.

    Args:
        folder: The folder that ``nassearch run --out`` wrote.

    Raises:
        RunFolderError: It is no run folder, or its store is damaged.

    Example:
        >>> run = Run("results/demo")  # doctest: +SKIP
        >>> [r.id for r in run.front]  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise RunFolderError(f"{self.folder} is not a folder; give the folder that `nassearch run --out` wrote")
        if not (self.folder / CONFIG_FILE).is_file():
            raise RunFolderError(f"{self.folder} has no {CONFIG_FILE}, so it is no run folder of nassearch")

    @cached_property
    def config(self) -> RunConfig:
        """The configuration the run was started with."""
        return make_config(file=self.folder / CONFIG_FILE)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, hardware, seeds, space identity, data fingerprint and command."""
        path = self.folder / MANIFEST_FILE
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} is missing or damaged ({error})") from error
        return data

    @property
    def store_path(self) -> Path:
        """The file with every evaluation."""
        return self.folder / STORE_FILE

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, as stored with the run."""
        return stored_space(self.store_path)

    def open_store(self, *, read_only: bool = True) -> Store:
        """Open the run's store."""
        return Store(self.store_path, self.space, read_only=read_only)

    @cached_property
    def bounds(self) -> dict[str, dict[str, float]]:
        """Metric -> its value for the ``smallest`` and ``largest`` network, least and most of a sample."""
        return self._loaded[3]

    @cached_property
    def goal(self) -> Goal:
        """Objectives and resolved constraints."""
        from nassearch.constraints import Constraint
        from nassearch.objectives import Objective

        constraints = [Constraint.parse(text) for text in self.config.constraints]
        return Goal(
            tuple(Objective.parse(text) for text in self.config.objectives),
            tuple(c.resolve(self.bounds.get(c.metric, {})) for c in constraints),
        )

    @cached_property
    def _loaded(
        self,
    ) -> tuple[
        dict[int, Proposal],
        dict[int, Outcome],
        dict[int, tuple[dict[str, float], dict[str, float]]],
        dict[str, dict[str, float]],
    ]:
        store = self.open_store()
        try:
            return store.proposals(), store.outcomes(), store.finals(), store.meta("bounds") or {}
        finally:
            store.close()

    @property
    def n_proposed(self) -> int:
        """Number of architectures asked for so far."""
        return len(self._loaded[0])

    @cached_property
    def records(self) -> list[Record]:
        """All finished evaluations, in the order of asking."""
        from nassearch.pareto import constrained_front, total_violation

        proposals, outcomes, finals, _ = self._loaded
        if not outcomes:
            return []  # before the training ends, constraints relative to quality have no limits yet
        done = [outcomes[i] for i in proposals if i in outcomes]
        rows = np.array([proposals[o.id].row for o in done], dtype=np.int64).reshape(-1, len(self.space.genes))
        values, violations = self.goal.values(done), self.goal.violations(done)
        on_front = constrained_front(values, self.goal.objectives, violations)
        feasible = (np.isfinite(values).all(axis=1) & (total_violation(violations, len(done)) == 0)).tolist()
        records = []
        for k, (outcome, arch) in enumerate(zip(done, self.space.decode(rows), strict=True)):
            proposal = proposals[outcome.id]
            remeasured, report = finals.get(outcome.id, ({}, {}))
            records.append(
                Record(
                    outcome.id,
                    proposal.batch,
                    arch,
                    proposal.row,
                    outcome.status,
                    outcome.values,
                    outcome.std,
                    proposal.predicted,
                    feasible[k],
                    bool(on_front[k]) and feasible[k],
                    remeasured,
                    report,
                    outcome.error,
                    outcome.device,
                    outcome.wall_s,
                    outcome.measured,
                )
            )
        return records

    @property
    def front(self) -> list[Record]:
        """The measured Pareto front, ordered by the first objective from its best on."""
        if not self.records:
            return []
        first = self.goal.objectives[0]
        sign = -1.0 if first.direction == "max" else 1.0
        return sorted((r for r in self.records if r.on_front), key=lambda r: sign * r.values[first.metric])

    @cached_property
    def n_startup(self) -> int:
        """Number of batches before the first prediction; one where the strategy does not predict."""
        return min((r.batch for r in self.records if r.predicted), default=1)

    def objective_values(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """Return the objectives of records in their own units, float64 ``[n, m]``."""
        metrics = [o.metric for o in self.goal.objectives]
        return np.array([[r.values.get(m, np.nan) for m in metrics] for r in records]).reshape(-1, len(metrics))

    # -- selection -----------------------------------------------------------------------------------

    def select(self, which: str) -> Record:
        """Return one evaluated architecture.

        Args:
            which: ``knee``; ``best-METRIC`` (of the front); ``fastest`` (least latency of the front, on the device
                named first); ``largest`` is not evaluated by itself, give an id; an evaluation's id; or a constraint
                such as ``"latency_ms <= 2"``: the front member best in the first objective among those that meet it.

        Raises:
            ConfigError: Nothing fits; the message says what is there.
        """
        front = self.front
        if re.fullmatch(r"\d+", which):
            found = [r for r in self.records if r.id == int(which)]
            if not found or found[0].status != "ok":
                ids = [r.id for r in front]
                raise ConfigError(f"no successful evaluation has id {which}; the front has {ids}")
            return found[0]
        if not front:
            raise ConfigError(f"{self.folder} has no feasible evaluation yet, so no subnet can be chosen")
        if which == "knee":
            from nassearch.pareto import knee

            return front[knee(self.objective_values(front), self.goal.objectives)]
        if any(op in which for op in "<>="):
            return self._best_within(which)
        if which == "fastest" or which.startswith("best-"):
            return self._best_of(which)
        options = ["knee", "fastest", *(f"best-{o.metric}" for o in self.goal.objectives)]
        raise ConfigError(
            f"unknown subnet {which!r}{did_you_mean(which, options)}; give {', '.join(options)}, an id of the front "
            f"({[r.id for r in front]}) or a constraint such as 'latency_ms <= 2'"
        )

    def _best_within(self, text: str) -> Record:
        from nassearch.constraints import Constraint
        from nassearch.metrics import canonical

        constraint = Constraint.parse(text)
        constraint = replace(constraint, metric=canonical(constraint.metric, {m for r in self.front for m in r.values}))
        limit = constraint.resolve(self.bounds.get(constraint.metric, {}))
        known = [r for r in self.front if constraint.metric in r.values]
        if not known:
            metrics = sorted({m for r in self.front for m in r.values})
            raise ConfigError(f"metric {constraint.metric!r} was not evaluated in this run; evaluated: {metrics}")
        values = np.array([r.values[constraint.metric] for r in known])
        fits = [r for r, v in zip(known, limit.violation(values), strict=True) if v <= 0]
        if not fits:
            raise ConfigError(
                f"no front member meets {text!r}; {constraint.metric} of the front goes from "
                f"{values.min():.4g} to {values.max():.4g}"
            )
        return fits[0]

    def _best_of(self, which: str) -> Record:
        from nassearch.metrics import base_name, canonical, natural_range

        front = self.front
        metrics = sorted({m for r in front for m in r.values})
        if which == "fastest":
            # Of several devices the one named first, objectives before constraints.
            named = dict.fromkeys([*self.goal.metrics, *metrics])
            latencies = [m for m in named if base_name(m) == "latency_ms" and m in metrics]
            if not latencies:
                raise ConfigError(f"no latency was measured in this run; measured: {metrics}")
            metric = latencies[0]
        else:
            metric = canonical(which.removeprefix("best-"), metrics)
        if metric not in metrics:
            raise ConfigError(
                f"metric {metric!r} was not evaluated{did_you_mean(metric, metrics)}; there are {metrics}"
            )
        known = [r for r in front if metric in r.values]
        direction = {o.metric: o.direction for o in self.goal.objectives}.get(metric)
        greatest = direction == "max" or (direction is None and natural_range(metric)[1] == 100.0)
        return (max if greatest else min)(known, key=lambda r: r.values[metric])

    # -- what the run was made of --------------------------------------------------------------------

    def task(self) -> Task:
        """Make the run's task again.

        Raises:
            RunFolderError: The data, or the order of their classes, are not those of the run.
        """
        from nassearch.config import import_plugins
        from nassearch.tasks import make_task

        import_plugins(self.config.plugins)
        task = make_task(
            self.config.task,
            seed=self.config.seed,
            base=self.started_in,
            model=self.config.model,
            trust_remote_code=self.config.trust_remote_code,
        )
        known = self.manifest.get("data_fingerprint")
        if known is not None and known != task.fingerprint:
            model = f" and the model {self.config.model}, from which tokens and the order of labels come"
            raise RunFolderError(
                f"the data of task {self.config.task!r} have fingerprint {task.fingerprint}, those of {self.folder} "
                f"had {known}; restore the data{model if self.config.model else ''}"
            )
        return task

    def tokenizer(self) -> Any:
        """Load the tokenizer with which the task reads texts; None where it has none."""
        from nassearch.config import import_plugins
        from nassearch.tasks.registry import tokenizer_of

        import_plugins(self.config.plugins)
        config = self.config
        return tokenizer_of(
            config.task, base=self.started_in, model=config.model, trust_remote_code=config.trust_remote_code
        )

    @property
    def started_in(self) -> Path | None:
        """The folder in which the run was started; its relative data paths count from there."""
        folder = self.manifest.get("working_directory")
        return Path(folder) if folder else None

    def supernet(self) -> Supernet:
        """Load the run's trained supernet."""
        from nassearch.config import import_plugins
        from supernets import load

        import_plugins(self.config.plugins)
        return load(self.folder / SUPERNET_FOLDER)
