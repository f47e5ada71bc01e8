"""Sections of a report that say what was found: figures and tables of the evaluations."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nassearch.finish import format_number, front_columns
from nassearch.metrics import ANALYTIC, is_measured
from nassearch.reports.figures import (
    Figure,
    forecast_figure,
    forecast_range,
    genes_figure,
    pareto_figure,
    progress_figure,
)
from nassearch.reports.history import forecasts, progress
from nassearch.reports.markup import Markup, Number, facts, join, plain, section, table, tag
from nassearch.reports.view import make_view
from nassearch.runs import Record, Run

_SHOWN_FAILURES = 25


class Figures:
    """Collects the figures of a page; each gets a place in the text and its data at the end."""

    def __init__(self) -> None:
        self.data: dict[str, Figure] = {}

    def place(self, figure: Figure, description: str, *, square: bool = False) -> Markup:
        """Return the element in which the page's script draws a figure."""
        key = f"figure-{len(self.data) + 1}"
        self.data[key] = figure
        height = figure["layout"].get("height")
        more = {"style": f"height:{height}px"} if height else {}
        kind = "figure square" if square else "figure"
        return tag("div", id=key, class_=kind, role="img", aria_label=description, **more)


def summary(run: Run) -> Markup:
    """Return the numbers of the run as tiles."""
    records, front = run.records, run.front
    ok = [r for r in records if r.status == "ok"]
    outside = sum(not r.feasible for r in ok)
    tiles: list[tuple[str, str]] = [
        (str(len(records)), f"of {run.config.num_evals} networks evaluated"),
        (str(len(front)), "on the Pareto front"),
    ]
    for objective in run.goal.objectives:
        values = [r.values[objective.metric] for r in front]
        if values:
            best = max(values) if objective.direction == "max" else min(values)
            tiles.append((format_number(best), f"best {objective.metric} of the front"))
    if len(front) > 2 and len(run.goal.objectives) > 1:
        knee = run.select("knee")
        tiles.append((f"#{knee.id}", "knee of the front"))
    if run.goal.constraints:
        tiles.append((str(outside), "outside a constraint"))
    tiles.append((str(len(records) - len(ok)), "failed"))
    tiles.append((_duration(sum(r.wall_s for r in records)), "spent on evaluations"))
    return tag(
        "div",
        *(tag("div", tag("strong", n), tag("span", what), class_="tile") for n, what in tiles),
        class_="tiles",
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def pareto(run: Run, figures: Figures, others: Sequence[Run] = ()) -> Markup:
    """Return the Pareto plot; with more than two objectives the first against each other one."""
    first, *rest = [o.metric for o in run.goal.objectives]
    views = [make_view(run, m, first, others=others) for m in rest] or [make_view(run, others=others)]
    notes = list(dict.fromkeys(n for v in views for n in v.notes))
    if views[0].second:
        notes.append(
            "Hollow markers are the same networks at a second look, after the search: filled ones that lie far "
            "better than their hollow twin were partly luck."
        )
    if not any(v.groups for v in views):
        return section("front", "Pareto front", tag("p", " ".join(notes)))
    placed = [figures.place(pareto_figure(run, v), f"Pareto plot: {v.y.label} against {v.x.label}") for v in views]
    how = "Hover over a point for its values and architecture; drag to zoom, double-click to see everything."
    return section("front", "Pareto front", tag("p", " ".join([*notes, how])), *placed)


def front_members(run: Run) -> Markup:
    """Return the front as a table with the columns and the rounding of the terminal's."""
    if not run.front:
        return section("members", "Members of the front", tag("p", "There are none."))
    searched, computed, again, report = front_columns(run)
    head: list[object] = ["id"]
    for m in searched:
        head.append(_head(m, "measured" if is_measured(m) else "computed" if m in ANALYTIC else "search"))
    head += [_head(m, "again") for m in again] + [_head(m, "report") for m in report]
    head += [_head(m, "computed") for m in computed] + ["architecture"]
    from nassearch.reports.architectures import compact

    rows = []
    for r, lines in zip(run.front, compact(run.space, run.front), strict=True):
        cells: list[object] = [Number(r.id, f"#{r.id}")]
        cells += [_number(r.values.get(m)) for m in searched] + [_number(r.remeasured.get(m)) for m in again]
        cells += [_number(r.report.get(m)) for m in report] + [_number(r.values.get(m)) for m in computed]
        cells.append(tag("code", *(tag("span", line) for line in lines)))
        rows.append(cells)
    return section(
        "members",
        "Members of the front",
        tag("p", "Best first objective on top; click a column's head to sort. The words under the metrics are ",
            tag("a", "explained below", href="#glossary"), "."),
        table(head, rows, sortable=True),
    )  # fmt: skip


def _head(metric: str, kind: str) -> Markup:
    return join([metric, Markup("<br>"), tag("small", kind)])


def _number(value: float | None) -> object:
    return "-" if value is None else Number(value, format_number(value))


def search_progress(run: Run, figures: Figures) -> Markup:
    """Return hypervolume, or the best value so far, against evaluations."""
    if len(run.goal.objectives) == 1:
        return Markup("")  # the Pareto plot of one objective shows the best value so far already
    found = progress(run)
    if found is None:
        text = "No successful evaluation meets every constraint, so there is no hypervolume yet."
        return section("progress", "Progress of the search", tag("p", text))
    where = ", ".join(
        f"{o.metric} = {format_number(v)}" for o, v in zip(run.goal.objectives, found.reference.tolist(), strict=True)
    )
    rule = (
        "Hypervolume: what the front found so far dominates, up to a reference point. The reference is the worst value "
        f"of each objective among all {'feasible ' if run.goal.constraints else 'successful '}evaluations of this run "
        f"but far outliers (three interquartile ranges), and a tenth of the range beyond it: {where}. "
        + ("Only networks that meet every constraint count. " if run.goal.constraints else "")
        + "Runs with other evaluations have another reference: compare their hypervolumes only after computing both "
        "with one."
    )
    figure = figures.place(progress_figure(run, found), "Hypervolume against evaluations")
    return section("progress", "Progress of the search", tag("p", rule), figure)


def genes(run: Run, figures: Figures) -> Markup:
    """Return which choices the front prefers."""
    if not run.front:
        return Markup("")
    text = (
        f"Share of each choice among the {len(run.front)} members of the front, gene by gene, and in parentheses among "
        "all evaluated networks; each counted where the gene matters (a block that is skipped has no kernel size). "
        "A gene without colours matters in no member."
    )
    figure = figures.place(genes_figure(run), "Gene frequencies on the front")
    return section("genes", "What the front is made of", tag("p", text), figure)


def predictions(run: Run, figures: Figures) -> Markup:
    """Return predicted against evaluated values, and the quality of the predictors."""
    parts: list[Markup] = []
    for found in forecasts(run.records):
        tau = "undefined" if math.isnan(found.kendall_tau) else f"{found.kendall_tau:.2f}"
        caption = f"{found.metric}: {len(found.records)} predictions, Kendall's tau {tau}"
        low, high = forecast_range(found)
        outside = sum(not low <= v <= high for v in found.measured.tolist() + found.predicted.tolist())
        caption += f" ({outside} outside the axes)" if outside else ""
        figure = figures.place(forecast_figure(run, found), f"Predicted against evaluated {found.metric}", square=True)
        parts.append(tag("figure", tag("figcaption", caption), figure))
    content: list[object] = []
    if parts:
        text = (
            "What the strategy predicted of a network before it was evaluated, and what then came out. Networks were "
            "chosen because their predictions were good, so most fall short a little. Predictions only choose what to "
            "evaluate next; they are never results: no prediction is in the front or in any other table."
        )
        content += [tag("p", text), tag("div", *parts, class_="grid")]
    content += _quality(run)
    return section("predictors", "Predictions", *content) if content else Markup("")


def _quality(run: Run) -> list[Markup]:
    parts = []
    try:
        saved: Any = json.loads((run.folder / "predictors" / "quality.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        saved = None
    if isinstance(saved, dict) and saved:
        text = "Predictors saved with this run, fitted to all its evaluations; quality is cross-validated."
        parts += [tag("h3", "Predictors of this run"), tag("p", text), _by_metric(saved)]
    with run.open_store() as store:
        own = store.meta("diagnostics")
    if isinstance(own, dict):
        models = own.get("predictors")
        if isinstance(models, dict) and models and all(isinstance(v, dict) for v in models.values()):
            parts += [tag("h3", "The strategy's own models, at its last batch"), _by_metric(models)]
        other = {k.replace("_", " "): v for k, v in own.items() if k != "predictors"}
        parts += [tag("h3", "What the strategy says of itself"), facts(other)]
    return parts


def _by_metric(quality: dict[str, dict[str, Any]]) -> Markup:
    columns = list(dict.fromkeys(k for fields in quality.values() for k in fields))
    rows = [[metric, *(_figure(fields.get(c)) for c in columns)] for metric, fields in quality.items()]
    return table(["metric", *(_QUALITY.get(c, c.replace("_", " ")) for c in columns)], rows)


_QUALITY = {
    "kendall_tau": "Kendall's tau", "spearman": "Spearman's rho", "mape": "MAPE [%]", "rmse": "RMSE [unit]",
    "coverage": "coverage of intervals",
}  # fmt: skip


def _figure(value: Any) -> object:
    if value is None:
        return "-"
    if isinstance(value, float):
        return Number(value, f"{value:.3g}")
    return Number(value, str(value)) if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def failures(run: Run) -> Markup:
    """Return failed evaluations by their error."""
    failed = [r for r in run.records if r.status != "ok"]
    if not failed:
        return section("failures", "Failures", tag("p", "No evaluation failed."))
    counts = Counter(_error(r) for r in failed)
    rows = []
    for error, n in counts.most_common(_SHOWN_FAILURES):
        ids = [f"#{r.id}" for r in failed if _error(r) == error]
        shown = ", ".join(ids[:12]) + (" …" if len(ids) > 12 else "")
        rows.append([Number(n, str(n)), tag("code", error), shown])
    rest = len(counts) - _SHOWN_FAILURES
    more = [tag("p", f"{rest} more errors are in the store.")] if rest > 0 else []
    return section("failures", "Failures", table(["times", "error", "evaluations"], rows), *more)


def _error(record: Record) -> str:
    return record.error or "no error was recorded"
