"""`nassearch spaces`, `strategies`, `tasks`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from nassearch.cli.options import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("spaces")(spaces)
    app.command("strategies")(strategies)
    app.command("tasks")(tasks)


def spaces(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the search spaces, or show one gene by gene.

    [bold]Examples[/]

      nassearch spaces

      nassearch spaces "ofa-*" --json

      nassearch spaces mobilenetv3-tiny
    """
    from search_spaces import get_space, list_spaces, space_summary

    names = list_spaces(pattern) or [pattern]
    built = {name: get_space(name) for name in names}
    if as_json:
        print_json(
            [
                {"name": n, "genes": len(s.genes), "genotypes": s.n_genotypes, "distinct": s.n_distinct,
                 "identity": s.identity, "summary": space_summary(n), "definition": s.to_json()}
                for n, s in built.items()
            ]
        )  # fmt: skip
        return
    from rich.table import Table

    from nassearch.console import make_console

    table = Table()
    for column in ("space", "genes", "genotypes", "distinct", "what"):
        table.add_column(column, justify="right" if column in ("genes", "genotypes", "distinct") else "left")
    for name, space in built.items():
        table.add_row(
            name, str(len(space.genes)), f"{space.n_genotypes:.3g}", f"{space.n_distinct:.3g}", space_summary(name)
        )
    console = make_console()
    console.print(table)
    if len(built) == 1:
        genes = Table(title="genes", title_justify="left")
        for column in ("gene", "choices", "role", "active when"):
            genes.add_column(column)
        for gene in next(iter(built.values())).genes:
            conditions = [c for c in (gene.active_when, *gene.active_if_any) if c]
            told = [", ".join(f"{k} in {sorted(v, key=str)}" for k, v in c.items()) for c in conditions]
            when = told[:1] if gene.active_when else []
            if gene.active_if_any:
                when.append("one of: " + "; ".join(told[len(when) :]))
            genes.add_row(gene.name, ", ".join(map(str, gene.choices)), gene.role or "", ", ".join(when))
        console.print(genes)


def strategies(as_json: AsJson = False) -> None:
    """List the search strategies.

    [bold]Example[/]

      nassearch strategies
    """
    from nassearch.strategies import list_strategies, strategy_summary

    found = {name: strategy_summary(name) for name in list_strategies()}
    if as_json:
        print_json([{"name": n, "summary": s} for n, s in found.items()])
        return
    from rich.table import Table

    from nassearch.console import make_console

    table = Table()
    table.add_column("strategy")
    table.add_column("what")
    for name, summary in found.items():
        table.add_row(name, summary)
    make_console().print(table)


def tasks(
    name: Annotated[str, typer.Argument(help="Show one task with its options.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the tasks, or show one with its options.

    [bold]Examples[/]

      nassearch tasks

      nassearch tasks causal-lm
    """
    from nassearch.errors import ConfigError
    from nassearch.tasks import list_tasks
    from search_spaces.errors import did_you_mean

    found = {entry.name: entry for entry in list_tasks()}
    if name and name not in found:
        raise ConfigError(f"unknown task {name!r}{did_you_mean(name, found)}; available: {', '.join(found)}")
    shown = [found[name]] if name else list(found.values())
    if as_json:
        print_json(
            [
                {"name": e.name, "usage": e.usage, "summary": e.summary,
                 "options": {o.name: {"default": o.default, "help": o.help} for o in e.options}}
                for e in shown
            ]
        )  # fmt: skip
        return
    from rich.markup import escape
    from rich.table import Table

    from nassearch.console import make_console

    table = Table("task", "what")
    for entry in shown:
        table.add_row(escape(entry.usage), escape(entry.summary))
    console = make_console()
    console.print(table)
    if name:
        options = Table("option", "default", "what")
        for option in shown[0].options:
            options.add_row(option.name, "" if option.default is None else str(option.default), escape(option.help))
        console.print(options)
