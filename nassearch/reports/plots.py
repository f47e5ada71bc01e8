"""The Pareto plot as an image file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ConfigError
from nassearch.reports.view import STYLES, FrontView, make_view
from nassearch.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

_INK = "#222222"
_FAINT = "#666666"


def plot_front(
    run: Run, path: str | Path, *, x: str | None = None, y: str | None = None, others: Sequence[Run] = ()
) -> Path:
    """Draw the Pareto plot of a run into an image file, whole or not at all.

    Args:
        run: The run, finished or not.
        path: The file; its suffix decides the format: .png, .svg or .pdf.
        x: Metric of the horizontal axis. Default: the second objective, or the evaluation's number.
        y: Metric of the vertical axis. Default: the first objective.
        others: Runs whose fronts are drawn, too.

    Returns:
        The file.

    Raises:
        ConfigError: Another suffix, a folder that does not exist, or a metric that was not evaluated.
    """
    target = check_image_path(path)
    return save_figure(draw(run, make_view(run, x, y, others=others)), target)


def check_image_path(path: str | Path) -> Path:
    """Return the path of an image that can be drawn.

    Raises:
        ConfigError: Another suffix than those of `FORMATS`, or a folder that does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"cannot draw {path}: unknown image format {path.suffix!r}; end it in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot draw {path}: the folder {path.parent} does not exist; make it first")
    return path


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure into a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def draw(run: Run, view: FrontView) -> Figure:
    """Return the Pareto plot as a matplotlib figure that belongs to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(8.4, 5.6), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _frame(axes, view)
    _limits(axes, view)
    _points(figure, axes, view)
    _knee(axes, view)
    _titles(axes, run, view)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _frame(axes: Axes, view: FrontView) -> None:
    axes.set_xlim(*view.x_range)
    axes.set_ylim(*view.y_range)
    axes.set_xlabel(view.x.label)
    axes.set_ylabel(view.y.label)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if view.x.metric is None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _limits(axes: Axes, view: FrontView) -> None:
    """Draw each constraint as a dashed line with a faint band on the side that is not allowed."""
    for limit in view.limits:
        style: dict[str, Any] = {"color": _INK, "linewidth": 1.0, "linestyle": (0, (5, 3)), "zorder": 1.5}
        shade: dict[str, Any] = {"color": "#000000", "alpha": 0.045, "linewidth": 0, "zorder": 0.5}
        box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        text: dict[str, Any] = {"fontsize": 8, "color": _INK, "bbox": box, "zorder": 6, "textcoords": "offset points"}
        low, high = view.x_range if limit.axis == "x" else view.y_range
        band = (limit.value, high) if limit.below else (low, limit.value)
        # Text sits on the forbidden side, where few points are; at the plot's rim on the allowed one.
        share = (limit.value - low) / (high - low)
        room = 1 - share if limit.below else share
        beyond = limit.below == (room > 0.06)
        if limit.axis == "x":
            axes.axvline(limit.value, **style)
            axes.axvspan(*band, **shade)
            axes.annotate(
                limit.label, (limit.value, 0.02), (3 if beyond else -3, 0), xycoords=("data", "axes fraction"),
                rotation=90, ha="left" if beyond else "right", va="bottom", **text,
            )  # fmt: skip
        else:
            axes.axhline(limit.value, **style)
            axes.axhspan(*band, **shade)
            axes.annotate(
                limit.label, (0.995, limit.value), (0, 3 if beyond else -3), xycoords=("axes fraction", "data"),
                ha="right", va="bottom" if beyond else "top", **text,
            )  # fmt: skip


def _points(figure: Figure, axes: Axes, view: FrontView) -> None:
    if view.line:
        xs, ys = zip(*view.line, strict=True)
        colour = STYLES["front"].colour
        label = view.line_label or None
        axes.plot(xs, ys, drawstyle=where_of(view), color=colour, linewidth=1.4, alpha=0.8, zorder=3, label=label)
    for group in view.groups:
        style = STYLES[group.kind]
        xs, ys = zip(*(view.point(r) for r in group.records), strict=True)
        look: dict[str, Any] = {"s": style.size**2 * 0.75, "marker": style.marker, "label": group.label}
        if group.kind == "infeasible":
            look |= {"color": style.colour, "linewidths": 1.1, "zorder": 2}
        elif group.kind == "front" and view.colour is not None:
            look |= {"c": [view.colour.of(r) for r in group.records], "cmap": "cividis", "edgecolors": _INK}
            drawn = axes.scatter(xs, ys, zorder=5, linewidths=0.8, **look)
            figure.colorbar(drawn, ax=axes, label=f"front: {view.colour.label}", pad=0.02, aspect=30)
            continue
        else:
            front = group.kind == "front"
            look |= {"color": style.colour, "edgecolors": _INK if front else "white", "alpha": 1 if front else 0.8}
            look |= {"linewidths": 0.8 if front else 0.5, "zorder": 5 if front else 2.5}
        axes.scatter(xs, ys, **look)
    for other in view.others:
        xs, ys = zip(*other.points, strict=True)
        style_of_line: dict[str, Any] = (
            {"drawstyle": where_of(view), "linestyle": ":"} if view.line else {"linestyle": ""}
        )
        look = {
            "color": other.colour,
            "linewidth": 1.2,
            "marker": "s",
            "markersize": 4.5,
            "label": other.label,
        }
        axes.plot(xs, ys, zorder=2.8, **look, **style_of_line)
    if view.second:
        for record, (x1, y1) in view.second:
            x0, y0 = view.point(record)
            axes.plot([x0, x1], [y0, y1], color=_INK, linewidth=0.7, alpha=0.5, zorder=3.5)
        xs, ys = zip(*(p for _, p in view.second), strict=True)
        size = STYLES["front"].size ** 2 * 0.6
        axes.scatter(
            xs, ys, s=size, marker="D", facecolors="white", edgecolors=STYLES["front"].colour, linewidths=1.1,
            zorder=4, label=view.second_label,
        )  # fmt: skip


def where_of(view: FrontView) -> str:
    """Return on which side of a corner the step line of a front steps."""
    return "steps-post" if view.line_shape == "hv" else "steps-pre"


def _knee(axes: Axes, view: FrontView) -> None:
    """Name the knee, on the side of the front where no evaluated network can be."""
    if view.knee is None:
        return
    right, up = view.outward
    axes.annotate(
        f"knee: #{view.knee.id}", view.point(view.knee), (22 * right, 24 * up), textcoords="offset points",
        fontsize=9, color=_INK, ha={-1: "right", 0: "center", 1: "left"}[right], va="center", zorder=7,
        arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 0.8, "shrinkB": 5},
        bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": _INK, "linewidth": 0.6, "alpha": 0.9},
    )  # fmt: skip


def _titles(axes: Axes, run: Run, view: FrontView) -> None:
    import textwrap

    task = run.config.task
    task = task if len(task) <= 48 else "…" + task[-47:]
    n = len(run.records)
    counts = f"{n} network{'' if n == 1 else 's'} evaluated, {len(run.front)} on the front."
    elsewhere = [str(c) for c in run.goal.constraints if c.metric not in (view.x.metric, view.y.metric)]
    also = [f"Also required: {', '.join(elsewhere)}."] if elsewhere else []
    lines = textwrap.wrap(" ".join([counts, *also, *view.notes]), 110)
    title = axes.set_title(
        f"{run.space.name} on {task}, searched by {run.config.strategy}",
        loc="left", fontsize=12, color=_INK, pad=11 + 12 * len(lines),
    )  # fmt: skip
    title.set_parse_math(False)  # a "$" in a path is no formula
    axes.annotate(
        "\n".join(lines), (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points",
        fontsize=9, color=_FAINT, ha="left", va="bottom",
    )  # fmt: skip
    if not view.groups:
        axes.text(0.5, 0.5, "no successful evaluation yet", transform=axes.transAxes, ha="center", color=_FAINT)
