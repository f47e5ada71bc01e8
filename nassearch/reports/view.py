"""What a Pareto plot shows, independent of the library that draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nassearch.errors import ConfigError
from nassearch.objectives import Objective
from nassearch.reports.axes import Axis, axis_of, choose_axes, show_range
from nassearch.reports.beside import check_beside
from nassearch.runs import Record, Run

Point = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """How a group of points looks: a colour of Okabe and Ito's colour-blind safe set, and a marker of its own."""

    colour: str
    marker: str
    symbol: str
    size: float


STYLES = {
    "infeasible": Style("#8c8c8c", "x", "x-thin-open", 6),
    "start-up": Style("#CC79A7", "^", "triangle-up", 8),
    "evaluated": Style("#2B83BA", "o", "circle", 7),
    "front": Style("#D55E00", "D", "diamond", 9),
}


@dataclass(frozen=True)
class Group:
    """Points of one kind, a key of `STYLES`."""

    kind: str
    label: str
    records: list[Record]


@dataclass(frozen=True)
class Limit:
    """A constraint as a line; ``below`` says whether allowed values are below it."""

    axis: Literal["x", "y"]
    value: float
    label: str
    below: bool


@dataclass(frozen=True)
class OtherFront:
    """The front of another run: a name, a colour, and its members in both axes."""

    label: str
    colour: str
    points: list[Point]
    ids: list[int]


OTHER_COLOURS = ("#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000", "#8c6d31")
"""Of other runs' fronts, again and again where there are more."""


