"""The report of a comparison: one HTML file that needs no network and no other file."""

from __future__ import annotations

import html
from typing import Any

from nassearch import __version__
from nassearch.bench import texts
from nassearch.bench.curves import bands, grid, look, score_range
from nassearch.bench.result import BenchResult
from nassearch.reports.markup import Markup, facts, join, section, table, tag
from nassearch.reports.page import html_page


def render_page(result: BenchResult) -> str:
    """Return the report as one HTML text."""
    figures: dict[str, Any] = {}
    sections = []
    for i, problem in enumerate(result.problems):
        key = f"problem-{i}"
        figures[f"{key}-curves"] = _figure(result, problem)
        values = texts.value_table(result, problem)
        best = [tag("p", "Median of the best value.", class_="label"), table(*values)] if values else []
        sections.append(
            section(
                key,
                problem,
                tag("p", f"{texts.goal_text(result, problem)}. Score: {texts.score_name(result, problem)}."),
                tag("div", id=f"{key}-curves", class_="figure"),
                tag("p", "Score after so many evaluations: median and quartiles.", class_="label"),
                table(*texts.score_table(result, problem)),
                *best,
                tag(
                    "p",
                    f"Median evaluations to reach a score; in brackets how many times fewer than {result.baseline} "
                    "needs, and how many trials reach it.",
                    class_="label",
                ),
                table(*texts.target_table(result, problem)),
            )
        )
    s = result.settings
    head = join(
        [
            tag("h1", "Comparison of search strategies"),
            tag("p", "Lines are medians over seeds, bands their quartiles. Evaluations are distinct networks."),
            facts(
                {
                    "budget": f"{s.budget} evaluations",
                    "batch size": s.batch_size,
                    "strategies": list(s.strategies),
                    "baseline": result.baseline,
                }
            ),
        ]
    )
    body: list[Markup] = [head, *sections]
    return html_page("Comparison of strategies: nassearch", body, figures, f"Made by nassearch {__version__}.")


def _figure(result: BenchResult, problem: str) -> dict[str, Any]:
    at = grid(result, problem)
    order = list(result.settings.strategies)
    data: list[dict[str, Any]] = []
    for strategy in result.strategies(problem):
        low, middle, high = bands(result, problem, strategy, at)
        colour, dash = look(order.index(strategy))
        group = {"type": "scatter", "mode": "lines", "legendgroup": strategy}
        data.append(
            group | {"x": at + at[::-1], "y": high + low[::-1], "fill": "toself", "fillcolor": f"{colour}26",
                     "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        )  # fmt: skip
        name = html.escape(strategy)
        data.append(
            group | {"x": at, "y": middle, "name": name, "line": {"color": colour, "dash": dash, "width": 2},
                     "hovertemplate": f"{name}<br>after %{{x}}: %{{y:.4f}}<extra></extra>"}
        )  # fmt: skip
    axes: list[dict[str, Any]] = [
        {"title": {"text": text}, "zeroline": False, "automargin": True, "range": list(span)}
        for text, span in (("distinct evaluations", (0, max(at))), ("score", score_range(result, problem)))
    ]
    return {
        "data": data,
        "layout": {
            "xaxis": axes[0], "yaxis": axes[1], "hovermode": "closest", "shapes": [], "annotations": [],
            "margin": {"l": 56, "r": 14, "t": 34, "b": 48},
            "legend": {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
        },
    }  # fmt: skip
