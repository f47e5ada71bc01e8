"""The interactive figures of a report, as data for plotly.js: building them needs no plotly."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nassearch.finish import format_number
from nassearch.reports.architectures import compact, gene_shares
from nassearch.reports.axes import Axis, axis_of, show_range, unit_of
from nassearch.reports.history import Forecast, Progress
from nassearch.reports.view import STYLES, FrontView, Point
from nassearch.runs import Record, Run

Figure = dict[str, Any]

_LINE = {"color": STYLES["front"].colour, "width": 1.6}
_LEGEND = {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"}
ROOM_FOR_SCALE = 70  # pixels above the plot for a colour scale, its ticks and its title
SHARES = [[0, "#eef3f8"], [0.5, "#6aaed6"], [1, "#08519c"]]
_WRAP = 44  # characters of a line of hover text


def pareto_figure(run: Run, view: FrontView) -> Figure:
    """Return the Pareto plot; hovering shows a network's values and architecture."""
    traces: list[dict[str, Any]] = []
    if view.line:
        xs, ys = _columns(view.line)
        traces.append(
            trace(xs, ys, "lines", view.line_label or "front", line={**_LINE, "shape": view.line_shape},
                   hoverinfo="skip", showlegend=bool(view.line_label))
        )  # fmt: skip
    if view.second:
        traces += _second_look(view)
    for other in view.others:
        text = [f"<b>{html.escape(other.label)}</b>, #{i}" for i in other.ids]
        traces.append(
            trace(*_columns(other.points), "lines+markers" if view.line else "markers", html.escape(other.label),
                  line={"color": other.colour, "width": 1.2, "dash": "dot", "shape": view.line_shape}, text=text,
                  marker={"symbol": "square", "size": 7, "color": other.colour},
                  hovertemplate="%{text}<br>%{y:.4g} at %{x:.4g}<extra></extra>")
        )  # fmt: skip
    for group in view.groups:
        style = STYLES[group.kind]
        marker: dict[str, Any] = {"symbol": style.symbol, "size": style.size + 1, "color": style.colour}
        if group.kind == "infeasible":
            marker["line"] = {"width": 1.4, "color": style.colour}
        elif group.kind == "front":
            marker["line"] = {"width": 1, "color": "#222222"}
            if view.colour is not None:
                marker |= _coloured([view.colour.of(r) for r in group.records], view.colour)
        else:
            marker["opacity"] = 0.8
        points = [view.point(r) for r in group.records]
        traces.append(
            trace(*_columns(points), "markers", group.label, marker=marker, text=hover(run, group.records),
                   hovertemplate="%{text}<extra></extra>")
        )  # fmt: skip
    layout = layout_of(view.x.label, view.y.label, view.x_range, view.y_range)
    layout["margin"]["t"] = ROOM_FOR_SCALE if view.colour is not None else layout["margin"]["t"]
    layout["shapes"], layout["annotations"] = _limits(view)
    if view.knee is not None:
        right, up = view.outward
        x, y = view.point(view.knee)
        layout["annotations"].append(
            {"x": x, "y": y, "text": f"knee: #{view.knee.id}", "ax": 34 * right, "ay": -30 * up, "arrowhead": 0,
             "arrowwidth": 1, "standoff": 6, "boxed": True}
        )  # fmt: skip
    return {"data": traces, "layout": layout}


def _second_look(view: FrontView) -> list[dict[str, Any]]:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for record, (x, y) in view.second:
        x0, y0 = view.point(record)
        xs += [x0, x, None]
        ys += [y0, y, None]
    points = [p for _, p in view.second]
    thin = {"color": "#888888", "width": 1}
    marker = {"symbol": "diamond-open", "size": 9, "color": STYLES["front"].colour, "line": {"width": 1.4}}
    text = [f"<b>#{r.id}</b>, second look<br>{_value(view.x, x)}<br>{_value(view.y, y)}" for r, (x, y) in view.second]
    return [
        trace(xs, ys, "lines", "", line=thin, hoverinfo="skip", showlegend=False),
        trace(*_columns(points), "markers", view.second_label, marker=marker, text=text,
               hovertemplate="%{text}<extra></extra>"),
    ]  # fmt: skip


def _value(axis: Axis, value: float) -> str:
    return f"{axis.metric} {format_number(value)}" if axis.metric else f"evaluation {value:.0f}"


