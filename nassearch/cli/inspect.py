"""`nassearch status`, `front`, `plot`, `report`: reading a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.options import AsJson, RunFolder, print_json

Beside = Annotated[
    list[Path] | None, typer.Option(help="Another run, such as a baseline, whose front is drawn too; repeatable.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, front, plot, report):
        app.command(command.__name__)(command)


def status(run: RunFolder, as_json: AsJson = False) -> None:
    """Say how far a run is, what failed and why, and how to go on.

    [bold]Example[/]

      nassearch status results/demo
    """
    from nassearch.runs import Run

    found = Run(run)
    failed = [r for r in found.records if r.status != "ok"]
    budget = found.config.num_evals
    data = {
        "folder": str(run),
        "space": found.space.name,
        "task": found.config.task,
        "strategy": found.config.strategy,
        "evaluated": len(found.records),
        "in_flight_or_lost": found.n_proposed - len(found.records),
        "budget": budget,
        "failed": len(failed),
        "errors": dict(Counter(r.error or "?" for r in failed).most_common(10)),
        "front": [r.id for r in found.front],
        "reported": (run / "report.html").is_file(),
        "evaluation_s": sum(r.wall_s for r in found.records),
    }
    if as_json:
        print_json(data)
        return
    from nassearch.console import make_console

    console = make_console()
    console.print(f"{data['folder']}: {data['space']} on {data['task']} by {data['strategy']}")
    console.print(f"{data['evaluated']}/{budget} evaluated, {len(failed)} failed, front of {len(found.front)}")
    for error, count in Counter(r.error or "?" for r in failed).most_common(10):
        console.print(f"  [yellow]{count} x {error}[/]")
    if failed:
        console.print(f"evaluate them again: nassearch run --resume {run} --retry-failed")
    if len(found.records) < budget or not data["reported"]:
        console.print(f"not finished; go on with: nassearch run --resume {run}")


def front(run: RunFolder, as_json: AsJson = False) -> None:
    """Print the measured Pareto front.

    [bold]Examples[/]

      nassearch front results/demo

      nassearch front results/demo --json
    """
    from nassearch.finish import front_json, print_front
    from nassearch.runs import Run

    found = Run(run)
    if as_json:
        print_json(front_json(found))
        return
    from nassearch.console import make_console

    print_front(found, make_console())


def plot(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="Image file; .png, .svg or .pdf. Default: front.png of the run.")
    ] = None,
    x: Annotated[str | None, typer.Option(help="Metric of the horizontal axis. Default: the second objective.")] = None,
    y: Annotated[str | None, typer.Option(help="Metric of the vertical axis. Default: the first objective.")] = None,
    beside: Beside = None,
) -> None:
    """Draw the Pareto plot.

    [bold]Examples[/]

      nassearch plot results/demo

      nassearch plot results/demo --x macs_m --y top1 --out front.svg
    """
    from nassearch.reports import plot_front
    from nassearch.runs import Run

    target = out or run / "front.png"
    plot_front(Run(run), target, x=x, y=y, others=[Run(other) for other in beside or []])
    print(target)


def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="HTML file. Default: report.html of the run.")] = None,
    beside: Beside = None,
) -> None:
    """Write the report: one self-contained HTML file with all plots and tables.

    [bold]Examples[/]

      nassearch report results/demo

      nassearch report results/olmoe --beside results/olmoe-reap --beside results/olmoe-frequency
    """
    from nassearch.reports import write_report
    from nassearch.runs import Run

    print(write_report(Run(run), out, others=[Run(other) for other in beside or []]))
