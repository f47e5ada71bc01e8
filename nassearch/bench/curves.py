"""Curves of strategies with bands, as an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nassearch.bench.result import BenchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colour-blind safe set; with line styles that change when it is used up.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot")
_STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_COLUMNS = 3
_MOST_POINTS = 400


def look(i: int) -> tuple[str, str]:
    """Return colour and dash of the strategy at a position."""
    return COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]


def grid(result: BenchResult, problem: str) -> list[int]:
    """Return the numbers of evaluations at which curves are drawn."""
    ends = result.batch_ends(problem)
    return ends[:: max(1, math.ceil(len(ends) / _MOST_POINTS))]


def bands(result: BenchResult, problem: str, strategy: str, at: Sequence[int]) -> list[list[float]]:
    """Return first quartile, median and third quartile of the score, each a list over ``at``."""
    quartiles: list[list[float]] = np.quantile(result.curves(problem, strategy, at), [0.25, 0.5, 0.75], axis=0).tolist()
    return quartiles


def score_range(result: BenchResult, problem: str) -> tuple[float, float]:
    """Return the part of the score axis where strategies differ: from a twentieth of the budget on."""
    at = grid(result, problem)
    late = [n for n in at if n >= result.settings.budget / 20] or at
    every = [bands(result, problem, s, late) for s in result.strategies(problem)]
    low, high = min(min(b[0]) for b in every), max(max(b[2]) for b in every)
    margin = 0.04 * (high - low) or 0.05
    return low - margin, high + margin


def draw_curves(result: BenchResult, path: Path) -> None:
    """Draw a panel for each problem: median and quartiles of the score against evaluations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problems = result.problems
    columns = min(_COLUMNS, len(problems))
    rows = -(-len(problems) // columns)
    figure = Figure(figsize=(1.6 + 5.2 * columns, 0.6 + 4.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(problems) :]:
        axes.set_axis_off()
    for axes, problem in zip(panels[: len(problems)], problems, strict=True):
        _panel(axes, result, problem)
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=130)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _panel(axes: Axes, result: BenchResult, problem: str) -> None:
    at = grid(result, problem)
    order = list(result.settings.strategies)
    for strategy in result.strategies(problem):
        low, middle, high = bands(result, problem, strategy, at)
        colour, dash = look(order.index(strategy))
        axes.plot(at, middle, color=colour, linestyle=_STYLES[dash], linewidth=1.6, label=strategy)
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(*score_range(result, problem))
    axes.set_xlim(0, max(at))
    axes.set_title(problem, loc="left", fontsize=10).set_parse_math(False)
    axes.set_xlabel("distinct evaluations")
    single = len(result.settings.problems[problem]["objectives"]) == 1
    axes.set_ylabel("1 - regret / range" if single else "normalised hypervolume")
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
