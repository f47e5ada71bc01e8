"""A search problem whose answers are in a table, with the scale on which strategies are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nassearch.bench.tables import KnownFront, Table
from nassearch.constraints import Constraint, ResolvedConstraint, parse_constraints
from nassearch.errors import ConfigError
from nassearch.objectives import Objective, parse_objectives, to_min
from nassearch.pareto import constrained_front, hypervolume_min
from nassearch.strategies import Analytic
from search_spaces import Rows, SearchSpace
from search_spaces.errors import did_you_mean

Values = NDArray[np.float64]

_SAMPLED = 20_000  # networks that set the scale where neither all networks nor a front are known


class TabularProblem:
    """Objectives and constraints on the metrics of a table.

    The score of a set of evaluated networks is the hypervolume of those that meet the constraints and that no other
    of them dominates, after scaling each objective's ideal to 0 and its nadir to 1, with reference (1, …, 1), divided
    by the same hypervolume of the best front known: 1 is the best there is. With one objective that is one minus the
    regret in units of the objective's range. Ideal and nadir are the best and worst values of the whole table; where
    networks cannot be enumerated they come with the best front known, and where none is known they are those of
    20,000 sampled networks and both ends of the space, the hypervolume is divided by nothing, and `front_known` is
    False.

    Args:
        table: Where the figures come from.
        objectives: What is optimised. Default: the table's.
        constraints: Limits. Default: the table's.
        report: Objective's metric -> metric by which the networks found are judged, for example a validation metric
            -> the test metric. The front is chosen by the objectives, scored by the reported metrics. Default: the
            table's.

    Raises:
        ConfigError: A metric that the table does not have, or more than four objectives.
    """

    def __init__(
        self,
        table: Table,
        objectives: Sequence[Objective | str] | None = None,
        constraints: Sequence[Constraint | str] | None = None,
        report: Mapping[str, str] | None = None,
    ) -> None:
        self.table = table
        self.name = table.name
        self.space: SearchSpace = table.space
        self.objectives = parse_objectives(table.objectives if objectives is None else objectives)
        limits = parse_constraints(table.constraints if constraints is None else constraints)
        metrics = [o.metric for o in self.objectives]
        given = table.report if report is None else report
        if report is not None and (stray := [m for m in report if m not in metrics]):
            raise ConfigError(f"problem {self.name!r}: {stray} to be reported otherwise are no objectives ({metrics})")
        self.report = {m: r for m, r in given.items() if m in metrics}
        self._check_metrics([*metrics, *(c.metric for c in limits), *self.report.values()])
        if len(self.objectives) > 4:
            raise ConfigError(f"problem {self.name!r}: at most 4 objectives are allowed; got {len(self.objectives)}")
        self.reported = [Objective(self.report.get(o.metric, o.metric), o.direction) for o in self.objectives]
        used = [*metrics, *(o.metric for o in self.reported), *(c.metric for c in limits)]
        self._needed = list(dict.fromkeys(used))
        self.constraints = self._resolved(limits)
        self._set_scale()

    def __repr__(self) -> str:
        limits = f", {len(self.constraints)} constraints" if self.constraints else ""
        return f"TabularProblem({self.name!r}, {', '.join(map(str, self.objectives))}{limits})"

    def _check_metrics(self, metrics: Sequence[str]) -> None:
        faults = [
            f"problem {self.name!r} has no metric {m!r}{did_you_mean(m, self.table.metrics)}; its metrics: "
            f"{', '.join(self.table.metrics)}"
            for m in dict.fromkeys(metrics)
            if m not in self.table.metrics
        ]
        if faults:
            raise ConfigError(faults)

    def _resolved(self, limits: Sequence[Constraint]) -> list[ResolvedConstraint]:
        if not limits:
            return []
        ends = self.evaluate(np.stack([self.space.largest, self.space.smallest]))
        return [
            c.resolve({"largest": float(ends[c.metric][0]), "smallest": float(ends[c.metric][1])} if c.relative else {})
            for c in limits
        ]

    # -- figures -------------------------------------------------------------------------------------

    def evaluate(self, G: Rows, metrics: Collection[str] | None = None) -> dict[str, Values]:
        """Return metrics of rows.

        Args:
            G: int ``[n, n_genes]``.
            metrics: Which ones. Default: all that the problem needs.

        Returns:
            Metric -> float64 ``[n]``; NaN where the evaluation fails.
        """
        return self.table.evaluate(self.space.canonical(G), self._needed if metrics is None else metrics)

    def networks(self, G: Rows) -> Sequence[Hashable]:
        """Return what identifies the network of each row: rows with equal ones are one evaluation."""
        return self.table.networks(self.space.canonical(G))

    def values(self, figures: Mapping[str, Values]) -> Values:
        """Return the objectives among the metrics, float64 ``[n, m]``."""
        return np.stack([figures[o.metric] for o in self.objectives], axis=1)

    def reported_values(self, figures: Mapping[str, Values]) -> Values:
        """Return the metrics that judge, float64 ``[n, m]``, in the order of the objectives."""
        return np.stack([figures[o.metric] for o in self.reported], axis=1)

    def violations(self, figures: Mapping[str, Values]) -> Values:
        """Return the violations of the constraints, float64 ``[n, c]``."""
        n = len(next(iter(figures.values())))
        columns = [c.violation(figures[c.metric]) for c in self.constraints]
        return np.stack(columns, axis=1) if columns else np.zeros((n, 0))

    @property
    def analytic(self) -> Analytic | None:
        """What strategies may compute themselves, or None where no objective and no constraint is computable."""
        used = {o.metric for o in self.objectives} | {c.metric for c in self.constraints}
        known = sorted(used & self.table.analytic)
        if not known:
            return None

        def compute(G: Rows) -> dict[str, Values]:
            return self.evaluate(G, known)

        return compute

    # -- scale ---------------------------------------------------------------------------------------

    def _set_scale(self) -> None:
        rows, known = self.table.all_rows(), None
        if rows is None:
            known = self._known_front()
        self.front_known = rows is not None or known is not None
        if known is None:
            figures = self.evaluate(self._sampled() if rows is None else rows)
            known = self._extremes(figures)
        self.ideal, self.nadir = known.ideal, known.nadir
        low, high = to_min(np.stack([known.ideal, known.nadir]), self.reported)
        # A metric that is the same for all networks decides nothing; it must not divide by zero either.
        self._low, self._span = low, np.where(high > low, high - low, 1.0)
        volume = self._volume(known.values)
        if self.front_known and volume <= 0:
            limits = f" that meets {', '.join(map(str, self.constraints))}" if self.constraints else ""
            raise ConfigError(f"problem {self.name!r}: the table has no network{limits} that is better than the worst")
        self.best_hypervolume = volume if self.front_known else 1.0
        self.optimum = self._best_of(known.values) if self.front_known and len(self.reported) == 1 else None

    def _sampled(self) -> Rows:
        ends = np.stack([self.space.largest, self.space.smallest])
        return np.concatenate([ends, self.space.sample(_SAMPLED, np.random.default_rng(0))])

    def _extremes(self, figures: Mapping[str, Values]) -> KnownFront:
        """Return the best and worst of each reported metric, and the values of the best networks."""
        every = self.reported_values(figures)
        every = every[~np.isnan(every).any(axis=1)]
        if not len(every):
            raise ConfigError(f"problem {self.name!r}: every network of the table fails in one of the metrics")
        signs = np.array([o.sign for o in self.reported])
        F = every * signs
        chosen = constrained_front(self.reported_values(figures), self.reported, self.violations(figures))
        return KnownFront(self.reported_values(figures)[chosen], F.min(axis=0) * signs, F.max(axis=0) * signs)

    def _known_front(self) -> KnownFront | None:
        """Return the front known for the objectives, cut to the constraints where it can be."""
        metrics = {o.metric for o in self.reported}
        limits = [c for c in self.constraints if c.metric not in metrics]
        extra = [Objective(c.metric, "min" if c.op[0] == "<" else "max") for c in limits]
        known = self.table.known_front([*self.reported, *extra])
        if known is None:
            return None
        figures = {o.metric: known.values[:, j] for j, o in enumerate([*self.reported, *extra])}
        met = (self.violations(figures) == 0).all(axis=1)
        m = len(self.reported)
        return KnownFront(known.values[met, :m], known.ideal[:m], known.nadir[:m])

    def _volume(self, reported: Values) -> float:
        scaled = (to_min(reported, self.reported) - self._low) / self._span
        return hypervolume_min(scaled, np.ones(len(self._low)))

    def _best_of(self, reported: Values) -> float:
        (objective,) = self.reported
        column = reported[:, 0]
        return float(column.min() if objective.direction == "min" else column.max())

    def score(self, values: Values, violations: Values, reported: Values) -> float:
        """Return the score of evaluated networks; 0 while none meets the constraints.

        Args:
            values: float ``[n, m]`` of the objectives.
            violations: float ``[n, c]``.
            reported: float ``[n, m]`` of the metrics that judge.
        """
        chosen = constrained_front(values, self.objectives, violations)
        return self._volume(reported[chosen]) / self.best_hypervolume

    def best(self, values: Values, violations: Values, reported: Values) -> float:
        """Return the reported value of the best network by the one objective; NaN where none meets the constraints."""
        chosen = constrained_front(values, self.objectives, violations)
        return self._best_of(reported[chosen]) if chosen.any() else float("nan")

    def front_size(self, values: Values, violations: Values) -> int:
        """Return how many evaluated networks meet the constraints and are dominated by no other."""
        return int(constrained_front(values, self.objectives, violations).sum())

    # -- identity ------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        """Return everything that decides the results on this problem, as JSON data."""
        return {
            "space": self.space.name,
            "space_identity": self.space.identity,
            "table": self.table.fingerprint,
            "objectives": [str(o) for o in self.objectives],
            "reported": [o.metric for o in self.reported],
            "constraints": [str(c) for c in self.constraints],
            "ideal": [float(v) for v in self.ideal],
            "nadir": [float(v) for v in self.nadir],
            "best_hypervolume": self.best_hypervolume,
            "front_known": self.front_known,
            "optimum": self.optimum,
        }

    @property
    def fingerprint(self) -> str:
        """Hash of `describe`."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:16]