def hover(run: Run, records: list[Record]) -> list[str]:
    """Return what hovering over each record shows, as the HTML subset of plotly; user's names are escaped."""
    texts = []
    for r, lines in zip(records, compact(run.space, records), strict=True):
        values = "<br>".join(f"{html.escape(m)} {format_number(v)}" for m, v in r.values.items())
        arch = "<br>".join(html.escape(part) for line in lines for part in _wrapped(line))
        texts.append(f"<b>#{r.id}</b>, batch {r.batch}<br>{values}<br>{arch}")
    return texts


def _wrapped(line: str) -> list[str]:
    import textwrap

    return textwrap.wrap(line, _WRAP, subsequent_indent="   ") or [""]


def _limits(view: FrontView) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    shapes, annotations = [], []
    for limit in view.limits:
        along: dict[str, Any] = {"line": {"width": 1.2, "dash": "dash"}, "type": "line", "ink": True}
        label: dict[str, Any] = {"text": html.escape(limit.label), "showarrow": False, "small": True}
        if limit.axis == "x":
            along |= {"x0": limit.value, "x1": limit.value, "y0": 0, "y1": 1, "yref": "paper"}
            label |= {"x": limit.value, "y": 0.01, "yref": "paper", "textangle": -90, "yanchor": "bottom"}
            label |= {"xanchor": "left" if limit.below else "right"}
        else:
            along |= {"y0": limit.value, "y1": limit.value, "x0": 0, "x1": 1, "xref": "paper"}
            label |= {"y": limit.value, "x": 1, "xref": "paper", "xanchor": "right"}
            label |= {"yanchor": "bottom" if limit.below else "top"}
        shapes.append(along)
        annotations.append(label)
    return shapes, annotations


