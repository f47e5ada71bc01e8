"""What a report shows of expert configurations, independent of the library that draws it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.metrics import ANALYTIC, is_measured
from nassearch.objectives import Objective
from nassearch.pareto import knee
from nassearch.runs import EXPLANATION_FILE, Record, Run
from search_spaces import Gene

ROLE = "experts"
_ITSELF = ("kept", "shared")
_WHOLE = {"dense": 1, "skip": 0}
_MOST_MEMBERS = 24


@dataclass(frozen=True)
class Grid:
    """A heat map.

    Attributes:
        rows: Labels from top to bottom.
        columns: Labels.
        values: float64 ``[rows, columns]``.
        limit: Greatest value of the scale.
        tips: What hovering over a cell shows, ``[rows][columns]``.
    """

    rows: list[str]
    columns: list[str]
    values: NDArray[np.float64]
    limit: float
    tips: list[list[str]]


@dataclass(frozen=True)
class Curve:
    """Quality against how much of the experts is kept.

    Attributes:
        objective: The quality.
        shares: Experts kept of each evaluation, percent of the model's.
        values: Quality of each.
        ids: Number of each.
        best: Share and quality of the evaluations that no smaller or equal one beats, ascending in share.
        knee: The place among these beyond which fewer experts cost most; None where they are fewer than three.
    """

    objective: Objective
    shares: list[float]
    values: list[float]
    ids: list[int]
    best: list[tuple[float, float]]
    knee: tuple[float, float] | None


def has_experts(run: Run) -> bool:
    """Return whether the run's space varies how many experts layers keep."""
    return any(g.role == ROLE for g in run.space.genes)


def experts_of(run: Run, record: Record, gene: Gene) -> tuple[int, str]:
    """Return how many experts a layer has, and what became of the others or of the whole block.

    A block that is dense or skipped has one or none, whatever its gene of experts kept says.

    Args:
        run: The run.
        record: One of its evaluations.
        gene: Of the experts kept.
    """
    beside = {g.role: str(record.arch[g.name]) for g in run.space.genes if g.layer == gene.layer}
    if (kind := beside.get("block", "")) in _WHOLE:
        return _WHOLE[kind], kind
    kept = int(record.arch[gene.name])
    return kept, beside.get("operator", "") if kept < int(max(gene.choices)) else ""


def kept_share(run: Run, record: Record) -> float:
    """Return the mean over the layers of experts kept, percent of the most."""
    genes = [g for g in run.space.genes if g.role == ROLE]
    return 100.0 * float(np.mean([experts_of(run, record, g)[0] / float(max(g.choices)) for g in genes]))


def quality_curve(run: Run) -> Curve | None:
    """Return quality against the share of experts kept; None where no objective tells quality, or too few ran.

    Its knee is the pruning factor of UNCURL (arXiv:2409.01483) beyond which quality collapses.
    """
    objective = next((o for o in run.goal.objectives if o.metric not in ANALYTIC and not is_measured(o.metric)), None)
    if objective is None or not has_experts(run):
        return None
    done = [r for r in run.records if math.isfinite(r.values.get(objective.metric, math.nan))]
    if len(done) < 3:
        return None
    shares = [kept_share(run, r) for r in done]
    values = [r.values[objective.metric] for r in done]
    best: list[tuple[float, float]] = []
    for share, value in sorted(zip(shares, values, strict=True), key=lambda p: (p[0], objective.sign * p[1])):
        if not best or objective.sign * value < objective.sign * best[-1][1]:
            best.append((share, value))
    bend = None
    if len(best) > 2:
        rows = np.array(best)
        bend = best[knee(rows, [Objective("share", "min"), objective])]
    return Curve(objective, shares, values, [r.id for r in done], best, bend)


def members_grid(run: Run) -> Grid | None:
    """Return how many experts each layer keeps in the members of the front; None where layers do not differ."""
    genes = [g for g in run.space.genes if g.role == ROLE]
    if len(genes) < 2 or not run.front:
        return None
    most = max(float(max(g.choices)) for g in genes)
    shown = run.front
    if len(shown) > _MOST_MEMBERS:
        shown = [shown[round(i)] for i in np.linspace(0, len(shown) - 1, _MOST_MEMBERS)]
    found = [[experts_of(run, r, g) for g in genes] for r in shown]
    columns = [str(i if g.layer is None else g.layer) for i, g in enumerate(genes)]
    tips = [
        [
            f"#{r.id}, layer {gene.layer}: {n} of {max(gene.choices)}{f', {how}' if how else ''}"
            for gene, (n, how) in zip(genes, line, strict=True)
        ]
        for r, line in zip(shown, found, strict=True)
    ]
    values = np.array([[float(n) for n, _ in line] for line in found])
    return Grid([f"#{r.id}" for r in shown], columns, values, most, tips)


def explanation(run: Run) -> dict[str, Any] | None:
    """Return what the run wrote of its experts; None where it did not, or where it is damaged."""
    try:
        found = json.loads((run.folder / EXPLANATION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    wanted = {"kind", "layers", "n_experts", "states", "usage", "subnets", "ids"}
    return found if isinstance(found, dict) and wanted <= set(found) and found["kind"] == "experts" else None


def kept_grid(told: dict[str, Any]) -> Grid | None:
    """Return in how many percent of the front's members each expert of each layer answers for itself.

    Those that answer every token do; those that answer for others, too, have changed.
    """
    if not told["subnets"]:
        return None
    states, names = np.array(told["subnets"], dtype=np.int64), told["states"]
    values = 100.0 * np.isin(states, [names.index(n) for n in _ITSELF if n in names]).mean(0)
    tips = []
    for block, layer in enumerate(told["layers"]):
        line = []
        for e in range(told["n_experts"]):
            counts = np.bincount(states[:, block, e], minlength=len(names))
            parts = [f"{n} in {c}" for n, c in zip(names, counts.tolist(), strict=True) if c]
            line.append(f"layer {layer}, expert {e}: {', '.join(reversed(parts))} of {len(states)} members")
        tips.append(line)
    return Grid([str(n) for n in told["layers"]], _numbers(told), values, 100.0, tips)


def usage_grids(told: dict[str, Any]) -> dict[str, Grid]:
    """Return how often each expert is asked, in multiples of an even share, by domain; all on one scale."""
    each = {name: told["n_experts"] * np.array(shares) for name, shares in told["usage"].items()}
    limit = max((float(v.max()) for v in each.values()), default=1.0)
    grids = {}
    for name, values in each.items():
        tips = [
            [f"{name}, layer {layer}, expert {e}: {v:.2f} times an even share" for e, v in enumerate(line)]
            for layer, line in zip(told["layers"], values.tolist(), strict=True)
        ]
        grids[name] = Grid([str(n) for n in told["layers"]], _numbers(told), values, limit, tips)
    return grids


def _numbers(told: dict[str, Any]) -> list[str]:
    return [str(e) for e in range(told["n_experts"])]
