"""`nassearch gap`: how much of the networks' own quality a supernet's weights show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nassearch.cli.options import AsJson, print_json

if TYPE_CHECKING:
    from nassearch.gap.comparison import Comparison
    from nassearch.gap.report import Report
    from nassearch.gap.statistics import Estimate

_HELP = """Train sampled architectures from scratch and compare them with what the supernet says of them.

Each network is cut out of the supernet's first weights and trained alone with the run's own recipe. Reported are mean
absolute error, bias, Kendall's tau and the regret of the network that the supernet ranks first, with 95 % bootstrap
intervals, beside those of the number of parameters. Every trained network is saved; called again, the command goes on
where it was stopped, and with more --architectures it adds to what is there.

[bold]Examples[/]

  nassearch gap results/demo --architectures 30

  nassearch gap runs/mixture --from runs/plain/gap

  nassearch gap --compare runs/plain runs/mixture
"""

_NAMES = {
    "mae": "mean absolute error",
    "bias": "bias",
    "mae_without_bias": "error without the bias",
    "kendall_tau": "Kendall's tau",
    "regret": "regret of the first",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gap", help=_HELP)(gap)


def gap(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folder; with --compare two or more reports or runs.")
    ],
    architectures: Annotated[int, typer.Option(help="How many networks are trained from scratch.")] = 30,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each training. Default: those of the run.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each network, which differ in their seed alone.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Of the sample and the first training. Default: the run's.")] = None,
    metric: Annotated[str | None, typer.Option(help="Quality to report. Default: the run's first objective.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="initial|random",
            help="First weights: those with which the run's training began (pre-trained ones, say), cut to size, or "
            "random ones. Default: initial, but random where the run started from a trained supernet.",
        ),
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="GAP", help="Take over results from scratch of another report.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report. Default: gap/ in the run.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare reports: differences to the first, on the same networks.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check everything, train what is missing, print, draw; or compare."""
    from nassearch.console import make_console
    from nassearch.errors import ConfigError
    from nassearch.gap import compare_gaps, measure_gap
    from nassearch.runs import Run

    console = make_console()
    if compare:
        found = compare_gaps(runs, metric)
        print_json(found.to_json()) if as_json else print_comparison(found, console)
        return
    if len(runs) != 1:
        raise ConfigError(f"{len(runs)} runs are given; give one, or --compare to compare their reports")
    report = measure_gap(
        Run(runs[0]),
        architectures=architectures,
        epochs=epochs,
        seeds=seeds,
        seed=seed,
        metric=metric,
        start=start,  # type: ignore[arg-type]  # checked there
        reuse=from_,
        out=out,
        console=make_console(stderr=True, quiet=as_json),
    )
    folder = out or runs[0] / "gap"
    if as_json:
        print_json({"folder": str(folder), **report.to_json()})
        return
    console.print(gap_table(report))
    for line in notes(report):
        console.print(line, markup=False)
    console.print(f"report: {folder / 'gap.json'}, {folder / 'gap.png'}; networks: {folder / 'gap.csv'}", markup=False)


def gap_table(report: Report) -> Any:
    """Return a report as a rich table."""
    from rich.table import Table

    q = report.qualities
    table = Table(
        title=f"{q.metric}: {len(q.genotypes)} networks with the supernet's weights and trained from scratch",
        title_justify="left",
        caption="[95 % interval over networks]; bias: inherited minus from scratch; error of the number of parameters: "
        "that of a line through the other networks",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("supernet", "number of parameters", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, name in _NAMES.items():
        parts = (report.supernet, report.trivial, report.advantage)
        table.add_row(name, *(_told(part[key]) if key in part else "" for part in parts))
    return table


def notes(report: Report) -> list[str]:
    """Return what a reader should know beside the table."""
    q = report.qualities
    lines = [f"from scratch: {q.scratch.min():.4g} to {q.scratch.max():.4g}, mean {q.scratch.mean():.4g}"]
    if q.seed_std is not None:
        lines.append(f"trainings that differ in their seed alone scatter by {q.seed_std:.3g} (standard deviation)")
    if q.failed:
        lines.append(f"{q.failed} architectures failed to train and are left out; gap.csv says why")
    return lines


def print_comparison(found: Comparison, console: Any) -> None:
    """Print the reports side by side, and the differences to the first."""
    from rich.table import Table

    n = len(found.reports[0].qualities.genotypes)
    table = Table(title=f"{found.metric}: {n} networks that all reports have", title_justify="left")
    table.add_column("")
    for name in found.names:
        table.add_column(name, justify="right", overflow="fold")
    for key, label in _NAMES.items():
        table.add_row(label, *(_told(r.supernet[key]) for r in found.reports))
        table.add_row("  minus the first", "", *(_told(d[key]) for d in found.differences), end_section=True)
    console.print(table)
    console.print("Intervals hold 95 % of resamples of the networks; the difference of two is paired.")
    if not found.same_scratch:
        console.print(
            "[yellow]The results from scratch differ between the reports, so the differences have their scatter too; "
            "--from takes over those of another report.[/]"
        )


def _told(e: Estimate) -> str:
    def number(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.3f}"

    return rf"{number(e.value)} \[{number(e.low)}, {number(e.high)}]"
