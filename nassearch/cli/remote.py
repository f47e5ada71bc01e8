"""`nassearch submit`, `doctor`."""

from __future__ import annotations

import typer

from nassearch.cli.options import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("doctor")(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Check what this machine has (PyTorch, CUDA, Ray, ONNX Runtime, …) and say what to fix.

    [bold]Example[/]

      nassearch doctor
    """
    from nassearch.doctor import examine

    findings = examine()
    if as_json:
        print_json([f.to_json() for f in findings])
    else:
        from nassearch.console import make_console

        console = make_console()
        marks = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[red]broken[/]"}
        for f in findings:
            console.print(f"{marks[f.state]:>8}  {f.name}: {f.detail}")
            if f.fix:
                console.print(f"          fix: {f.fix}", markup=False)
    if any(f.state == "broken" for f in findings):
        raise typer.Exit(1)
