"""Expert configurations as an image: quality against experts kept, which are kept, and how often they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nassearch.reports import expert_data as data
from nassearch.reports.axes import Axis, show_range
from nassearch.reports.sections import register_picture
from nassearch.reports.view import STYLES
from nassearch.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#222222", "#666666"
_MOST_DOMAINS = 6


@register_picture("experts")
def draw(run: Run) -> Figure | None:
    """Return the picture; None where the run has no experts to show."""
    if not data.has_experts(run):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    curve, members, told = data.quality_curve(run), data.members_grid(run), data.explanation(run)
    kept = data.kept_grid(told) if told else None
    usage = data.usage_grids(told) if told else {}
    grids: list[tuple[str, data.Grid, str, str, str]] = []
    if members is not None:
        grids.append(("Experts kept by the members of the front", members, "layer", "member", "experts"))
    if kept is not None:
        grids.append(("How many members keep which expert", kept, "expert", "layer", "members [%]"))
    for name, grid in list(usage.items())[:_MOST_DOMAINS]:
        grids.append((f"How often each is asked: {name}", grid, "expert", "layer", "times an even share"))
    n = len(grids) + (curve is not None)
    if not n:
        return None
    rows = -(-n // 2)
    figure = Figure(figsize=(11 if n > 1 else 6, 3.7 * rows), layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.12))
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, min(n, 2), squeeze=False).flatten().tolist()
    if curve is not None:
        _curve(places.pop(0), curve)
    for title, grid, x, y, scale in grids:
        _grid(figure, places.pop(0), grid, title, (x, y, scale))
    for place in places:
        place.set_axis_off()
    return figure


def _curve(axes: Axes, curve: data.Curve) -> None:
    style, front = STYLES["evaluated"], STYLES["front"]
    axes.scatter(
        curve.shares, curve.values, s=style.size**2 * 0.6, color=style.colour, edgecolors="white", linewidths=0.5,
        alpha=0.8, label="evaluated", zorder=2,
    )  # fmt: skip
    xs, ys = zip(*curve.best, strict=True)
    axes.plot(
        xs, ys, drawstyle="steps-post", color=front.colour, linewidth=1.5, marker=front.marker, markersize=5, zorder=3,
        label="best with so many or fewer",
    )  # fmt: skip
    axes.set_xlim(*show_range(curve.shares, xs))
    axes.set_ylim(*show_range(curve.values, ys))
    if curve.knee is not None:
        up = -1 if curve.objective.direction == "max" else 1
        axes.annotate(
            f"knee: {curve.knee[0]:.0f} %", curve.knee, (14, 26 * up), textcoords="offset points", fontsize=9,
            color=_INK, va="center", zorder=7,
            arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 0.8, "shrinkB": 5},
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": _INK, "linewidth": 0.6},
        )  # fmt: skip
    axes.set_xlabel("experts kept [% of the model's]")
    axes.set_ylabel(Axis(curve.objective.metric, curve.objective.direction).label)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
    axes.set_title("Quality against experts kept", loc="left", fontsize=10, color=_INK)


def _grid(figure: Figure, axes: Axes, grid: data.Grid, title: str, names: tuple[str, str, str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    colours: Any = LinearSegmentedColormap.from_list("shares", ["#eef3f8", "#6aaed6", "#08519c"])
    drawn = axes.imshow(grid.values, cmap=colours, vmin=0, vmax=grid.limit, aspect="auto", interpolation="nearest")
    x, y, scale = names
    figure.colorbar(drawn, ax=axes, label=scale, pad=0.02, aspect=24)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for side, labels in ((axes.xaxis, grid.columns), (axes.yaxis, grid.rows)):
        if len(labels) <= 16:
            side.set_ticks(range(len(labels)), labels)
        else:
            side.set_major_locator(MaxNLocator(12, integer=True))
            side.set_major_formatter(_labels(labels))
    axes.tick_params(length=2, labelsize=8)
    heading = axes.set_title(title, loc="left", fontsize=10, color=_INK)
    heading.set_parse_math(False)


def _labels(labels: list[str]) -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda place, _: labels[round(place)] if 0 <= round(place) < len(labels) else "")
