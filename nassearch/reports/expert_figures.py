"""The interactive figures of expert configurations, as data for plotly.js."""

from __future__ import annotations

import html
from typing import Any

from nassearch.finish import format_number
from nassearch.reports.axes import Axis, show_range
from nassearch.reports.expert_data import Curve, Grid
from nassearch.reports.figures import ROOM_FOR_SCALE, SHARES, Figure, layout_of, trace
from nassearch.reports.view import STYLES


def grid_figure(grid: Grid, x: str, y: str, scale: str) -> Figure:
    """Return a heat map.

    Args:
        grid: What it shows.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        scale: Title of the colour scale.
    """
    tips = [[html.escape(t) for t in line] for line in grid.tips]
    data: dict[str, Any] = {
        "type": "heatmap", "z": grid.values.round(3).tolist(), "x": grid.columns, "y": grid.rows,
        "customdata": tips, "hovertemplate": "%{customdata}<extra></extra>", "colorscale": SHARES,
        "zmin": 0, "zmax": grid.limit, "xgap": 1, "ygap": 1,
        "colorbar": {"title": {"text": html.escape(scale), "side": "top"}, "orientation": "h", "thickness": 10,
                     "len": 0.7, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "ypad": 4},
    }  # fmt: skip
    layout = layout_of(x, y, None, None)
    many = len(grid.columns) > 24
    layout["xaxis"] |= {"type": "category", "showgrid": False, **({"nticks": 12} if many else {"dtick": 1})}
    layout["yaxis"] |= {"type": "category", "showgrid": False, "autorange": "reversed"}
    layout["yaxis"] |= {"nticks": 16} if len(grid.rows) > 24 else {"dtick": 1}
    layout["height"] = 150 + max(90, 20 * min(len(grid.rows), 32))
    layout["margin"]["t"] = ROOM_FOR_SCALE
    return {"data": [data], "layout": layout}


def curve_figure(curve: Curve) -> Figure:
    """Return quality against the share of experts kept, with its knee."""
    style, front = STYLES["evaluated"], STYLES["front"]
    name = curve.objective.metric
    text = [
        f"<b>#{i}</b><br>{html.escape(name)} {format_number(v)}<br>{s:.0f} % of the experts"
        for i, s, v in zip(curve.ids, curve.shares, curve.values, strict=True)
    ]
    xs, ys = ([p[i] for p in curve.best] for i in (0, 1))
    axis = Axis(name, curve.objective.direction)
    data = [
        trace(curve.shares, curve.values, "markers", "evaluated", text=text, hovertemplate="%{text}<extra></extra>",
              marker={"symbol": style.symbol, "size": style.size + 1, "color": style.colour, "opacity": 0.8}),
        trace(xs, ys, "lines+markers", "best with so many experts or fewer",
              line={"color": front.colour, "width": 1.8, "shape": "hv"}, hoverinfo="skip",
              marker={"symbol": front.symbol, "size": front.size, "color": front.colour}),
    ]  # fmt: skip
    layout = layout_of(
        "experts kept [% of the model's]", axis.label, show_range(curve.shares, xs), show_range(curve.values, ys)
    )
    if curve.knee is not None:
        up = -1 if curve.objective.direction == "min" else 1
        layout["annotations"] = [
            {"x": curve.knee[0], "y": curve.knee[1], "text": f"knee: {curve.knee[0]:.0f} %", "ax": -40, "ay": -34 * up,
             "arrowhead": 0, "arrowwidth": 1, "standoff": 6, "boxed": True}
        ]  # fmt: skip
    return {"data": data, "layout": layout}
