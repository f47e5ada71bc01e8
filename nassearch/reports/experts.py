"""The section of a report on expert configurations."""

from __future__ import annotations

from nassearch.finish import format_number
from nassearch.reports import expert_data as data
from nassearch.reports.expert_figures import curve_figure, grid_figure
from nassearch.reports.markup import Markup, section, tag
from nassearch.reports.results import Figures
from nassearch.reports.sections import register_section
from nassearch.runs import Run


@register_section
def experts(run: Run, figures: Figures) -> Markup:
    """Return which experts are kept, how often each is asked, and what keeping fewer costs."""
    if not data.has_experts(run):
        return Markup("")
    parts = [*_curve(run, figures), *_members(run, figures), *_told(run, figures)]
    return section("experts", "Experts", *parts) if parts else Markup("")


def _curve(run: Run, figures: Figures) -> list[Markup]:
    curve = data.quality_curve(run)
    if curve is None:
        return []
    name = curve.objective.metric
    text = (
        f"Each point is an evaluated configuration; the line is the best {name} with so many experts or fewer. Points "
        "above each other differ in where experts are kept, in which, and in what became of the others. "
    )
    if curve.knee is not None:
        text += (
            f"The line bends most at {curve.knee[0]:.0f} % of the experts ({name} {format_number(curve.knee[1])}): to "
            "the left of this knee each expert less costs more than to its right."
        )
    else:
        text += "It has too few corners for a knee."
    figure = figures.place(curve_figure(curve), f"{name} against the share of experts kept")
    return [tag("h3", "Quality against experts kept"), tag("p", text), figure]


def _members(run: Run, figures: Figures) -> list[Markup]:
    grid = data.members_grid(run)
    if grid is None:
        return []
    rows = f"{len(grid.rows)} of the {len(run.front)} members" if len(grid.rows) < len(run.front) else "The members"
    best = run.goal.objectives[0].metric
    text = f"{rows} of the front, best {best} on top, and how many experts each keeps in each layer."
    figure = figures.place(grid_figure(grid, "layer", "member", "experts kept"), "Experts kept, by member and layer")
    return [tag("h3", "Experts kept by layer"), tag("p", text), figure]


def _told(run: Run, figures: Figures) -> list[Markup]:
    told = data.explanation(run)
    if told is None:
        return []
    parts: list[Markup] = []
    kept = data.kept_grid(told)
    if kept is not None:
        text = (
            "In how many members of the front each expert answers for itself, for the tokens that ask it or (shared) "
            "for all. Hover for what became of it in the others: gone, a constant, or merged, where one expert answers "
            "for several."
        )
        figure = figures.place(
            grid_figure(kept, "expert", "layer", "members that keep it [%]"), "Which experts are kept"
        )
        parts += [tag("h3", "Which experts are kept"), tag("p", text), figure]
    grids = data.usage_grids(told)
    if grids:
        domains = [n for n in grids if n != "calibration"]
        text = (
            "How often the full model asks each expert, in multiples of an even share: 1 everywhere would be perfectly "
            "balanced. " + ("All domains are on one scale. " if domains else "")
        )
        parts += [tag("h3", "How often experts are asked"), tag("p", text)]
        placed = []
        for name, grid in grids.items():
            figure = figures.place(grid_figure(grid, "expert", "layer", "times an even share"), f"Usage: {name}")
            caption = "calibration split" if name == "calibration" else name
            placed.append(tag("figure", tag("figcaption", caption), figure))
        parts.append(tag("div", *placed, class_="grid") if len(placed) > 1 else placed[0])
    return parts
