"""What training reports while it runs, and a progress bar that shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class TrainProgress:
    """The state of training after a step.

    Attributes:
        step: Steps done.
        total: Steps in all.
        phase: Name of the phase.
        loss: Loss of the step's first subnet (the largest, where the method runs it).
        lr: Learning rate of the step.
        top1_largest: Score of the largest subnet when last evaluated, 0-100; None before.
        top1_smallest: Score of the smallest subnet when last evaluated, 0-100; None before.
        images_per_second: Training inputs a second, each counted once whatever the number of subnets.
    """

    step: int
    total: int
    phase: str
    loss: float
    lr: float
    top1_largest: float | None
    top1_smallest: float | None
    images_per_second: float


ProgressCallback: TypeAlias = Callable[[TrainProgress], None]


class RichProgress:
    """A progress bar with loss and top-1 of the largest and smallest subnet; lines where there is no terminal.

    Args:
        console: Where it goes. Default: standard error.
        interval: Seconds between lines where there is no terminal.

    Example:
        >>> with RichProgress() as progress:  # doctest: +SKIP
        ...     train(net, data, loss, method="sandwich", settings=settings, progress=progress)
    """

    def __init__(self, console: Console | None = None, interval: float = 5.0) -> None:
        self._console = console
        self._interval = interval
        self._last = -float("inf")
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, state: TrainProgress) -> None:
        """Show the state of training."""
        console = self._get_console()
        if console.is_terminal:
            self._show(console, state)
        elif state.step == state.total or time.monotonic() - self._last >= self._interval:
            self._last = time.monotonic()
            text = f"training {state.step}/{state.total} ({100 * state.step // state.total} %)  {describe(state)}"
            console.print(text, highlight=False, soft_wrap=True, markup=False)
        if state.step == state.total:
            self.close()

    def __enter__(self) -> RichProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal's last line; needed only when training ends early."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _get_console(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=sys.stderr)
        return self._console

    def _show(self, console: Console, state: TrainProgress) -> None:
        if self._bar is None:
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("training"),
                progress.BarColumn(bar_width=None),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.description}", markup=False),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=state.total)
        assert self._task is not None  # noqa: S101 - made with the bar
        self._bar.update(self._task, completed=state.step, description=describe(state))


def describe(state: TrainProgress) -> str:
    """Return one line on the state of training."""
    parts = [state.phase, f"loss {state.loss:.3f}"]
    if state.top1_largest is not None and state.top1_smallest is not None:
        parts.append(f"top1 {state.top1_largest:.1f} largest, {state.top1_smallest:.1f} smallest")
    parts.append(f"{state.images_per_second:,.0f} inputs/s")
    return "  ".join(parts)
