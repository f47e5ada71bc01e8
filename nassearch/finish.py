"""The end of a run: a second look at the front, its files and tables, predictors, the export."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.console import Console
from nassearch.devices import KnownDevices
from nassearch.evaluation import Job
from nassearch.executors import Executor
from nassearch.manifest import write_atomically, write_json
from nassearch.metrics import ANALYTIC, is_measured, told_beside
from nassearch.runs import EXPLANATION_FILE, Record, Run
from nassearch.store import Store

if TYPE_CHECKING:
    from rich.table import Table

    from nassearch.tasks import Task
    from supernets import Supernet


def review_front(executor: Executor, store: Store, run: Run, console: Console) -> None:
    """Measure the costs of each front member again, and score it on the report split.

    The search picked its front by the values it saw, lucky ones first; a second measurement and a split it
    never saw tell what a reader may expect.

    Args:
        executor: Evaluates, the one of the search.
        store: Where the second look is logged; members that have theirs are left alone.
        run: The run, searched to its end.
        console: Told about members that could not be evaluated again.

    Raises:
        EvaluationError: The costs would be measured on another device than before.
    """
    members = {r.id: r for r in run.front if not r.report}
    if not members:
        return
    devices = KnownDevices.of_store(store)
    executor.submit([Job(r.id, r.arch, "report") for r in members.values()])
    while executor.in_flight:
        for outcome in executor.wait():
            if outcome.status != "ok":
                console.print(f"[yellow]second look at #{outcome.id} failed: {outcome.error}[/]")
                continue
            devices.check(outcome.device)
            costs = {m: v for m, v in outcome.values.items() if is_measured(m)}
            report = {m: v for m, v in outcome.values.items() if outcome.measured.get(m) == "report-split"}
            store.append_final(outcome.id, costs, report, outcome.device)


def save_predictors(run: Run, net: Supernet, console: Console) -> None:
    """Fit a predictor to every evaluated objective that is not analytic, and save it with its quality.

    A metric that cannot be fitted costs its predictor and a warning, not the run's report.
    """
    from predictors import make_predictor
    from predictors.errors import PredictorsError

    done = [r for r in run.records if r.status == "ok"]
    if len(done) < 10:
        return
    X = net.space.features(np.array([r.row for r in done], dtype=np.int64))
    folder = run.folder / "predictors"
    folder.mkdir(exist_ok=True)
    summary: dict[str, Any] = {}
    for objective in run.goal.objectives:
        if objective.metric in ANALYTIC:
            continue
        y = np.array([r.values[objective.metric] for r in done])
        try:
            predictor = make_predictor("auto", seed=run.config.seed).fit(X, y)
            predictor.save(folder / objective.metric)
        except PredictorsError as error:
            console.print(f"[yellow]no predictor of {objective.metric}: {error}[/]")
            continue
        summary[objective.metric] = {"predictor": "auto", **predictor.quality.to_json()}
    write_json(folder / "quality.json", summary)


def save_explanation(run: Run, net: Supernet, task: Task) -> None:
    """Write what the supernet's family has to show of itself and of the front, if anything, for the report."""
    members = run.front
    domains = task.inputs_by_domain("calibration", run.config.evaluation.batch_size)
    shown = net.explain([r.arch for r in members], domains if len(domains) > 1 else {})
    if shown:
        write_json(run.folder / EXPLANATION_FILE, {"ids": [r.id for r in members], **shown})


