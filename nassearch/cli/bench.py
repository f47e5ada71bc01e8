"""`nassearch bench`: compares search strategies on problems whose answers are in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nassearch.cli.options import AsJson, print_json

if TYPE_CHECKING:
    from nassearch.bench import BenchResult
    from nassearch.bench.pool import Finished
    from nassearch.console import Console

_HELP = """Compare search strategies on tables of measured networks, where an evaluation costs nothing.

A problem is NAME:PATH with options; your own table is [bold]table:FILE.json[/] or [bold].npz[/]. Every finished trial
is saved at once: the same command again goes on where it was stopped, and more seeds or strategies join what is there.

[bold]Examples[/]

  nassearch bench --problem nas-bench-201:DIR,device=raspi4 --strategy linas --strategy nsga2 --seeds 5 --workers 2

  nassearch bench --problem nas-bench-201:DIR,accuracy=val12_cifar100,report=test200_cifar100 --strategy linas

  nassearch bench --problem ofa-mobilenetv3:DIR --strategy linas --strategy linas,startup=40 --baseline nsga2

  nassearch bench --problem ofa-mobilenetv3:DIR -o top1:max -c "latency_ms <= 30" --strategy linas --strategy random

  nassearch bench --problem table:mine.json --strategy linas --strategy random --budget 100 --json

  nassearch bench --list
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench", help=_HELP)(bench)


def bench(
    problem: Annotated[
        list[str] | None, typer.Option("--problem", "-p", metavar="NAME:PATH[,OPTION=VALUE…]", help="Repeatable.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", metavar="NAME[,OPTION=VALUE…]", help="Repeatable. Default: linas and random."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trials of each strategy on each problem.")] = 5,
    budget: Annotated[int, typer.Option(help="Distinct networks that a trial evaluates.")] = 400,
    batch_size: Annotated[int, typer.Option(help="Proposals a batch.")] = 10,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", "-o", metavar="METRIC:max|min", help="Instead of the tables' own; repeatable."),
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option("--constraint", "-c", help="e.g. 'latency_ms <= 30'; repeatable.")
    ] = None,
    checkpoint: Annotated[
        list[int] | None, typer.Option(help="Evaluations at which the table compares; repeatable.")
    ] = None,
    target: Annotated[list[float] | None, typer.Option(help="Score to be reached; repeatable.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Strategy that others are compared with. Default: random, or the first.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Trials at a time; more than one run on Ray.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each trial.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster: auto, HOST:PORT or ray://HOST:10001.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for trials, tables, curves and report.")] = Path("bench"),
    plugin: Annotated[
        list[str] | None, typer.Option(help="Python module that registers strategies, spaces or readers; repeatable.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the kinds of problems and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare strategies, and print and write what was found."""
    from nassearch.bench import bench as run_bench
    from nassearch.bench import list_readers
    from nassearch.config import import_plugins
    from nassearch.console import make_console

    import_plugins(plugin or [])
    if list_:
        _print_readers(list_readers(), as_json)
        return
    console = make_console(stderr=as_json)
    result = run_bench(
        problem or [],
        strategy or ["linas", "random"],
        seeds=seeds,
        budget=budget,
        batch_size=batch_size,
        objectives=objective,
        constraints=constraint,
        workers=workers,
        threads=threads,
        out=out,
        checkpoints=checkpoint,
        targets=target,
        baseline=baseline,
        address=address,
        plugins=plugin or [],
        progress=_Line(console),
    )
    if as_json:
        print_json({"folder": str(out), **result.to_json()})
        return
    _print(result, console, out)


class _Line:
    """Prints a line for each finished trial."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, finished: Finished, done: int, of: int) -> None:
        if finished.error is not None:
            outcome = f"failed: {finished.error}"
        else:
            last = finished.points[-1]
            outcome = f"score {last.score:.4f} after {last.evaluations} evaluations, {last.own_s:.1f} s of its own"
        self._console.print(f"{done}/{of}  {finished.trial}: {outcome}", markup=False, soft_wrap=True)


def _print_readers(readers: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in readers.items()])
        return
    from nassearch.console import make_console

    for name, summary in readers.items():
        make_console().print(f"{name}:PATH  {summary}", markup=False)


def _print(result: BenchResult, console: Console, out: Path) -> None:
    from nassearch.bench import texts

    for name in result.problems:
        console.print(f"\n{name}: {texts.goal_text(result, name)}", markup=False, soft_wrap=True)
        title = f"score: {texts.score_name(result, name)}; median"
        _print_table(console, title, *texts.score_table(result, name, quartiles=False))
        if values := texts.value_table(result, name):
            _print_table(console, "best value, median", *values)
        _print_table(console, "evaluations to a score, median", *texts.target_table(result, name))
    console.print(f"\nwritten: {out}/report.html, summary.md, comparison.csv, evaluations_to_target.csv, curves.png",
                  markup=False)  # fmt: skip


def _print_table(console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in head:
        table.add_column(Text(column), justify="left" if column == head[0] else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
