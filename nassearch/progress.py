"""Progress of a search and of other long work: steps done, what to say of them, time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from nassearch.console import Console
from nassearch.goal import Goal
from nassearch.pareto import constrained_front
from nassearch.store import Outcome, Proposal

_LINE_EVERY_S = 10.0


class _Progress:
    """A bar with the time left on a terminal, a line every ten seconds and at the end elsewhere.

    Args:
        console: Where it is shown.
        what: What is counted, e.g. ``"search"``.
        total: Number of steps in all.
        done: Number of steps done before.
    """

    def __init__(self, console: Console, what: str, total: int, done: int = 0) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._what, self._total = console, what, total
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(), console=console, transient=False, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _show(self, done: int, text: Callable[[], str]) -> None:
        """Show how many steps are done, and a text that is asked for only where it is shown."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, description=text())
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_S or done == self._total:
            self._last_line = now
            self._console.print(f"{self._what} {done}/{self._total}  {text()}", markup=False)


class StepProgress(_Progress):
    """Counts steps that are told one by one; arguments as there."""

    def __init__(self, console: Console, what: str, total: int, done: int = 0) -> None:
        super().__init__(console, what, total, done)
        self._done = done

    def __call__(self, text: str) -> None:
        """Note a finished step and what to say of it."""
        self._done += 1
        self._show(self._done, lambda: text)


class SearchProgress(_Progress):
    """Counts evaluations of a search, and says how good its front is. Called with every finished evaluation.

    Args:
        console: Where it is shown.
        goal: What the search is after.
        budget: Number of evaluations in all.
    """

    def __init__(self, console: Console, goal: Goal, budget: int) -> None:
        super().__init__(console, "search", budget)
        self._goal = goal
        self._outcomes: dict[int, Outcome] = {}

    def __call__(self, proposal: Proposal, outcome: Outcome) -> None:
        """Note a finished evaluation."""
        self._outcomes[outcome.id] = outcome  # one that failed may be evaluated again
        self._show(len(self._outcomes), self._summary)

    def _summary(self) -> str:
        outcomes = list(self._outcomes.values())
        values = self._goal.values(outcomes)
        front = constrained_front(values, self._goal.objectives, self._goal.violations(outcomes))
        parts = [f"front {int(front.sum())}"]
        for j, objective in enumerate(self._goal.objectives):
            column = values[front, j]
            if np.isfinite(column).any():
                best = column.max() if objective.direction == "max" else column.min()
                parts.append(f"best {objective.metric} {best:.4g}")
        if failed := sum(outcome.status != "ok" for outcome in outcomes):
            parts.append(f"{failed} failed")
        return "  ".join(parts)
