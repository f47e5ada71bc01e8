"""Samplers of Optuna (Akiba et al., 2019) through its ask/tell interface."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.base import Strategy, check_count, check_flag, check_share
from nassearch.strategies.operators import Operators
from nassearch.strategies.registry import register_strategy
from search_spaces import Gene, Rows, SearchSpace

Values = NDArray[np.float64]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log and its notes on experimental arguments, and restore the log's level afterwards."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


class OptunaStrategy(Strategy):
    """A sampler of Optuna, whose study is built anew from the history for every batch.

    Results told become finished trials, rows that are awaited running ones; the sampler's seed comes from the batch's
    generator. Nothing else is kept, so a replay asks the same rows next. A gene is an integer parameter where it is
    ordinal, else a categorical one. Constraints are Optuna's; a failed evaluation is a failed trial.

    A sampler may propose what was asked before (TPE gave 60 distinct rows in 200 asks), a forbidden combination or a
    row that misses an analytic limit. Forbidden ones are repaired; for each row wanted at most ``redraws`` further
    trials are asked on average (the rejected ones stay in the study as running trials, which TPE steers away from),
    then random distinct networks fill the batch.

    Args:
        space: See `Strategy`.
        startup: Number of random networks at the start; at most a quarter of the budget, where known.
        redraws: Number of further trials asked for a row that is no use.
        **base: Arguments of `Strategy`.
    """

    def __init__(self, space: SearchSpace, *, startup: int = 10, redraws: int = 10, **base: Any) -> None:
        super().__init__(space, **base)
        self.startup = check_count(self.name, "startup", startup, least=2)
        if self.budget is not None:
            self.startup = min(self.startup, max(4, self.budget // 4))
        self.redraws = check_count(self.name, "redraws", redraws, least=0)
        self.redrawn = 0
        self._values = [sorted(set(g.canonical_indices())) for g in space.genes]
        self._order = _controllers_first(space)
        self._distributions: dict[str, Any] = {}

    @abstractmethod
    def _sampler(self, seed: int) -> Any:
        """Return a new sampler of Optuna."""

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        missing = self.startup - len(self._rows) - len(self._asked)
        start = self.random_rows(min(n, max(missing, 0)), rng)
        if len(start) >= n or not any(len(v) > 1 for v in self._values):
            return start
        with _quiet():
            return np.concatenate([start, self._drawn(n - len(start), start, rng)])

    def _drawn(self, n: int, taken: Rows, rng: np.random.Generator) -> Rows:
        study = self._study(taken, rng)
        found: list[Rows] = []
        known = {row.tobytes() for row in taken}
        for _ in range(n * (1 + self.redraws)):
            row = self.within_limits(self.space.repair(self._suggested(study.ask(), rng)[None], rng), rng)
            fine = len(self.unseen(row)) and not self.analytic_violations(row).any()
            if fine and row.tobytes() not in known:
                known.add(row.tobytes())
                found.append(row[0])
                if len(found) == n:
                    break
            else:
                self.redrawn += 1
        return np.array(found, dtype=np.int64).reshape(-1, len(self.space.genes))

    # -- genes as parameters -------------------------------------------------------------------------

    def _distribution(self, column: int) -> Any:
        import optuna

        gene, k = self.space.genes[column], len(self._values[column])
        if gene.name not in self._distributions:
            self._distributions[gene.name] = (
                optuna.distributions.IntDistribution(0, k - 1)
                if gene.kind == "ordinal"
                else optuna.distributions.CategoricalDistribution(range(k))
            )
        return self._distributions[gene.name]

    def _parameters(self, row: Rows, columns: NDArray[np.intp]) -> tuple[dict[str, int], dict[str, Any]]:
        """Return parameters and their distributions of some genes of a row."""
        params: dict[str, int] = {}
        for c in columns:
            if len(self._values[c]) > 1:
                params[self.space.genes[c].name] = self._values[c].index(int(row[c]))
        return params, {self.space.genes[c].name: self._distribution(c) for c in columns if len(self._values[c]) > 1}

    def _told_parameters(self, rows: Rows) -> list[tuple[dict[str, int], dict[str, Any]]]:
        """Return the parameters of rows in the study; by default those of all genes."""
        every = np.arange(len(self.space.genes))
        return [self._parameters(row, every) for row in rows]

    def _suggested(self, trial: Any, rng: np.random.Generator) -> Rows:
        """Return the row of a new trial, int64 ``[n_genes]``; by default all genes are suggested."""
        row = np.zeros(len(self.space.genes), dtype=np.int64)
        for c in self._order:
            self._suggest(trial, row, c)
        return row

    def _suggest(self, trial: Any, row: Rows, column: int) -> None:
        values, gene = self._values[column], self.space.genes[column]
        if len(values) == 1:
            row[column] = values[0]
        elif gene.kind == "ordinal":
            row[column] = values[trial.suggest_int(gene.name, 0, len(values) - 1)]
        else:
            row[column] = values[trial.suggest_categorical(gene.name, range(len(values)))]

    # -- the history as a study ----------------------------------------------------------------------

    def _study(self, taken: Rows, rng: np.random.Generator) -> Any:
        import optuna

        study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            sampler=self._sampler(int(rng.integers(2**31))),
            directions=["minimize"] * len(self.objectives),
        )
        state = optuna.trial.TrialState
        valid, F, V = self.valid, self.F, self.V
        complete = 0
        for i, (params, distributions) in enumerate(self._told_parameters(self.told)):
            if not valid[i]:
                trial = optuna.trial.create_trial(state=state.FAIL, params=params, distributions=distributions)
            else:
                trial = optuna.trial.create_trial(
                    values=F[i].tolist(),
                    params=params,
                    distributions=distributions,
                    system_attrs=self._attributes(complete),
                    constraints={str(j): float(v) for j, v in enumerate(V[i])},
                )
                complete += 1
            study.add_trial(trial)
        for params, distributions in self._told_parameters(np.concatenate([self.pending, taken])):
            study.add_trial(optuna.trial.create_trial(state=state.RUNNING, params=params, distributions=distributions))
        return study

    def _attributes(self, complete: int) -> dict[str, Any]:
        """Return what the sampler would have noted of the finished trial number ``complete``."""
        return {}

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: the proposals of no use since it started."""
        return {**super().diagnostics(), "redrawn": self.redrawn}