def front_columns(run: Run) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return the metrics of the front: searched and told beside, computed, measured again, and of the report split."""
    front = run.front
    searched = []
    for metric in run.goal.metrics:
        searched.append(metric)
        other = told_beside(metric)
        if other is not None and other not in run.goal.metrics and any(other in r.values for r in front):
            searched.append(other)
    computed = [m for m in ANALYTIC if m not in searched and all(m in r.values for r in front)]
    again = [m for m in searched if any(m in r.remeasured for r in front)]
    report = [m for m in searched if any(m in r.report for r in front)]
    return searched, computed, again, report


def write_front(run: Run) -> None:
    """Write ``front.csv`` and ``front.json``: values the search saw, second measurements, report split, genes."""
    searched, computed, again, report = front_columns(run)
    genes = [g.name for g in run.space.genes]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["id", *searched, *computed, *(f"{m}_remeasured" for m in again), *(f"{m}_report" for m in report), *genes]
    )
    for r in run.front:
        writer.writerow(
            [r.id]
            + [r.values.get(m, "") for m in searched + computed]
            + [r.remeasured.get(m, "") for m in again]
            + [r.report.get(m, "") for m in report]
            + [r.arch[g] for g in genes]
        )
    write_atomically(run.folder / "front.csv", text.getvalue())
    write_atomically(run.folder / "front.json", json.dumps(front_json(run), indent=2) + "\n")


def front_json(run: Run) -> dict[str, Any]:
    """Return the front as JSON data."""
    return {
        "objectives": [str(o) for o in run.goal.objectives],
        "constraints": [str(c) for c in run.goal.constraints],
        "space": run.space.name,
        "n_evaluated": len(run.records),
        "front": [
            {
                "id": r.id,
                "search": dict(r.values),
                "std": dict(r.std),
                "remeasured": dict(r.remeasured),
                "report": dict(r.report),
                "reused": r.reused,
                "architecture": r.arch,
            }
            for r in run.front
        ],
    }


def front_table(run: Run) -> Table:
    """Return the measured front as a rich table, best first objective on top."""
    from rich.table import Table

    searched, computed, again, report = front_columns(run)
    table = Table(title=f"Pareto front of {run.space.name}: {len(run.front)} of {len(run.records)} evaluated networks")
    table.add_column("id", justify="right")
    for m in searched:
        table.add_column(f"{m}\n[dim]{'measured' if is_measured(m) else 'computed' if m in ANALYTIC else 'search'}[/]")
    for m in again:
        table.add_column(f"{m}\n[dim]again[/]")
    for m in report:
        table.add_column(f"{m}\n[dim]report[/]")
    for m in computed:
        table.add_column(f"{m}\n[dim]computed[/]")
    for column in table.columns:
        column.justify, column.overflow = "right", "fold"  # names of several devices must stay apart
    for r in run.front:
        cells = [format_number(r.values.get(m)) for m in searched] + [format_number(r.remeasured.get(m)) for m in again]
        cells += [format_number(r.report.get(m)) for m in report] + [format_number(r.values.get(m)) for m in computed]
        table.add_row(str(r.id), *cells)
    return table


def format_number(value: float | None) -> str:
    """Return a metric's value as tables show it; ``-`` for none."""
    if value is None:
        return "-"
    digits = 2 if abs(value) >= 10 else 3
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.4g}"


def print_front(run: Run, console: Console) -> None:
    """Print the front, or what kept it empty."""
    records: list[Record] = run.records
    failed = sum(r.status != "ok" for r in records)
    if not run.front:
        met = "none met every constraint" if run.goal.constraints else "none succeeded"
        console.print(f"[yellow]The front is empty: of {len(records)} evaluated networks {met}.[/]")
    else:
        console.print(front_table(run))
        for constraint in run.goal.constraints:
            console.print(f"constraint: {constraint}")
        console.print(
            "search: the split the search optimised; report: a split it never saw; again: measured once more "
            "after the search."
        )
    for line in reused_lines(run):
        console.print(line)
    if failed:
        console.print(f"[yellow]{failed} evaluations failed; `nassearch status {run.folder}` says why.[/]")


def reused_lines(run: Run) -> list[str]:
    """Return which values of the search were taken over from earlier runs instead of evaluated, a line a metric."""
    lines = []
    for metric in run.goal.metrics:
        found = [r.reused[metric] for r in run.records if metric in r.reused]
        if found:
            runs = ", ".join(dict.fromkeys(found))
            lines.append(f"{metric} of {len(found)} of the {len(run.records)} networks was reused from {runs}.")
    return lines


def export_chosen(run: Run, subnet: str, format: str, console: Console) -> None:
    """Export the subnet that the configuration names into ``exports/``."""
    from nassearch.exports import export

    result = export(run, subnet, format)
    console.print(f"Exported subnet #{result.record.id} ({subnet}) as {format}: {result.folder}")
