"""LINAS: evolution on predictions, measured and re-fitted batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.constraints import STRICT_VIOLATION
from nassearch.errors import ConfigError
from nassearch.metrics import natural_range
from nassearch.pareto import non_dominated_min
from nassearch.strategies.base import Strategy, check_count, check_flag, check_positive, check_share
from nassearch.strategies.ehvi import choose_batch
from nassearch.strategies.inner import Scored, best_first, breed, evolve
from nassearch.strategies.operators import Operators
from nassearch.strategies.registry import register_strategy
from nassearch.strategies.surrogates import SurrogateSet
from predictors.threads import one_thread
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys

Values = NDArray[np.float64]

_LEAST_ROWS = 6  # with fewer valid rows there is nothing to fit
_ROWS_AT_MOST = 1000  # a Gaussian process costs the cube of them
_ENUMERATE_AT_MOST = 20_000  # networks of a space that are scored one and all
_HOPEFUL_OF = 10  # populations, best first, of which the most hopeful ones are considered
_SAMPLES_2D, _CANDIDATES_2D = 32, 300
_SAMPLES_3D, _CANDIDATES_3D = 12, 150


@register_strategy("linas")
class Linas(Strategy):
    """Evolution on predictions, warm-started from the measured front; batches by expected hypervolume improvement.

    The loop of LINAS (Sarah et al., 2022, arXiv:2205.10358): measure a batch, fit a predictor of each objective to
    everything measured, run NSGA-II on the predictions, measure what it found. Different from the paper: predictors
    see masked features and state their uncertainty, metrics that can be computed are not predicted, the inner
    evolution starts from the measured front and its mutation changes genes, the batch is the part of its last
    population that promises most hypervolume over joint samples of the predictions (Daulton et al., 2020), nothing
    is proposed twice, and while the predictors rank no better than chance the measured networks are evolved instead.

    A constraint on a metric that is neither analytic nor an objective is handled by predicting its violation.

    Args:
        space: See `Strategy`.
        predictor: ``"gp"`` (a Gaussian process made for genotypes), or a model of the ``predictors`` package.
        startup: Number of networks before the first prediction; at most a quarter of the budget, where known.
        landmarks: Whether the largest and the smallest network are among the first.
        population: Size of the inner population.
        generations: Number of inner generations.
        explore: Share of a batch that is bred from the measured front while predictions are worthless; it fades to
            none as the cross-validated Kendall tau of the worst predictor approaches 1.
        mutation: Expected number of genes mutated in a child.
        **base: Arguments of `Strategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        predictor: str = "gp",
        startup: int = 20,
        landmarks: bool = True,
        population: int = 150,
        generations: int = 50,
        explore: float = 0.4,
        mutation: float = 1.5,
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self.startup = check_count(self.name, "startup", startup, least=2)
        if self.budget is not None:
            self.startup = min(self.startup, max(_LEAST_ROWS, self.budget // 4))
        self.landmarks = check_flag(self.name, "landmarks", landmarks)
        self.population = check_count(self.name, "population", population, least=4)
        self.generations = check_count(self.name, "generations", generations)
        self.explore = check_share(self.name, "explore", explore)
        self.mutation = check_positive(self.name, "mutation", mutation)
        self.predictor = _known_predictor(predictor)
        measured = [o.metric for o in self.objectives if o.metric not in self.analytic_metrics]
        self._measured_columns = [j for j, o in enumerate(self.objectives) if o.metric in measured]
        self._violation_columns = [
            j for j, c in enumerate(self.constraints) if c.metric not in self.analytic_metrics | set(measured)
        ]
        names = measured + [f"violation of {self.constraints[j]}" for j in self._violation_columns]
        self._operators = Operators(space)
        self._models = SurrogateSet(space, names, self.predictor, self.seed)
        small = space.n_genotypes <= 10 * _ENUMERATE_AT_MOST
        self._everything = space.enumerate(_ENUMERATE_AT_MOST) if small else None
        self._known: dict[str, tuple[Rows, Values]] = {}
        self._fallback: str | None = None
        self._warned = False
        self._predicted: dict[bytes, Values] = {}

    # -- proposing -----------------------------------------------------------------------------------

    def warm_start(
        self,
        G: Rows,
        known: Mapping[str, ArrayLike] | None = None,
        prior: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Take what other searches know (see `Strategy`): the predictors learn from it, and the start-up is shorter."""
        super().warm_start(G, known, prior)
        signs = {o.metric: o.sign for o in self.objectives}
        measured = [self.objectives[j].metric for j in self._measured_columns]
        columns = {name: self.knowledge.values(name) for name in measured}
        self._known = {name: (rows, values * signs[name]) for name, (rows, values) in columns.items() if len(rows)}
        for name, j in zip(self._models.names[len(measured) :], self._violation_columns, strict=True):
            rows, values = self.knowledge.values(self.constraints[j].metric)
            if len(rows):
                self._known[name] = rows, np.asarray(self.constraints[j].violation(values))
        informed = set(self._known)
        for name in measured:
            rows, values = self.knowledge.prior_values(name)
            if name not in self._known and len(rows) >= _LEAST_ROWS:
                self._models.set_prior(name, rows, values * signs[name])
                informed.add(name)
        if self._models.names and informed >= set(self._models.names):
            self.startup = min(self.startup, max(_LEAST_ROWS, len(self._first)))

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        # One thread: the same sums on any machine, and quicker on matrices of this size.
        with one_thread():
            return self._next(n, rng)

    def _next(self, n: int, rng: np.random.Generator) -> Rows:
        if self._missing() > 0:
            # A batch is not mixed: the rest of it would be predicted from too little.
            return self._start(n, rng)
        valid = self.valid
        self._fallback = self._fit(valid)
        if self._fallback is not None:
            self._warn()
            return self._evolved(n, rng, valid)
        explored = self._explored(n, rng, valid)
        chosen = self._chosen(n - len(explored), rng, valid)
        return np.concatenate([chosen, explored])

    def _missing(self) -> int:
        """Return how many networks the start-up lacks; those told without being asked are half of it at most."""
        given = int((self.told_after == 0).sum())
        return self.startup - min(given, self.startup // 2) - (len(self._rows) - given) - len(self._asked)

    def _start(self, n: int, rng: np.random.Generator) -> Rows:
        """Return the start-up networks: the ends of the space, then half of graded sizes and half uniform."""
        ends = self.unseen(self.space.repair(np.stack([self.space.largest, self.space.smallest]), rng))
        known = ends if self.landmarks else ends[:0]
        graded = self._operators.graded((max(n - len(known), 0) + int(rng.integers(2))) // 2, rng)
        rows = self.unseen(np.concatenate([known, graded]))
        rows = rows[self.analytic_violations(rows).sum(axis=1) == 0][:n]
        return np.concatenate([rows, self.random_rows(n - len(rows), rng, exclude=rows)])

    def _fit(self, valid: NDArray[np.bool_]) -> str | None:
        """Fit the predictors to the valid rows; return why predictions cannot be used, or None."""
        if not valid.any():
            return "no evaluation has succeeded yet"
        if not self._models.names:
            return None
        rows = np.flatnonzero(valid)
        if len(rows) < _LEAST_ROWS:
            return f"{len(rows)} successful evaluations; at least {_LEAST_ROWS} are needed"
        if len(rows) > _ROWS_AT_MOST:
            rows = self._most_useful(rows)
        targets = np.concatenate([self.F[:, self._measured_columns], self.V[:, self._violation_columns]], axis=1)
        self._models.fit(self.told[rows], targets[rows], self._known)
        n = len(rows)
        # One-sided 5 % limit of Kendall's tau between unrelated rankings.
        chance = 1.645 * float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))
        for name, quality in list(self._models.quality.items())[: len(self._measured_columns)]:
            constant = np.ptp(targets[rows, self._models.names.index(name)]) == 0
            if quality["kendall_tau"] <= chance and not constant:
                tau = quality["kendall_tau"]
                return f"cross-validated Kendall tau of {name} is {tau:.2f}; chance reaches {chance:.2f} with {n} rows"
        return None

    def _most_useful(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows to fit to when there are too many: the best half, and the rest evenly over time."""
        best = rows[best_first(Scored(self.told[rows], self.F[rows], self.V[rows].sum(axis=1)), _ROWS_AT_MOST // 2)]
        others = np.setdiff1d(rows, best)
        spread = np.linspace(0, len(others) - 1, _ROWS_AT_MOST - len(best)).astype(int)
        return np.sort(np.concatenate([best, others[spread]]))

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"linas evolves measured networks until its predictors are better than chance: {self._fallback}",
                stacklevel=5,
            )

    def _evolved(self, n: int, rng: np.random.Generator, valid: NDArray[np.bool_]) -> Rows:
        """Return children of the measured networks: NSGA-II without predictions."""
        if not valid.any():
            return self.random_rows(n, rng)
        archive = self._archive(valid)
        parents = archive.G[best_first(archive, max(20, 2 * n))]
        rows = self.unseen(self.within_limits(breed(self._operators, parents, 4 * n, rng, rate=self.mutation), rng))
        return rows[np.argsort(self.analytic_violations(rows).sum(axis=1), kind="stable")][:n]

    def _archive(self, valid: NDArray[np.bool_]) -> Scored:
        return Scored(self.told[valid], self.F[valid], self.V[valid].sum(axis=1))

    def _explored(self, n: int, rng: np.random.Generator, valid: NDArray[np.bool_]) -> Rows:
        """Return the part of a batch that asks no predictor: children of the measured front.

        Its size is a draw with mean ``n`` times the fading share. Next to the front lies what predictors miss: uniform
        rows are hardly ever worth their evaluation.
        """
        taus = [q["kendall_tau"] for q in self._models.quality.values()][: len(self._measured_columns)]
        share = self.explore * (1.0 - max(0.0, min(taus, default=1.0)))
        k = int(rng.binomial(n, share))
        return self._evolved(k, rng, valid) if k else self.random_rows(0, rng)

    def _chosen(self, n: int, rng: np.random.Generator, valid: NDArray[np.bool_]) -> Rows:
        if n < 1:
            return np.empty((0, len(self.space.genes)), dtype=np.int64)
        archive = self._archive(valid)
        best = archive.G[best_first(archive, self.population)]
        fresh = np.concatenate([self.random_rows(max(self.population // 3, 1), rng), self._from_before(rng)])
        found = self._searched(np.concatenate([best, fresh]), n, rng)
        two = len(self.objectives) <= 2
        neighbours = self.unseen(self._operators.mutate(np.repeat(best[:40], 5, axis=0), rng))
        near = self.unseen(self.within_limits(np.concatenate([found.G, neighbours]), rng))
        new = found.take(np.flatnonzero(self.is_new(found.G)))
        new = new.joined(Scored(near, *self._score(near)))
        new = new.take(best_first(new, _CANDIDATES_2D if two else _CANDIDATES_3D))
        pending = self.pending[:_CANDIDATES_3D]
        candidates = np.concatenate([pending, new.G])
        samples, violations = self._sampled(candidates, _SAMPLES_2D if two else _SAMPLES_3D, rng)
        feasible = archive.F[archive.violation <= 0]
        front = feasible[non_dominated_min(feasible)]
        low, reference = _box(front, archive.F, new.F)
        picked = choose_batch(
            (samples - low) / (reference - low),
            violations < STRICT_VIOLATION,
            (front - low) / (reference - low),
            np.ones(len(low)),
            n,
            rng,
            taken=len(pending),
        )
        order = [c - len(pending) for c in picked]
        order += [i for i in range(len(new)) if i not in set(order)][: n - len(order)]
        rows = new.G[order]
        self._remember(rows, new.F[order])
        return rows

    def _from_before(self, rng: np.random.Generator) -> Rows:
        """Return networks of earlier searches that were not asked yet, as many as the population has at most."""
        rows = self.unseen(self.knowledge.G)
        return rows[np.sort(rng.choice(len(rows), min(len(rows), self.population), replace=False))]

    def _searched(self, start: Rows, n: int, rng: np.random.Generator) -> Scored:
        """Return the best rows by prediction: of all there are in a small space, else by evolution."""
        if self._everything is not None:
            rows = self.unseen(self._everything)
            scored = Scored(rows, *self._score(rows))
            scored = scored.take(best_first(scored, _HOPEFUL_OF * self.population))
            F, V = self._assembled(scored.G, self._models.optimistic(scored.G)[None])
            hopeful = best_first(Scored(scored.G, F[0], V[0]), self.population)
            return scored.take(np.union1d(np.arange(min(self.population, len(scored))), hopeful))
        return evolve(
            self._operators,
            self._score,
            start,
            rng,
            population=self.population,
            # Asked for one row at a time, as in asynchronous runs, less search has to do.
            generations=max(1, round(self.generations * min(1.0, (n + 1) / 6))),
            rate=self.mutation,
        )

    # -- predicting ----------------------------------------------------------------------------------

    def _score(self, G: Rows) -> tuple[Values, Values]:
        """Return objectives, to be made small, ``[n, m]`` and the sum of violations ``[n]``: predicted or computed."""
        F, V = self._assembled(G, self._models.mean(G)[None])
        return F[0], V[0]

    def _sampled(self, G: Rows, n: int, rng: np.random.Generator) -> tuple[Values, Values]:
        """As `_score`, for ``n`` joint samples: ``[n, len(G), m]`` and ``[n, len(G)]``."""
        return self._assembled(G, self._models.sample(G, n, rng))

    def _assembled(self, G: Rows, predicted: Values) -> tuple[Values, Values]:
        exact = self.analytic_values(G) if self.analytic_metrics and len(G) else {}
        k = len(self._measured_columns)
        F = np.zeros((len(predicted), len(G), len(self.objectives)))
        F[:, :, self._measured_columns] = predicted[:, :, :k]
        known: dict[str, Values] = {}
        for j, o in enumerate(self.objectives):
            if o.metric in exact:
                F[:, :, j] = o.to_min(exact[o.metric])
            known[o.metric] = F[:, :, j] * o.sign
        known |= {m: np.broadcast_to(v, F.shape[:2]) for m, v in exact.items()}
        V = np.maximum(predicted[:, :, k:], 0.0).sum(axis=2)
        for c in self.constraints:
            if c.metric in known:
                V = V + c.violation(known[c.metric])
        return F, V

    def _remember(self, rows: Rows, F: Values) -> None:
        self._predicted = dict(zip(row_keys(rows), F * self.signs, strict=True))

    def predictions(self, G: Rows) -> dict[str, Values] | None:
        """Return what was predicted for rows of the last batch when they were asked (see `Strategy`)."""
        nothing = np.full(len(self.objectives), np.nan)
        values = np.array([self._predicted.get(k, nothing) for k in row_keys(self.space.canonical(G))])
        values = values.reshape(len(G), len(self.objectives))
        metrics = {self.objectives[j].metric: j for j in self._measured_columns}
        return {metric: np.clip(values[:, j], *natural_range(metric)) for metric, j in metrics.items()}

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: predictor quality and whether it fell back."""
        return {
            **super().diagnostics(),
            "fallback": self._fallback is not None,
            "fallback_reason": self._fallback,
            "predictors": self._models.quality,
        }


def _box(front: Values, measured: Values, predicted: Values) -> tuple[Values, Values]:
    """Return ideal and reference within which improvement counts: the front's extent and a tenth beyond it."""
    low = np.concatenate([measured, predicted]).min(axis=0)
    high = (front if len(front) > 1 else measured).max(axis=0)
    spread = np.where(high > low, high - low, np.maximum(np.abs(high), 1e-9))
    return low, high + 0.1 * spread


def _known_predictor(name: str) -> str:
    from predictors import list_predictors

    allowed = ["gp", *list_predictors()]
    if name not in allowed:
        raise ConfigError(f"strategy 'linas': unknown predictor {name!r}; available: {', '.join(allowed)}")
    return name
