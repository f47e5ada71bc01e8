"""`nassearch predictors`: how well the metrics of a run can be predicted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nassearch.cli.options import AsJson, RunFolder, print_json

if TYPE_CHECKING:
    from nassearch.predictor_quality import MetricFits

_HELP = """Fit predictors to a run's evaluations and say how well they predict those they were not fitted on.

Figures are cross-validated: Kendall's tau and Spearman's rank correlation, mean absolute percentage error, the share
of values within 90 % split-conformal intervals, and tau after training on a part of the rows, which takes most of the
time: for the best one, unless --thorough asks for all. Metrics that are computed exactly are left out. The picture
shows the best predictor's values with intervals, and the learning curves.

[bold]Examples[/]

  nassearch predictors results/demo

  nassearch predictors results/demo --thorough

  nassearch predictors results/demo --predictor gp --predictor xgboost --metric latency_ms --save

  nassearch predictors runs/pi --prior runs/laptop

  nassearch predictors results/demo --table tiny.json --out predictors.svg
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predictors", help=_HELP)(predictors)


def predictors(
    run: RunFolder,
    predictor: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A predictor to fit. Default: auto and the single models.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A metric to predict. Default: all that are not computed.")
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run of the same space, on another device say: what it knows is transferred."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Block latencies from `nassearch measure`: predict by them too."),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Learning curves of all predictors, not of the best one alone.")
    ] = False,
    curves: Annotated[bool, typer.Option("--curves/--no-curves", help="Whether there are learning curves.")] = True,
    save: Annotated[
        bool, typer.Option("--save", help="Write the best predictor of each metric to predictors/ of the run.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Image file; .png, .svg or .pdf. Default: predictors.png of the run.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check everything, fit, print, draw."""
    from nassearch import predictor_quality as quality
    from nassearch.console import make_console
    from nassearch.errors import ConfigError
    from nassearch.progress import StepProgress
    from nassearch.reports.plots import check_image_path
    from nassearch.runs import Run

    if thorough and not curves:
        raise ConfigError("--thorough asks for all learning curves and --no-curves for none; leave one of them out")
    found_run, other = Run(run), Run(prior) if prior else None
    target = check_image_path(out or run / "predictors.png")
    names = quality.check_predictors(predictor or [])
    metrics = quality.chosen_metrics(found_run, metric or [])
    informed = []
    for name in metrics:
        quality.rows_of(found_run, name)
        if other is not None and (there := quality.metric_of_prior(found_run, other, name)) is not None:
            quality.rows_of(other, there, without=quality.shared_rows(found_run, name))
            informed.append(name)
    blocks, told = None, []
    if table is not None:
        from predictors import LatencyTable

        blocks = LatencyTable.load(table)
        told = quality.metrics_of_table(found_run, metrics, blocks, table)
        blocks.predict(blocks.space.smallest[None])  # an unfinished table says so now

    console = make_console(stderr=True, quiet=as_json)
    wanted: quality.Curves = "none" if not curves else "all" if thorough else "best"
    total = sum(
        quality.fits_to_make(names, prior=name in informed, table=name in told, curves=wanted) for name in metrics
    )
    with StepProgress(console, "predictors", total) as progress:
        found = [
            quality.fit_metric(
                found_run,
                name,
                names,
                prior=other,
                table=blocks if name in told else None,
                curves=wanted,
                tell=progress,
            )
            for name in metrics
        ]
    from nassearch.reports.predictor_plots import plot_predictors

    plot_predictors(found_run, found, target)
    saved = quality.save_best(found_run, found) if save else None
    if as_json:
        print_json(
            {
                "folder": str(run),
                "space": found_run.space.name,
                "metrics": {
                    one.metric: {"best": one.best.name, "predictors": [fit.to_json() for fit in one.fits]}
                    for one in found
                },
                "plot": str(target),
                "saved": str(saved) if saved else None,
            }
        )
        return
    out_console = make_console()
    for one in found:
        out_console.print(predictor_table(one))
    out_console.print(f"plot: {target}", markup=False)
    if saved:
        best = ", ".join(f"{one.metric}: {one.best.name}" for one in found)
        out_console.print(f"saved: {saved} ({best})", markup=False)


def predictor_table(one: MetricFits) -> Any:
    """Return the predictors of a metric as a rich table, the best one marked."""
    from rich.table import Table

    sizes = next(([point.n for point in fit.curve[:-1]] for fit in one.fits if fit.curve), [])
    table = Table(
        title=f"{one.metric}: {one.fits[0].quality.n} evaluations, each predicted by models that did not see it",
        title_justify="left",
        caption="* ranks best; covered: share within the 90 % conformal interval"
        + ("; tau N: after training on N rows" if sizes else ""),
        caption_justify="left",
    )
    table.add_column("predictor", no_wrap=True)
    for name in ("tau", "Spearman", "MAPE %", "covered", *(f"tau {n}" for n in sizes), "fit s"):
        table.add_column(name, justify="right")
    for fit in one.fits:
        quality = fit.quality
        curve = [_number(point.kendall_tau, 3) for point in fit.curve[:-1]] or [""] * len(sizes)
        basis = f" ({fit.basis})" if fit.basis and fit.basis != "sum" and not fit.name.endswith(fit.basis) else ""
        table.add_row(
            f"{fit.name}{basis}{' *' if fit is one.best else ''}",
            _number(quality.kendall_tau, 3),
            _number(quality.spearman, 3),
            _number(quality.mape, 2),
            f"{100 * fit.held_out.coverage:.0f} %",
            *curve,
            f"{fit.fit_s:.1f}",
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
