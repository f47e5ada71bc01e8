"""Option types that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, as given to `nassearch run --out`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of tables.")]
Space = Annotated[str | None, typer.Option(help="Search space; `nassearch spaces` lists them.")]
TaskSpec = Annotated[str | None, typer.Option("--task", help="Task and data, e.g. digits or imagefolder:DIR.")]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override any setting, e.g. train.settings.epochs=5."),
]


def print_json(data: Any) -> None:
    """Print JSON to standard output."""
    print(json.dumps(data, indent=2, default=str))
