"""What a search is after: objectives, and constraints with their limits as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nassearch.constraints import ResolvedConstraint
from nassearch.objectives import Objective
from nassearch.store import Outcome


@dataclass(frozen=True)
class Goal:
    """Objectives and resolved constraints of a run."""

    objectives: tuple[Objective, ...]
    constraints: tuple[ResolvedConstraint, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that an evaluation must bring, objectives first, none twice."""
        names = [o.metric for o in self.objectives] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))

    def values(self, outcomes: Iterable[Outcome]) -> NDArray[np.float64]:
        """Return the objectives of each outcome in their own units, float64 ``[n, m]``; NaN where it failed."""
        rows = [[o.values.get(x.metric, np.nan) for x in self.objectives] for o in outcomes]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.objectives))

    def violations(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64] | None:
        """Return how far each outcome is outside each constraint, float64 ``[n, c]``; None without any."""
        if not self.constraints:
            return None
        columns = [
            c.violation(np.array([o.values.get(c.metric, np.nan) for o in outcomes], dtype=np.float64))
            for c in self.constraints
        ]
        return np.stack(columns, axis=1).reshape(len(outcomes), len(columns))