@dataclass(frozen=True)
class FrontView:
    """Everything a Pareto plot shows.

    Attributes:
        colour: The third objective, shown by colour on the front.
        groups: Points in drawing order, the front last; empty groups are left out.
        line: Corners of the step line: the front, or the best value so far; ascending in x.
        line_shape: ``"hv"`` steps after each corner, ``"vh"`` before it.
        second: Front members with what the second look at them gave.
        second_label: What that second look was.
        notes: Sentences the reader needs beside the plot.
        others: Fronts of other runs.
    """

    x: Axis
    y: Axis
    colour: Axis | None
    groups: list[Group]
    line: list[Point]
    line_shape: Literal["hv", "vh"]
    line_label: str
    second: list[tuple[Record, Point]]
    second_label: str
    limits: list[Limit]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    knee: Record | None
    notes: list[str]
    others: list[OtherFront] = field(default_factory=list)

    def point(self, record: Record) -> Point:
        """Return where a record lies."""
        return self.x.of(record), self.y.of(record)

    @property
    def outward(self) -> tuple[int, int]:
        """Sides (-1, 0, 1) of the knee where no network is and its name has room: right and up count as 1."""
        if self.knee is None:
            return 0, 0
        right, up = (-1 if self.x.direction == "min" else 1), (1 if self.y.direction == "max" else -1)
        share = (self.x.of(self.knee) - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        room = share if right < 0 else 1 - share
        return (right if room > 0.25 else 0), up


def make_view(run: Run, x: str | None = None, y: str | None = None, *, others: Sequence[Run] = ()) -> FrontView:
    """Decide what the Pareto plot of a run shows.

    Args:
        run: The run, finished or not.
        x: Metric of the horizontal axis. Default: the second objective, or the evaluation's number.
        y: Metric of the vertical axis. Default: the first objective.
        others: Runs whose fronts are shown, too.

    Raises:
        ConfigError: A metric that was not evaluated, here or in another run; another run that cannot be compared.
    """
    for other in others:
        check_beside(run, other)
    across, up = choose_axes(run, x, y)
    drawn = [r for r in run.records if math.isfinite(across.of(r)) and math.isfinite(up.of(r))]
    groups = _groups(run, drawn)
    front = [r for r in run.front if r in drawn]
    second, second_label = _second(across, up, front)
    beside = [_other(other, across, up, i) for i, other in enumerate(others)]
    line, shape, line_label = _line(run, across, up, front, drawn)
    must_x = [across.of(r) for r in front] + [p[0] for _, p in second]
    must_y = [up.of(r) for r in front] + [p[1] for _, p in second]
    must_x += [p[0] for o in beside for p in o.points]
    must_y += [p[1] for o in beside for p in o.points]
    limits, notes = [], []
    ranges = {}
    for side, axis, must in (("x", across, must_x), ("y", up, must_y)):
        values = [axis.of(r) for r in drawn]
        here = [c for c in run.goal.constraints if c.metric == axis.metric]
        low, high = show_range(values, must)
        near = [c for c in here if not drawn or low - 0.35 * (high - low) < c.limit < high + 0.35 * (high - low)]
        ranges[side] = show_range(values, must + [c.limit for c in near])
        for c in near:
            limits.append(Limit("x" if side == "x" else "y", c.limit, str(c), c.op[0] == "<"))
        notes += [f"The constraint {c} lies outside the axes." for c in here if c not in near]
    outside = sum(
        not (ranges["x"][0] <= across.of(r) <= ranges["x"][1] and ranges["y"][0] <= up.of(r) <= ranges["y"][1])
        for r in drawn
    )
    if outside:
        notes.append(f"{outside} far-off evaluation{'s lie' if outside > 1 else ' lies'} outside the axes.")
    failed = sum(r.status != "ok" for r in run.records)
    if failed:
        notes.append(f"{failed} failed evaluation{'s are' if failed > 1 else ' is'} not drawn.")
    if not run.front:
        met = "no evaluation meets every constraint" if run.goal.constraints else "no evaluation succeeded"
        notes.append(f"The front is empty: {met}." if run.records else "No evaluation has finished yet.")
    return FrontView(
        across, up, _colour(run, across, up), groups, line, shape, line_label, second, second_label, limits,
        ranges["x"], ranges["y"], _knee(run, front), notes, beside,
    )  # fmt: skip


def _other(run: Run, x: Axis, y: Axis, number: int) -> OtherFront:
    """Return the front of another run in the metrics of both axes.

    Raises:
        ConfigError: It did not evaluate one of them.
    """
    missing = [a.metric for a in (x, y) if not any(math.isfinite(a.of(r)) for r in run.front)]
    if missing:
        known = sorted({m for r in run.front for m in r.values})
        raise ConfigError(
            f"{run.folder} cannot be compared: its front has no {', '.join(str(m) for m in missing)}; it has "
            f"{', '.join(known) or 'no member'}"
        )
    found = sorted((r for r in run.front), key=lambda r: (x.of(r), y.of(r)))
    strategy, name = run.config.strategy, run.folder.name
    label = strategy if strategy == name else f"{strategy} ({name})"
    colour = OTHER_COLOURS[number % len(OTHER_COLOURS)]
    return OtherFront(label, colour, [(x.of(r), y.of(r)) for r in found], [r.id for r in found])


def _groups(run: Run, drawn: list[Record]) -> list[Group]:
    kinds: dict[str, list[Record]] = {kind: [] for kind in STYLES}
    for r in drawn:
        ordinary = "start-up" if r.batch < run.n_startup else "evaluated"
        kinds["front" if r.on_front else ordinary if r.feasible else "infeasible"].append(r)
    labels = {
        "infeasible": "outside a constraint",
        "start-up": "start-up",
        "evaluated": "evaluated",
        "front": "Pareto front" if len(run.goal.objectives) > 1 else "best",
    }
    return [Group(k, f"{labels[k]}: {len(found)}", found) for k, found in kinds.items() if found]


def _colour(run: Run, x: Axis, y: Axis) -> Axis | None:
    others = [o.metric for o in run.goal.objectives if o.metric not in (x.metric, y.metric)]
    return axis_of(run, others[0]) if others and run.front else None


def _second(x: Axis, y: Axis, front: list[Record]) -> tuple[list[tuple[Record, Point]], str]:
    found: list[tuple[Record, Point]] = []
    for r in front:
        again = x.second_look(r), y.second_look(r)
        if again != (None, None):
            found.append((r, (x.of(r) if again[0] is None else again[0], y.of(r) if again[1] is None else again[1])))
    metrics = [a.metric for a in (x, y)]
    words = [
        word
        for word, has in (
            ("report split", any(m in r.report for r, _ in found for m in metrics)),
            ("measured again", any(m in r.remeasured for r, _ in found for m in metrics)),
        )
        if has
    ]
    return found, f"front, second look: {', '.join(words)}"


def _line(
    run: Run, x: Axis, y: Axis, front: list[Record], drawn: list[Record]
) -> tuple[list[Point], Literal["hv", "vh"], str]:
    objectives = run.goal.objectives
    if x.metric is None and y.direction is not None:
        return best_so_far(drawn, Objective(y.metric or "", y.direction)), "hv", "best so far"
    if {x.metric, y.metric} != {o.metric for o in objectives} or len(objectives) != 2:
        return [], "hv", ""  # members of another front make no staircase in this plane
    # A network attains everything on its worse side: right of it where x is to be small, left of it otherwise.
    return sorted((x.of(r), y.of(r)) for r in front), "hv" if x.direction == "min" else "vh", ""


def best_so_far(records: list[Record], objective: Objective) -> list[Point]:
    """Return (id, best feasible value up to there) at each improvement, and once more at the end."""
    corners: list[Point] = []
    for r in records:
        value = r.values.get(objective.metric, math.nan)
        better = not corners or objective.sign * value < objective.sign * corners[-1][1]
        if r.feasible and math.isfinite(value) and better:
            corners.append((float(r.id), value))
    if corners and corners[-1][0] < records[-1].id:
        corners.append((float(records[-1].id), corners[-1][1]))
    return corners


def _knee(run: Run, front: list[Record]) -> Record | None:
    """Return the knee; of fewer than three members none bulges."""
    from nassearch.pareto import knee

    if len(run.goal.objectives) < 2 or len(front) < 3:
        return None
    return front[knee(run.objective_values(front), run.goal.objectives)]
