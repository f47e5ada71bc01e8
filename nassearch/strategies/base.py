"""What all search strategies share: the ask/tell contract, history, and the guarantee of no repeats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.constraints import Constraint, ResolvedConstraint
from nassearch.errors import ConfigError
from nassearch.metrics import is_quality
from nassearch.objectives import Objective, parse_objectives
from nassearch.strategies.knowledge import Knowledge
from nassearch.strategies.moving import CountMover
from search_spaces import Rows, SearchSpace
from search_spaces.errors import did_you_mean
from search_spaces.rows import row_keys, unique_rows

Values = NDArray[np.float64]
Analytic = Callable[[Rows], Mapping[str, ArrayLike]]

_WARM_ROWS = 10  # networks of earlier searches that are asked first
_DRAWS = 20  # rounds of random rows before a space is enumerated instead


class Strategy(ABC):
    """Proposes networks to evaluate and learns from the results.

    The state is a function of the seed and of the sequence of `ask` (or `replay`) and `tell` calls. Randomness
    of batch ``b`` comes from ``np.random.default_rng([seed, b])`` alone, so a run that replays its logged batches
    continues exactly as if it had never stopped. A subclass implements `_propose`; everything it keeps beyond the
    history must be a function of the history, or be updated in `_learn`.

    Args:
        space: The search space.
        objectives: What to optimise, as `Objective` or text.
        constraints: Limits, as `Constraint`, text or `ResolvedConstraint`. A relative one must be resolved, unless
            its metric is analytic.
        seed: Seed, at least 0.
        analytic: Maps rows ``[n, n_genes]`` to metric name -> ``[n]`` values that are exact; such metrics are
            computed, never predicted.
        budget: Number of evaluations planned, where known; sizes the start-up.

    Raises:
        ConfigError: An argument is not allowed.
    """

    name = ""
    single_objective: ClassVar[bool] = False
    """Whether several objectives are refused, unless the option ``scalarise`` makes one of them."""
    fills: ClassVar[bool] = True
    """Whether random networks stand in for missing proposals; a baseline with none left ends the search instead."""
    learns: ClassVar[bool] = True
    """Whether results change what is asked."""
    probes: ClassVar[bool] = False
    """Whether the first networks are to learn from, beyond the limits that can be computed beforehand, too."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        objectives: Sequence[Objective | str],
        constraints: Sequence[Constraint | ResolvedConstraint | str] = (),
        seed: int = 0,
        analytic: Analytic | None = None,
        budget: int | None = None,
    ) -> None:
        self.budget = None if budget is None else check_count(self.name, "budget", budget)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ConfigError(f"seed {seed!r} is not an integer of at least 0")
        self.space = space
        self.objectives = parse_objectives(objectives)
        self.seed = int(seed)
        self._analytic = analytic
        self.analytic_metrics = frozenset(self.analytic_values(space.largest[None])) if analytic else frozenset()
        self.constraints = [self._resolved(c) for c in constraints]
        self.batch = 0
        self.signs: Values = np.array([o.sign for o in self.objectives])
        self._rows: list[Rows] = []
        self._F: list[Values] = []
        self._V: list[Values] = []
        self._told_after: list[int] = []
        self._position: dict[bytes, int] = {}
        self._asked: dict[bytes, Rows] = {}
        self.knowledge = Knowledge(np.empty((0, len(space.genes)), dtype=np.int64))
        self._first: Rows = self.knowledge.G

    def _resolved(self, constraint: Constraint | ResolvedConstraint | str) -> ResolvedConstraint:
        if isinstance(constraint, ResolvedConstraint):
            return constraint
        parsed = constraint if isinstance(constraint, Constraint) else Constraint.parse(constraint)
        if parsed.metric not in self.analytic_metrics:
            return parsed.resolve()
        ends = self.analytic_values(np.stack([self.space.largest, self.space.smallest]))[parsed.metric]
        return parsed.resolve({"largest": float(ends[0]), "smallest": float(ends[1])})

    # -- the contract --------------------------------------------------------------------------------

    def warm_start(
        self,
        G: Rows,
        known: Mapping[str, ArrayLike] | None = None,
        prior: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Take what other searches know of networks; call it once, before the first `ask` or `replay`.

        The networks are not told: they are asked as any others are, the best of them first. A strategy that predicts
        may learn from both kinds of values.

        Args:
            G: int ``[n, n_genes]``.
            known: Metric -> float ``[n]`` in its own unit, as an evaluation of this search would give it; NaN where
                unknown. Metrics may be known of different rows.
            prior: Metric -> float ``[n]`` of the same metric under other conditions, e.g. on another device.

        Raises:
            ValueError: Something was asked or told already, or the shapes do not fit.
        """
        if self.batch or self._rows:
            raise ValueError("a strategy is warm-started before anything is asked or told")
        self.knowledge = Knowledge.of(self.space, G, known, prior)
        n = _WARM_ROWS if self.budget is None else min(_WARM_ROWS, self.budget // 4)
        exact = self.analytic_values(self.knowledge.G) if len(self.knowledge) else {}
        self._first = self.knowledge.best(n, self.objectives, self.constraints, exact)

    def ask(self, n: int) -> Rows:
        """Return at most ``n`` canonical feasible rows that were never asked, replayed or told before.

        Args:
            n: Number of rows wanted, at least 1.

        Returns:
            int64 ``[k, n_genes]``; fewer than ``n`` only when the space has no more (where `fills` is false: the
            strategy has no more, or waits for results), none when it is exhausted.

        Raises:
            ValueError: ``n`` is below 1.
        """
        if n < 1:
            raise ValueError(f"ask at least for one row; got {n}")
        rng = np.random.default_rng([self.seed, self.batch])
        first = self.unseen(self._first)[:n]
        proposed = self._propose(n - len(first), rng) if len(first) < n else first[:0]
        rows = self.unseen(np.concatenate([first, proposed]))[:n]
        if len(rows) < n and self.fills:
            rows = np.concatenate([rows, self.random_rows(n - len(rows), rng, exclude=rows)])
        self.replay(rows)
        return rows

    def replay(self, G: Rows) -> None:
        """Take a logged batch as asked; call it on resume where `ask` was called then.

        Args:
            G: int ``[n, n_genes]``, the rows that `ask` returned.
        """
        rows = self.space.canonical(G)
        for key, row in zip(row_keys(rows), rows, strict=True):
            if key not in self._position:
                self._asked[key] = row
        self.batch += 1

    def tell(self, G: Rows, values: ArrayLike, violations: ArrayLike | None = None) -> None:
        """Take results. Rows that were never asked are welcome (a warm start); a row told again is replaced.

        Args:
            G: int ``[n, n_genes]``.
            values: float ``[n, m]`` in the objectives' own units; a row with a NaN is a failed evaluation.
            violations: float ``[n, c]`` >= 0, one column a constraint. May be None where there are no constraints,
                or where every constrained metric is analytic or an objective.

        Raises:
            ValueError: The shapes do not fit, or violations are needed and not given.
        """
        rows = self.space.canonical(G)
        F = np.asarray(values, dtype=np.float64)
        if F.shape != (len(rows), len(self.objectives)):
            raise ValueError(
                f"expected values [{len(rows)}, {len(self.objectives)}], one column an objective; got {list(F.shape)}"
            )
        V = self._violations_told(rows, F, violations)
        F = np.where((np.isnan(F) | np.isinf(F)).any(axis=1, keepdims=True), np.nan, F * self.signs)
        for i, key in enumerate(row_keys(rows)):
            self._asked.pop(key, None)
            at = self._position.setdefault(key, len(self._rows))
            if at < len(self._rows):
                self._F[at], self._V[at] = F[i], V[i]
            else:
                self._rows.append(rows[i])
                self._F.append(F[i])
                self._V.append(V[i])
                self._told_after.append(self.batch)
        self._learn(rows)

    def _violations_told(self, rows: Rows, F: Values, violations: ArrayLike | None) -> Values:
        shape = (len(rows), len(self.constraints))
        if violations is not None:
            V = np.asarray(violations, dtype=np.float64)
            if V.shape != shape:
                raise ValueError(f"expected violations {list(shape)}, one column a constraint; got {list(V.shape)}")
            return V
        V = np.zeros(shape)
        computed = self.analytic_values(rows) if self.constraints and len(rows) else {}
        columns = {o.metric: F[:, j] for j, o in enumerate(self.objectives)}
        for j, constraint in enumerate(self.constraints):
            known = computed.get(constraint.metric, columns.get(constraint.metric))
            if known is None and len(rows):
                raise ValueError(f"violations are needed: {constraint.metric!r} is neither analytic nor an objective")
            if known is not None:
                V[:, j] = constraint.violation(known)
        return V

    # -- for subclasses ------------------------------------------------------------------------------

    @abstractmethod
    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        """Return rows to evaluate next, best first; repeats and asked rows are dropped, missing ones filled in.

        Args:
            n: Number of rows wanted.
            rng: The only source of randomness.
        """

    def _learn(self, G: Rows) -> None:  # noqa: B027 (an optional hook)
        """Note that these rows were told; the history holds them already."""

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data."""
        told = len(self._rows)
        return {"strategy": self.name, "batches": self.batch, "told": told, "failed": told - int(self.valid.sum())}

    def predictions(self, G: Rows) -> dict[str, Values] | None:
        """Return what was predicted for rows when they were asked; never to be reported as measured.

        Args:
            G: int ``[n, n_genes]``.

        Returns:
            Metric -> float64 ``[n]`` in its own unit, NaN where a row was not chosen by prediction; None where the
            strategy does not predict.
        """
        return None

    # -- history -------------------------------------------------------------------------------------

    @property
    def told(self) -> Rows:
        """All rows told, in order, int64 ``[N, n_genes]``."""
        return np.array(self._rows, dtype=np.int64).reshape(-1, len(self.space.genes))

    @property
    def told_after(self) -> NDArray[np.int64]:
        """Number of batches that had been asked when each row was told, int64 ``[N]``."""
        return np.array(self._told_after, dtype=np.int64)

    @property
    def F(self) -> Values:  # noqa: N802 (the field's name for objective values)
        """Values told with the signs that make smaller better, float64 ``[N, m]``; NaN rows failed."""
        return np.array(self._F, dtype=np.float64).reshape(-1, len(self.objectives))

    @property
    def V(self) -> Values:  # noqa: N802
        """Violations told, float64 ``[N, c]``."""
        return np.array(self._V, dtype=np.float64).reshape(len(self._rows), len(self.constraints))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which told rows are not failures, bool ``[N]``."""
        return np.asarray(~(np.isnan(self.F).any(axis=1) | np.isnan(self.V).any(axis=1)))

    @property
    def pending(self) -> Rows:
        """Rows asked and not told yet, int64 ``[p, n_genes]``."""
        return np.array(list(self._asked.values()), dtype=np.int64).reshape(-1, len(self.space.genes))

    # -- helpers -------------------------------------------------------------------------------------

    def analytic_values(self, G: Rows) -> dict[str, Values]:
        """Return the exact metrics of rows, metric -> float64 ``[n]``; empty without an analytic function."""
        if self._analytic is None:
            return {}
        return {k: np.asarray(v, dtype=np.float64) for k, v in self._analytic(G).items()}

    def analytic_violations(self, G: Rows) -> Values:
        """Return the violations that can be computed before evaluation, float64 ``[n, c]``; others are 0."""
        V = np.zeros((len(G), len(self.constraints)))
        if any(c.metric in self.analytic_metrics for c in self.constraints) and len(G):
            computed = self.analytic_values(G)
            for j, c in enumerate(self.constraints):
                if c.metric in computed:
                    V[:, j] = c.violation(computed[c.metric])
        return V

    def within_limits(self, G: Rows, rng: np.random.Generator) -> Rows:
        """Return rows, those beyond the limits known beforehand repaired in spaces with counts a layer: `CountMover`.

        With a quality as the only objective, which gains nothing by a network smaller than its limit, those within grow
        up to it. In other spaces, and without such limits, they are returned as they are.

        Args:
            G: int64 ``[n, n_genes]``, canonical and feasible.
            rng: Source of randomness.
        """
        if not any(c.metric in self.analytic_metrics for c in self.constraints) or not CountMover.serves(self.space):
            return G
        alone = len(self.objectives) == 1 and is_quality(self.objectives[0].metric)
        return CountMover(self.space, lambda rows: self.analytic_violations(rows).sum(axis=1), fill=alone)(G, rng)

    def is_new(self, G: Rows) -> NDArray[np.bool_]:
        """Return which canonical rows were neither asked nor told, bool ``[n]``."""
        return np.array([k not in self._position and k not in self._asked for k in row_keys(G)], dtype=bool)

    def unseen(self, G: Rows) -> Rows:
        """Return the distinct canonical feasible rows of ``G`` that were neither asked nor told, in order."""
        if not len(G):
            return np.empty((0, len(self.space.genes)), dtype=np.int64)
        rows = unique_rows(self.space.canonical(G))
        return rows[self.is_new(rows) & self.space.feasible(rows)]

    def random_rows(self, n: int, rng: np.random.Generator, exclude: Rows | None = None) -> Rows:
        """Return at most ``n`` random distinct unseen rows; fewer only when the space has no more.

        Rows that violate a constraint on an analytic metric come only when no others are found.

        Args:
            n: Number of rows wanted.
            rng: Source of randomness.
            exclude: Rows that must not come either.
        """
        found = np.empty((0, len(self.space.genes)), dtype=np.int64)
        excluded = set(row_keys(exclude)) if exclude is not None else set()
        for _ in range(_DRAWS):
            drawn = self.within_limits(self.space.sample(2 * n + 16, rng), rng)
            merged = unique_rows(np.concatenate([found, self._without(drawn, excluded)]))
            found, satisfied = self._satisfying_first(merged)
            if satisfied >= n:
                return found[:n]
        if len(found) < n and (everything := self.space.enumerate()) is not None:
            rows = self._without(everything, excluded)
            found, _ = self._satisfying_first(rows[rng.permutation(len(rows))])
        return found[:n]

    def _without(self, G: Rows, excluded: set[bytes]) -> Rows:
        rows = self.unseen(G)
        return rows[[k not in excluded for k in row_keys(rows)]] if excluded and len(rows) else rows

    def _satisfying_first(self, G: Rows) -> tuple[Rows, int]:
        """Return rows ordered by the violations known beforehand, and how many have none."""
        violation = self.analytic_violations(G).sum(axis=1)
        return G[np.argsort(violation, kind="stable")], int((violation == 0).sum())


def check_count(strategy: str, option: str, value: object, least: int = 1) -> int:
    """Return an option that must be an integer of at least ``least``; a `ConfigError` says so."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(
            f"strategy {strategy!r}: option {option!r} must be an integer of at least {least}; got {value!r}"
        )
    return int(value)


def check_share(strategy: str, option: str, value: object) -> float:
    """Return an option that must be a number between 0 and 1; a `ConfigError` says so."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"strategy {strategy!r}: option {option!r} must be between 0 and 1; got {value!r}")
    return float(value)


def check_positive(strategy: str, option: str, value: object) -> float:
    """Return an option that must be a number above 0; a `ConfigError` says so."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise ConfigError(f"strategy {strategy!r}: option {option!r} must be a number above 0; got {value!r}")
    return float(value)


def check_choice(strategy: str, option: str, value: object, allowed: Sequence[str]) -> str:
    """Return an option that must be one of several words; a `ConfigError` says so."""
    if not isinstance(value, str) or value not in allowed:
        near = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise ConfigError(
            f"strategy {strategy!r}: option {option!r} must be one of {', '.join(allowed)}; got {value!r}{near}"
        )
    return value


def check_flag(strategy: str, option: str, value: object) -> bool:
    """Return an option that must be true or false; a `ConfigError` says so."""
    if not isinstance(value, bool | np.bool_):
        raise ConfigError(f"strategy {strategy!r}: option {option!r} must be true or false; got {value!r}")
    return bool(value)
