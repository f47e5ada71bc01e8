"""The tables of a comparison as texts, for terminals, Markdown and the report alike."""

from __future__ import annotations

import math

from nassearch.bench.result import BenchResult

Table = tuple[list[str], list[list[str]]]
"""Head and rows."""


def score_table(result: BenchResult, problem: str, *, quartiles: bool = True) -> Table:
    """Return the comparison on one problem as texts: a row a strategy, a column a checkpoint."""
    rows = [r for r in result.comparison() if r.problem == problem]
    head = ["strategy", "seeds", *map(str, result.checkpoints), "own time"]
    table = []
    for strategy in result.strategies(problem):
        mine = [r for r in rows if r.strategy == strategy]
        cells = [f"{r.score[1]:.3f}" + (f" ({r.score[0]:.3f}-{r.score[2]:.3f})" if quartiles else "") for r in mine]
        table.append([strategy, str(mine[-1].seeds), *cells, f"{mine[-1].own_s:.1f} s"])
    return head, table


def value_table(result: BenchResult, problem: str) -> Table | None:
    """Return the best values, and regrets where they are known, of a problem with one objective; else None."""
    rows = [r for r in result.comparison() if r.problem == problem]
    if not rows or rows[0].best is None:
        return None
    head = ["strategy", *(f"{n}" for n in result.checkpoints)]
    table = []
    for strategy in result.strategies(problem):
        cells = []
        for r in (r for r in rows if r.strategy == strategy and r.best is not None):
            regret = f", regret {r.regret[1]:.3g}" if r.regret else ""
            value = f"{r.best[1]:.5g}" if r.best and math.isfinite(r.best[1]) else "none"
            cells.append(value + (regret if value != "none" else ""))
        table.append([strategy, *cells])
    return head, table


def target_table(result: BenchResult, problem: str) -> Table:
    """Return evaluations to targets on one problem as texts: a row a strategy, a column a target."""
    rows = [r for r in result.evaluations_to_target() if r.problem == problem]
    targets = result.targets(problem)
    marked = [f"{t:.3f} ({result.baseline} at the end)" if base else f"{t:g}" for t, base in targets]
    table = []
    for strategy in result.strategies(problem):
        cells = []
        for target in targets:
            (r,) = [r for r in rows if r.strategy == strategy and (r.target, r.of_baseline) == target]
            median = f"{r.evaluations[1]:.0f}" if math.isfinite(r.evaluations[1]) else f"> {result.settings.budget}"
            times = f" ({r.ratio:.1f}x)" if math.isfinite(r.ratio) and strategy != result.baseline else ""
            some = f" [{r.reached}/{r.seeds}]" if r.reached < r.seeds else ""
            cells.append(median + times + some)
        table.append([strategy, *cells])
    return ["strategy", *marked], table


def score_name(result: BenchResult, problem: str) -> str:
    """Return what the score of a problem is."""
    described = result.settings.problems[problem]
    if not described["front_known"]:
        return "hypervolume between ideal and nadir of a sample (no best front is known)"
    if len(described["objectives"]) == 1:
        return "1 - regret / range of the objective"
    return "hypervolume / that of the best front known"


def goal_text(result: BenchResult, problem: str) -> str:
    """Return objectives, constraints and what is reported, in one line."""
    described = result.settings.problems[problem]
    parts = [", ".join(described["objectives"])]
    if described["constraints"]:
        parts.append("with " + ", ".join(described["constraints"]))
    metrics = [text.rpartition(":")[0] for text in described["objectives"]]
    if described["reported"] != metrics:
        parts.append("judged by " + ", ".join(described["reported"]))
    return " ".join(parts)
