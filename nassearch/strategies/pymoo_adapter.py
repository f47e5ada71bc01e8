"""Evolutionary algorithms of pymoo (Blank and Deb, 2020) on genotypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.pareto import non_dominated_min
from nassearch.strategies.age_engine import AgeEngine
from nassearch.strategies.base import Strategy, check_choice, check_count, check_positive, check_share
from nassearch.strategies.operators import Operators
from nassearch.strategies.pymoo_engines import (
    DecompositionEngine,
    SurvivalEngine,
    TwoArchiveEngine,
    reference_directions,
)
from nassearch.strategies.registry import register_strategy
from nassearch.strategies.scalarise import check_scalarise, scalarised
from search_spaces import Rows, SearchSpace

Values = NDArray[np.float64]
Engine = SurvivalEngine | DecompositionEngine | AgeEngine

CROSSOVERS = ("uniform", "one-point")

_ATTEMPTS = 10
_NEIGHBOURS = 20


def _ga(m: int, population: int) -> Engine:
    from pymoo.algorithms.soo.nonconvex.ga import GA

    return SurvivalEngine(GA(pop_size=population), m, population)


def _nsga3(m: int, population: int) -> Engine:
    from pymoo.algorithms.moo.nsga3 import NSGA3

    return SurvivalEngine(NSGA3(reference_directions(m, population), pop_size=population), m, population)


def _unsga3(m: int, population: int) -> Engine:
    from pymoo.algorithms.moo.unsga3 import UNSGA3

    return SurvivalEngine(UNSGA3(reference_directions(m, population), pop_size=population), m, population)


def _age_moea(m: int, population: int) -> Engine:
    return AgeEngine(population)


def _sms_emoa(m: int, population: int) -> Engine:
    from pymoo.algorithms.moo.sms import SMSEMOA, LeastHypervolumeContributionSurvival

    survival = LeastHypervolumeContributionSurvival()
    return SurvivalEngine(SMSEMOA(pop_size=population, survival=survival), m, population)


def _ctaea(m: int, population: int) -> Engine:
    from pymoo.algorithms.moo.ctaea import CTAEA

    directions = reference_directions(m, population)
    return TwoArchiveEngine(CTAEA(directions), m, len(directions))


def _moead(m: int, population: int) -> Engine:
    directions = reference_directions(m, population)
    return DecompositionEngine(directions, min(_NEIGHBOURS, max(2, len(directions) // 3)))


_ENGINES: dict[str, Callable[[int, int], Engine]] = {
    "ga": _ga,
    "nsga3": _nsga3,
    "unsga3": _unsga3,
    "age-moea": _age_moea,
    "sms-emoa": _sms_emoa,
    "ctaea": _ctaea,
    "moead": _moead,
}
_SCALED_TO_THE_FRONT = ("ctaea", "moead")  # the others scale values themselves, from a state of their own


class PymooStrategy(Strategy):
    """A population of pymoo's making: its survival and mating selection, with crossover and mutation of genotypes.

    Results enter as they come: after each batch the rows told since the last one compete with the survivors, as in a
    steady-state algorithm, so that batches need not have the size of the population. The state is advanced batch by
    batch from the history, in that order, with randomness from (seed, batch), hence a replay restores it exactly.
    Children are distinct and new: those that were asked before are bred again with more mutation, a bounded number
    of times; what is missing then is filled with random networks. Failed evaluations are no members.

    Args:
        space: See `Strategy`.
        population: Number of survivors, and of random networks at the start; at most a quarter of the budget, where
            that is known, but at least 10. Algorithms with reference directions use the largest regular set of at
            most so many.
        crossover: Probability of crossover.
        crossover_kind: ``"uniform"`` or ``"one-point"``.
        mutation: Expected number of genes mutated in a child; at least one always is.
        **base: Arguments of `Strategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int = 50,
        crossover: float = 0.9,
        crossover_kind: str = "uniform",
        mutation: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self.population = check_count(self.name, "population", population, least=4)
        if self.budget is not None:
            self.population = min(self.population, max(10, self.budget // 4))
        if self.population < len(self.objectives):
            raise ConfigError(
                f"strategy {self.name!r}: a population of {self.population} is too small for "
                f"{len(self.objectives)} objectives"
            )
        self.crossover = check_share(self.name, "crossover", crossover)
        self.crossover_kind = check_choice(self.name, "crossover_kind", crossover_kind, CROSSOVERS)
        self.mutation = check_positive(self.name, "mutation", mutation)
        self._operators = Operators(space)
        self._engine: Engine | None = None
        self._made: Engine | None = None
        self._frozen: tuple[Values, Values] | None = None
        self._through = -1

    # -- the state -----------------------------------------------------------------------------------

    def _advanced(self) -> Engine | None:
        """Feed the engine what was told, batch by batch; return it once it has a population."""
        after, valid = self.told_after, self.valid
        begun = self._engine is not None
        for b in range(self._through + 1, self.batch + 1):
            known = np.flatnonzero((after <= b) & valid)
            new = np.flatnonzero((after == b) & valid) if begun else known
            if not len(new) or (not begun and not self._enough(len(known), int((after <= b).sum()))):
                continue
            F = self._seen(known)
            if self._engine is None:
                self._engine = self._new_engine(F.shape[1])
            rng = np.random.default_rng([self.seed, b, 1])
            self._engine.advance(new, F, self.V.sum(axis=1), rng)
            begun = True
        self._through = self.batch
        return self._engine

    def _new_engine(self, n_objectives: int) -> Engine:
        return self._made or _ENGINES[self.name](n_objectives, self.population)

    def _enough(self, valid: int, told: int) -> bool:
        if self._made is None:
            self._made = _ENGINES[self.name](self._n_seen, self.population)
        return told >= self.population and valid >= self._made.least

    @property
    def _n_seen(self) -> int:
        m = len(self.objectives)
        return m if m > 1 or self.single_objective else 2

    def _seen(self, known: NDArray[np.intp]) -> Values:
        """Return the values that the engine sees, float64 ``[N, m]``; NaN outside the known rows.

        Algorithms for several objectives see a single one beside a constant: nothing else of them has to change.
        """
        raw = self.F[known]
        if self.name in _SCALED_TO_THE_FRONT:
            front = raw[non_dominated_min(raw)]
            low, high = raw.min(axis=0), front.max(axis=0)
        else:
            self._frozen = self._frozen or (raw.min(axis=0), raw.max(axis=0))
            low, high = self._frozen
        scaled = (raw - low) / np.where(high > low, high - low, 1.0)
        if scaled.shape[1] < self._n_seen:
            scaled = np.concatenate([scaled, np.zeros((len(scaled), 1))], axis=1)
        F = np.full((len(self._rows), scaled.shape[1]), np.nan)
        F[known] = scaled
        return F

    # -- proposing -----------------------------------------------------------------------------------

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        engine = self._advanced()
        missing = self.population - len(self._rows) - len(self._asked)
        rows = self.random_rows(min(n, max(missing, 0)) if engine else n, rng)
        if engine is None or len(rows) >= n:
            return rows
        return np.concatenate([rows, self._children(n - len(rows), engine, rng)])

    def _children(self, n: int, engine: Engine, rng: np.random.Generator) -> Rows:
        children = np.empty((0, len(self.space.genes)), dtype=np.int64)
        told = self.told
        for attempt in range(_ATTEMPTS):
            bred = self._operators.offspring(
                told[engine.parents(2 * n, rng)],
                rng,
                cross=self.crossover,
                rate=self.mutation * (1 + attempt / 3),
                kind=self.crossover_kind,
            )
            children = self.unseen(np.concatenate([children, self.within_limits(bred, rng)]))
            satisfied = self.analytic_violations(children).sum(axis=1) == 0
            if satisfied.sum() >= n:
                break
        best: Rows = children[np.argsort(~satisfied, kind="stable")]
        return best[:n]


class _SingleObjective(PymooStrategy):
    single_objective = True

    def __init__(self, space: SearchSpace, *, scalarise: str = "none", **base: Any) -> None:
        super().__init__(space, **base)
        self.scalarise = check_scalarise(self.name, scalarise, len(self.objectives))

    def _seen(self, known: NDArray[np.intp]) -> Values:
        F = np.full((len(self._rows), 1), np.nan)
        F[known, 0] = scalarised(self.F[known], self.scalarise)
        return F


@register_strategy("ga")
class GeneticAlgorithm(_SingleObjective):
    """Genetic algorithm for one objective: the best survive, binary tournaments choose parents (pymoo's GA).

    Infeasible networks rank behind feasible ones, by violation.

    Args:
        space: See `Strategy`.
        scalarise: With several objectives: ``"sum"`` or ``"chebyshev"`` makes one of them, see `scalarised`.
        **base: Options of `PymooStrategy` and arguments of `Strategy`.
    """


@register_strategy("nsga3")
class NSGA3(PymooStrategy):
    """NSGA-III: niches along reference directions instead of crowding (Deb and Jain, 2014), by pymoo."""


@register_strategy("unsga3")
class UNSGA3(PymooStrategy):
    """U-NSGA-III: NSGA-III with tournaments within niches, for any number of objectives (Seada and Deb, 2016)."""


@register_strategy("age-moea")
class AGEMOEA(PymooStrategy):
    """AGE-MOEA: survival by proximity and spread in the estimated geometry of the front (Panichella, 2019).

    Its survival is not pymoo's, whose class cannot be imported without the compiler numba.

    Args:
        space: See `Strategy`.
        **base: Options of `PymooStrategy` and arguments of `Strategy`.
    """


@register_strategy("sms-emoa")
class SMSEMOA(PymooStrategy):
    """SMS-EMOA: the row that adds least hypervolume dies (Beume et al., 2007), by pymoo."""


@register_strategy("ctaea")
class CTAEA(PymooStrategy):
    """C-TAEA: an archive for convergence and feasibility, another for diversity (Li et al., 2019), by pymoo.

    With a single objective constraints are refused: nothing but the diversity archive, which ignores them, would then
    be bred from.

    Args:
        space: See `Strategy`.
        **base: Options of `PymooStrategy` and arguments of `Strategy`.
    """

    def __init__(self, space: SearchSpace, **base: Any) -> None:
        super().__init__(space, **base)
        if self.constraints and len(self.objectives) == 1:
            raise ConfigError(
                "strategy 'ctaea' cannot keep constraints with a single objective; choose ga or unsga3, or add an "
                "objective"
            )


@register_strategy("moead")
class MOEAD(PymooStrategy):
    """MOEA/D: one incumbent for each of many weightings of the objectives (Zhang and Li, 2007).

    Tchebycheff decomposition for one or two objectives, penalty boundary intersection for more (pymoo's choice). A
    child belongs to the direction that it serves best (Wang et al., 2016); constraints count before values.
    """
