"""The supernet-quality report as an image: inherited quality against that from scratch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nassearch.gap.report import Report
from nassearch.gap.statistics import Estimate
from nassearch.reports.axes import show_range, unit_of
from nassearch.reports.plots import check_image_path, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#222222"
_FAINT = "#666666"


def plot_gap(report: Report, space: str, path: str | Path) -> Path:
    """Draw a report into an image file, whole or not at all.

    Args:
        report: Its figures.
        space: Name of the space, for the title.
        path: The file; its suffix decides the format: .png, .svg or .pdf.

    Returns:
        The file.

    Raises:
        ConfigError: Another suffix, or a folder that does not exist.
    """
    target = check_image_path(path)
    return save_figure(draw(report, space), target)


def draw(report: Report, space: str) -> Figure:
    """Return the picture as a matplotlib figure that belongs to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    q = report.qualities
    figure = Figure(figsize=(6.8, 6.2), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    span = show_range([], np.concatenate([q.inherited, q.scratch]))  # every network matters here: no outlier is cut
    axes.plot(span, span, color=_FAINT, linewidth=1, linestyle=(0, (5, 3)), zorder=1, label="equal")
    drawn = axes.scatter(
        q.scratch, q.inherited, c=q.params_m, s=46, cmap="cividis", edgecolors=_INK, linewidths=0.6, zorder=3
    )
    figure.colorbar(drawn, ax=axes, label="parameters [M]", pad=0.02, aspect=30, shrink=0.74)
    axes.set_xlim(*span)
    axes.set_ylim(*span)
    axes.set_aspect("equal")
    unit = f" [{unit_of(q.metric)}]" if unit_of(q.metric) else ""
    axes.set_xlabel(f"{q.metric}{unit}, trained from scratch")
    axes.set_ylabel(f"{q.metric}{unit}, with the supernet's weights")
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=True, framealpha=0.95, edgecolor="none", fontsize=8)
    title = axes.set_title(
        f"{space}: {len(q.genotypes)} networks, inherited and from scratch", loc="left", fontsize=11, color=_INK, pad=31
    )
    title.set_parse_math(False)
    supernet, trivial = report.supernet, report.trivial
    axes.annotate(
        f"supernet: Kendall tau {_told(supernet['kendall_tau'], 2)}, MAE {_told(supernet['mae'], 2)}\n"
        f"parameters: Kendall tau {_told(trivial['kendall_tau'], 2)}, MAE of a line "
        f"{_told(trivial['mae'], 2)}",
        (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=8.5, color=_FAINT,
        ha="left", va="bottom",
    )  # fmt: skip
    return figure


def _told(e: Estimate, digits: int) -> str:
    if math.isnan(e.value):
        return "undefined"
    return f"{e.value:.{digits}f} [{e.low:.{digits}f}, {e.high:.{digits}f}]"
