"""The files of a comparison: tables as CSV and Markdown, curves as an image, a report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from nassearch.bench.curves import draw_curves
from nassearch.bench.page import render_page
from nassearch.bench.result import BenchResult
from nassearch.bench.texts import goal_text, score_name, score_table, target_table, value_table
from nassearch.manifest import write_atomically


def write_outputs(result: BenchResult, folder: Path) -> None:
    """Write ``comparison.csv``, ``evaluations_to_target.csv``, ``summary.md``, ``curves.png`` and ``report.html``."""
    write_atomically(folder / "comparison.csv", comparison_csv(result))
    write_atomically(folder / "evaluations_to_target.csv", targets_csv(result))
    write_atomically(folder / "summary.md", summary(result))
    draw_curves(result, folder / "curves.png")
    write_atomically(folder / "report.html", render_page(result))


def comparison_csv(result: BenchResult) -> str:
    """Return scores at checkpoints, one row a problem, strategy and checkpoint."""
    head = ["problem", "strategy", "evaluations", "seeds", "score_q1", "score_median", "score_q3"]
    head += ["best_q1", "best_median", "best_q3", "regret_median", "own_s_median"]
    rows = []
    for r in result.comparison():
        best = [f"{v:.6g}" for v in r.best] if r.best else ["", "", ""]
        regret = f"{r.regret[1]:.6g}" if r.regret else ""
        scores = [f"{v:.5f}" for v in r.score]
        rows.append([r.problem, r.strategy, r.evaluations, r.seeds, *scores, *best, regret, f"{r.own_s:.2f}"])
    return _csv(head, rows)


def targets_csv(result: BenchResult) -> str:
    """Return evaluations to targets, one row a problem, target and strategy; empty where a target is not reached."""
    head = ["problem", "target", "of_baseline", "strategy", "seeds", "reached", "q1", "median", "q3"]
    head += [f"times_fewer_than_{result.baseline}"]
    rows = []
    for r in result.evaluations_to_target():
        needed = [f"{v:.0f}" if math.isfinite(v) else "" for v in r.evaluations]
        ratio = f"{r.ratio:.2f}" if math.isfinite(r.ratio) else ""
        rows.append([r.problem, f"{r.target:.5g}", int(r.of_baseline), r.strategy, r.seeds, r.reached, *needed, ratio])
    return _csv(head, rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def summary(result: BenchResult) -> str:
    """Return all tables as Markdown."""
    s = result.settings
    lines = [f"Budget {s.budget} distinct evaluations, batches of {s.batch_size}. Median (quartiles) of the score.", ""]
    for problem in result.problems:
        lines += [f"## {problem}", "", f"{goal_text(result, problem)}. Score: {score_name(result, problem)}.", ""]
        lines += [*_markdown(*score_table(result, problem)), ""]
        if values := value_table(result, problem):
            lines += ["Median of the best value:", "", *_markdown(*values), ""]
        lines += [f"Median evaluations to a score (times fewer than {result.baseline}; trials that reach it):", ""]
        lines += [*_markdown(*target_table(result, problem)), ""]
    return "\n".join(lines)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    table = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