def progress_figure(run: Run, found: Progress) -> Figure:
    """Return the hypervolume against evaluations, with the end of the start-up marked."""
    line = trace(
        found.ids, found.volumes, "lines", "hypervolume", line={**_LINE, "width": 2.2, "shape": "hv"},
        hovertemplate="after %{x} evaluations: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    unit = " · ".join(unit_of(o.metric) or o.metric for o in run.goal.objectives)
    layout = layout_of(Axis(None).label, f"hypervolume [{unit}]", None, None)
    start = max((r.id for r in run.records if r.batch < run.n_startup), default=0)
    if 0 < start < run.records[-1].id:
        layout["shapes"] = [
            {"type": "line", "x0": start, "x1": start, "y0": 0, "y1": 1, "yref": "paper", "ink": True,
             "line": {"width": 1, "dash": "dot"}}
        ]  # fmt: skip
        layout["annotations"] = [
            {"x": start, "y": 0.02, "yref": "paper", "text": "end of start-up", "showarrow": False, "xanchor": "left",
             "yanchor": "bottom", "small": True}
        ]  # fmt: skip
    return {"data": [line], "layout": layout}


def genes_figure(run: Run) -> Figure:
    """Return a heat map: how often each choice of each gene is on the front, beside all evaluated networks."""
    shares = gene_shares(run.space, run.front, [r for r in run.records if r.status == "ok"])
    columns = max(len(s.choices) for s in shares)
    z: list[list[float | None]] = []
    text: list[list[str]] = []
    tips: list[list[str]] = []
    for s in shares:
        cells, words, hints = [], [], []
        for i in range(columns):
            there = i < len(s.choices)
            share = float(s.front[i]) if there else math.nan
            known = not math.isnan(share)
            cells.append(round(100 * share, 1) if known else None)
            word = f"{html.escape(s.choices[i])}: {100 * share:.0f} % ({100 * s.evaluated[i]:.0f})" if known else ""
            words.append(word if columns <= 5 else "")
            if there:
                of_all = f"{100 * s.evaluated[i]:.0f} %" if not math.isnan(s.evaluated[i]) else "never active"
                of_front = f"{100 * share:.0f} % of {s.n_front}" if known else "never active"
                hints.append(
                    f"{html.escape(s.name)} = {html.escape(s.choices[i])}<br>front: {of_front}<br>evaluated: {of_all}"
                )
            else:
                hints.append("")
        z.append(cells)
        text.append(words)
        tips.append(hints)
    cells_trace = {
        "type": "heatmap", "z": z, "text": text, "texttemplate": "%{text}", "customdata": tips, "zmin": 0, "zmax": 100,
        "x": [_ordinal(i) for i in range(columns)], "y": [html.escape(s.name) for s in shares],
        "colorscale": SHARES, "hovertemplate": "%{customdata}<extra></extra>", "hoverongaps": False,
        "xgap": 2, "ygap": 2,
        "colorbar": {"title": {"text": "share of the front [%]", "side": "top"}, "orientation": "h", "thickness": 10,
                     "len": 0.7, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "ypad": 4},
    }  # fmt: skip
    layout = layout_of("choice, in the order of the space", "", None, None)
    layout["yaxis"] |= {"autorange": "reversed", "automargin": True, "type": "category", "dtick": 1, "showgrid": False}
    layout["xaxis"] |= {"type": "category", "showgrid": False}
    layout["height"] = 150 + 22 * len(shares)
    layout["margin"]["t"] = ROOM_FOR_SCALE
    return {"data": [cells_trace], "layout": layout}


def _ordinal(i: int) -> str:
    return {0: "1st", 1: "2nd", 2: "3rd"}.get(i, f"{i + 1}th")


def forecast_range(found: Forecast) -> tuple[float, float]:
    """Return the range of both axes of `forecast_figure`."""
    return show_range(np.concatenate([found.predicted, found.measured]))


def forecast_figure(run: Run, found: Forecast) -> Figure:
    """Return predicted against measured values, coloured by batch, with the diagonal of perfect predictions."""
    axis = axis_of(run, found.metric)
    span = forecast_range(found)
    text = [
        f"<b>#{r.id}</b>, batch {r.batch}<br>predicted {format_number(p)}<br>then {format_number(v)}"
        for r, p, v in zip(found.records, found.predicted.tolist(), found.measured.tolist(), strict=True)
    ]
    batches = [r.batch for r in found.records]
    marker: dict[str, Any] = {"size": 8, "line": {"width": 0.5, "color": "#888888"}}
    if min(batches) < max(batches):
        marker |= _coloured([float(b) for b in batches], None)
    else:
        marker["color"] = STYLES["evaluated"].colour
    name = html.escape(found.metric)
    unit = f" [{unit_of(found.metric)}]" if unit_of(found.metric) else ""
    data = [
        trace(span, span, "lines", "perfect", line={"color": "#888888", "width": 1, "dash": "dash"},
               hoverinfo="skip", showlegend=False),
        trace(found.predicted.tolist(), found.measured.tolist(), "markers", axis.label, marker=marker, text=text,
               hovertemplate="%{text}<extra></extra>", showlegend=False),
    ]  # fmt: skip
    layout = layout_of(f"predicted {name}{unit}", f"{name}{unit} as evaluated", span, span)
    layout["margin"]["t"] = ROOM_FOR_SCALE if "colorbar" in marker else layout["margin"]["t"]
    return {"data": data, "layout": layout}


def _coloured(values: list[float], axis: Axis | None) -> dict[str, Any]:
    title = f"front: {axis.label}" if axis else "batch"
    bar = {"title": {"text": title, "side": "top"}, "orientation": "h", "thickness": 10, "len": 0.7, "x": 0,
           "xanchor": "left", "y": 1, "yanchor": "bottom", "ypad": 4}  # fmt: skip
    return {"color": values, "colorscale": "Cividis", "showscale": True, "colorbar": bar}


def _columns(points: Iterable[Point]) -> tuple[list[float], list[float]]:
    xs, ys = zip(*points, strict=True)
    return list(xs), list(ys)


def trace(xs: Any, ys: Any, mode: str, name: str, **more: Any) -> dict[str, Any]:
    """Return points or lines."""
    return {"type": "scatter", "x": list(xs), "y": list(ys), "mode": mode, "name": name, **more}


def layout_of(
    x: str, y: str, x_range: tuple[float, float] | None, y_range: tuple[float, float] | None
) -> dict[str, Any]:
    """Return a layout without colours: the page sets those to fit its light or dark scheme."""
    axes: list[dict[str, Any]] = []
    for label, span in ((x, x_range), (y, y_range)):
        axis: dict[str, Any] = {"title": {"text": html.escape(label)}, "zeroline": False, "automargin": True}
        if span is not None:
            axis["range"] = list(span)
        axes.append(axis)
    margin = {"l": 56, "r": 14, "t": 34, "b": 48}
    return {
        "xaxis": axes[0], "yaxis": axes[1], "legend": dict(_LEGEND), "hovermode": "closest", "margin": margin,
        "shapes": [], "annotations": [],
    }  # fmt: skip
