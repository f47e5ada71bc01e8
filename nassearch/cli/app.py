"""The commands, in the order of use."""

from __future__ import annotations

from typing import Annotated

import typer

from nassearch import __version__
from nassearch.cli import bench, catalog, deliver, gap, inspect, measure, predictors, profile, remote, run

app = typer.Typer(
    name="nassearch",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help=(
        "Hardware-aware neural architecture search: the Pareto front of a model's sub-networks for your hardware."
        "\n\nStart with [bold]nassearch run --space mobilenetv3-tiny --task digits --objective top1:max "
        "--objective latency_ms:min --num-evals 50[/]. [bold]--debug[/] shows tracebacks."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that come before a command."""


for module in (run, profile, measure, catalog, bench, inspect, predictors, gap, deliver, remote):
    module.register(app)
