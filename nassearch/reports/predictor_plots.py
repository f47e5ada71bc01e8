"""Predictors of a run as an image: predicted against measured values with intervals, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nassearch.metrics import is_measured
from nassearch.predictor_quality import Fit, MetricFits
from nassearch.reports.axes import show_range, unit_of
from nassearch.reports.plots import check_image_path, save_figure
from nassearch.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#222222"
_FAINT = "#666666"
# Okabe and Ito's colours, which the colour-blind tell apart, and a marker each.
_LOOKS = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "v"), ("#E69F00", "D"), ("#56B4E9", "P"),
    ("#000000", "X"), ("#7F5F00", "<"), ("#6A3D9A", ">"), ("#8c8c8c", "*"),
)  # fmt: skip


def plot_predictors(run: Run, found: Sequence[MetricFits], path: str | Path) -> Path:
    """Draw the predictors of a run into an image file, one row a metric, whole or not at all.

    Left, held-out predictions of the best predictor with their 90 % intervals against the evaluated values; right,
    Kendall's tau of every predictor against the number of rows it was trained on.

    Args:
        run: The run.
        found: The fitted predictors of each metric.
        path: The file; its suffix decides the format: .png, .svg or .pdf.

    Returns:
        The file.

    Raises:
        ConfigError: Another suffix, or a folder that does not exist.
    """
    target = check_image_path(path)
    return save_figure(draw(run, found), target)


def draw(run: Run, found: Sequence[MetricFits]) -> Figure:
    """Return the picture as a matplotlib figure that belongs to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = 2 if any(fit.curve for one in found for fit in one.fits) else 1
    figure = Figure(
        figsize=(5.6 * columns, 0.4 + 4.6 * len(found)), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12)
    )
    FigureCanvasAgg(figure)
    for row, one in enumerate(found):
        _agreement(figure.add_subplot(len(found), columns, columns * row + 1), one)
        if columns == 2:
            _learning(figure.add_subplot(len(found), 2, 2 * row + 2), one)
    title = figure.suptitle(f"{run.space.name}: predictors on held-out evaluations", x=0.01, ha="left", fontsize=13)
    title.set_color(_INK)
    return figure


def _frame(axes: Axes, title: str, note: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK, pad=20)
    axes.annotate(
        note, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=_FAINT,
        ha="left", va="bottom",
    )  # fmt: skip
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _agreement(axes: Axes, one: MetricFits) -> None:
    best = one.best
    held, quality = best.held_out, best.quality
    unit = f" [{unit_of(one.metric)}]" if unit_of(one.metric) else ""
    inside = (held.low <= held.true) & (held.true <= held.high)
    span = show_range(np.concatenate([held.true, held.mean]))
    axes.plot(span, span, color=_FAINT, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    for mask, colour, label in ((inside, "#0072B2", "interval holds the value"), (~inside, "#D55E00", "it does not")):
        if not mask.any():
            continue
        margins = np.stack([held.mean - held.low, held.high - held.mean])[:, mask]
        axes.errorbar(
            held.true[mask], held.mean[mask], yerr=margins, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.45,
            zorder=2,
        )  # fmt: skip
        axes.scatter(
            held.true[mask], held.mean[mask], s=24, color=colour, edgecolors="white", linewidths=0.5, alpha=0.9,
            zorder=3, label=f"{label} ({int(mask.sum())})",
        )  # fmt: skip
    axes.set_xlim(*span)
    axes.set_ylim(*span)
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=True, framealpha=0.95, edgecolor="none", fontsize=8).set_zorder(5)
    outside = int(((held.true < span[0]) | (held.true > span[1]) | (held.mean < span[0]) | (held.mean > span[1])).sum())
    word = "measured" if is_measured(one.metric) else "evaluated"
    _frame(
        axes,
        f"{one.metric}: {best.name}",
        f"Kendall tau {quality.kendall_tau:.2f}, MAPE {quality.mape:.2g} %; 90 % intervals cover "
        f"{100 * held.coverage:.0f} % of {quality.n}{f', {outside} not shown' if outside else ''}",
        f"{word}{unit}",
        f"predicted{unit}, with 90 % interval",
    )


def _learning(axes: Axes, one: MetricFits) -> None:
    for i, fit in enumerate(fit for fit in one.fits if fit.curve):
        _curve(axes, fit, i, best=fit is one.best)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    _frame(
        axes, f"{one.metric}: learning curves", "rank correlation with rows that were held out; higher is better",
        "training rows", "Kendall tau",
    )  # fmt: skip


def _curve(axes: Axes, fit: Fit, number: int, *, best: bool) -> None:
    colour, marker = _LOOKS[number % len(_LOOKS)]
    points = fit.curve
    axes.plot(
        [p.n for p in points], [p.kendall_tau for p in points], color=colour, marker=marker, label=fit.name,
        linewidth=2.4 if best else 1.2, markersize=6.5 if best else 5, zorder=4 if best else 3,
    )  # fmt: skip