def _controllers_first(space: SearchSpace) -> list[int]:
    """Return the columns so that the genes that decide on a gene's activity come before it."""
    order: list[int] = []
    while len(order) < len(space.genes):
        placed = {space.genes[i].name for i in order}
        order += [i for i, g in enumerate(space.genes) if g.name not in placed and _deciding(g) <= placed]
    return order


def _deciding(gene: Gene) -> set[str]:
    """Return the names of the genes that decide whether a gene matters."""
    return set(gene.active_when).union(*gene.active_if_any)


@register_strategy("tpe")
class TPE(OptunaStrategy):
    """Tree-structured Parzen estimators, by Optuna (Bergstra et al., 2011; Ozaki et al., 2022).

    Genes are suggested in order of activity (define by run): an inactive gene is no parameter of its trial, so its
    density is estimated from the trials in which it mattered.

    Args:
        space: See `Strategy`.
        candidates: Number of draws from the density of good trials among which the best is taken.
        multivariate: Whether the genes that all trials have are drawn jointly.
        redraws: Number of further trials asked for a row that is no use, on average; one takes a good tenth of a
            second with 400 results and 45 genes.
        **base: Options of `OptunaStrategy` and arguments of `Strategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        candidates: int = 24,
        multivariate: bool = False,
        redraws: int = 4,
        **base: Any,
    ) -> None:
        super().__init__(space, redraws=redraws, **base)
        self.candidates = check_count(self.name, "candidates", candidates)
        self.multivariate = check_flag(self.name, "multivariate", multivariate)

    def _sampler(self, seed: int) -> Any:
        import optuna

        return optuna.samplers.TPESampler(
            n_startup_trials=self.startup,
            n_ei_candidates=self.candidates,
            multivariate=self.multivariate,
            constant_liar=True,
            seed=seed,
        )

    def _told_parameters(self, rows: Rows) -> list[tuple[dict[str, int], dict[str, Any]]]:
        active = self.space.active(rows)
        return [self._parameters(row, np.flatnonzero(a)) for row, a in zip(rows, active, strict=True)]

    def _suggested(self, trial: Any, rng: np.random.Generator) -> Rows:
        row = np.zeros(len(self.space.genes), dtype=np.int64)
        for c in self._order:
            if not _deciding(self.space.genes[c]) or self.space.active(row[None])[0, c]:
                self._suggest(trial, row, c)
        return row


@register_strategy("optuna-nsga2")
class OptunaNSGA2(OptunaStrategy):
    """NSGA-II as Optuna has it: uniform crossover, mutation by re-sampling, generations of trials (Deb et al., 2002).

    Told results in their order make up the generations. Every trial has all genes as parameters, since Optuna crosses
    only parameters that all trials have; the inactive genes of a told row get random values, the same ones each time.

    Args:
        space: See `Strategy`.
        population: Number of trials of a generation, and of random networks at the start; at most a quarter of the
            budget, where that is known, but at least 10.
        crossover: Probability of crossover.
        redraws: Number of further trials asked for a row that is no use.
        **base: Arguments of `Strategy`.
    """

    def __init__(
        self, space: SearchSpace, *, population: int = 50, crossover: float = 0.9, redraws: int = 10, **base: Any
    ) -> None:
        super().__init__(space, redraws=redraws, **base)
        self.population = check_count(self.name, "population", population, least=2)
        if self.budget is not None:
            self.population = min(self.population, max(10, self.budget // 4))
        self.startup = self.population
        self.crossover = check_share(self.name, "crossover", crossover)
        self._operators = Operators(space)

    def _sampler(self, seed: int) -> Any:
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=self.population, crossover_prob=self.crossover, seed=seed)

    def _told_parameters(self, rows: Rows) -> list[tuple[dict[str, int], dict[str, Any]]]:
        filled = self._operators.filled(rows, np.zeros_like(rows), np.random.default_rng([self.seed, 0, 2]))
        return super()._told_parameters(np.where(self.space.active(rows), rows, filled))

    def _attributes(self, complete: int) -> dict[str, Any]:
        import optuna

        key = optuna.samplers.NSGAIISampler._get_generation_key()
        return {key: complete // self.population}


@register_strategy("gp")
class OptunaGP(OptunaStrategy):
    """Gaussian process and expected (hypervolume) improvement, by Optuna; slow: each row fits and optimises anew.

    Every trial has all genes as parameters, an inactive one with its first choice, so that equal networks are equal
    points.

    Args:
        space: See `Strategy`.
        startup: Number of random networks at the start; at most a quarter of the budget, where known.
        redraws: Number of further trials asked for a row that is no use.
        **base: Arguments of `Strategy`.
    """

    def __init__(self, space: SearchSpace, *, startup: int = 10, redraws: int = 2, **base: Any) -> None:
        super().__init__(space, startup=startup, redraws=redraws, **base)

    def _sampler(self, seed: int) -> Any:
        import optuna

        return optuna.samplers.GPSampler(n_startup_trials=self.startup, seed=seed)
