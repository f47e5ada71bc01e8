"""LINAS that first asks what each layer is worth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.strategies.additive_mip import AdditiveMIP
from nassearch.strategies.base import Strategy, check_count, check_share
from nassearch.strategies.fixed_genes import fixed_genes
from nassearch.strategies.inner import Scored, best_first
from nassearch.strategies.linas import Linas
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace

Values = NDArray[np.float64]

_USUAL_BUDGET = 60  # where none is known


@register_strategy("probed-linas")
class ProbedLinas(Strategy):
    """Single layers first, the integer program over them, then LINAS from all that is known.

    In a space of many like layers most of what a network loses is the sum of what its layers lose, and a limit says
    how much may go, not where. Networks with one layer changed tell it with the fewest evaluations, and the program
    over them (`additive-mip`, as in Puzzletron) gives the first networks within the limits. What the sum does not know,
    interactions and the genes that were not probed, `linas` learns from there, starting with predictors that have seen
    every layer.

    Networks that were told before anything is asked (published methods, say) decide what the probes have in common: the
    categorical genes of the best of them; sizes alone are probed then.

    Args:
        space: See `Strategy`.
        share: Of the budget (60 where it is not known) for probes. Where that is less than two a layer there are none,
            and all is left to `linas`.
        programs: Networks that the program gives.
        fixed: Genes that have one value in the probes, see `fixed_genes`. Default: as above.
        predictor: See `Linas`.
        **base: Arguments of `Strategy`.
    """

    probes: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        share: float = 0.42,
        programs: int = 8,
        fixed: Any = "",
        predictor: str = "gp",
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self.share = check_share(self.name, "share", share)
        self.programs = check_count(self.name, "programs", programs)
        self._given = fixed
        fixed_genes(self.name, space, fixed)
        self._base = base
        self._linas = Linas(space, predictor=predictor, landmarks=False, **base)

    def warm_start(
        self,
        G: Rows,
        known: Mapping[str, ArrayLike] | None = None,
        prior: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Take what other searches know (see `Linas`)."""
        super().warm_start(G, known, prior)
        self._linas.warm_start(G, known, prior)

    @cached_property
    def _additive(self) -> AdditiveMIP | None:
        """The first stage, made when something is asked first; None where the budget is too small for it."""
        base = {**self._base, "budget": self.budget or _USUAL_BUDGET}
        made = AdditiveMIP(self.space, fixed=self._fixed(), share=self.share, **base)
        least = sum(min(2, n) for n in made.available)
        if made.n_probes - 1 < least or made.n_probes > self.share * base["budget"]:
            return None
        told = self.told_after == 0
        if told.any():
            made.tell(self.told[told], self.F[told] * self.signs, self.V[told])
        return made

    def _fixed(self) -> Any:
        """Return what the probes have in common: as given, else the categorical genes of the best network told."""
        told = (self.told_after == 0) & self.valid
        if self._given or not told.any():
            return self._given
        rows = self.told[told]
        best = rows[best_first(Scored(rows, self.F[told], self.V[told].sum(axis=1)), 1)[0]]
        genes = self.space.genes
        common = {g.name: g.choices[best[i]] for i, g in enumerate(genes) if g.kind == "categorical"}
        return common if len(common) < len(genes) else ""

    def replay(self, G: Rows) -> None:
        """Take a logged batch as asked (see `Strategy`)."""
        additive = self._additive
        super().replay(G)
        self._linas.replay(G)
        if additive is not None:
            additive.replay(G)

    def tell(self, G: Rows, values: ArrayLike, violations: ArrayLike | None = None) -> None:
        """Take results (see `Strategy`)."""
        super().tell(G, values, violations)
        self._linas.tell(G, values, violations)
        if self.batch and self._additive is not None:
            self._additive.tell(G, values, violations)

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        additive = self._additive
        rows = np.empty((0, len(self.space.genes)), dtype=np.int64)
        if additive is not None and len(left := additive.probes_left):
            rows = left[:n]
        elif additive is not None and (missing := self.programs - self._programs_asked(additive)) > 0:
            rows = additive._propose(min(n, missing), rng)  # none while probes are not told yet
        if len(rows) < n:
            rows = np.concatenate([rows, self._linas._propose(n - len(rows), rng)])
        return rows

    def _programs_asked(self, additive: AdditiveMIP) -> int:
        asked = np.concatenate([self.told[self.told_after > 0], self.pending])
        return int(additive.is_combined(asked).sum())

    def predictions(self, G: Rows) -> dict[str, Values] | None:
        """Return what `linas` predicted for rows of the last batch when they were asked (see `Strategy`)."""
        return self._linas.predictions(G)

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: the probes of each layer, and the predictors."""
        probed = self._additive.diagnostics()["alternatives"] if self.batch and self._additive is not None else []
        return {**self._linas.diagnostics(), **super().diagnostics(), "alternatives": probed}
