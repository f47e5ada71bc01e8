"""`nassearch submit`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.options import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("submit", help=_SUBMIT_HELP, context_settings={"ignore_unknown_options": False})(submit)
    app.command("doctor")(doctor)


_SUBMIT_HELP = """Send a command to a Ray cluster as a job, follow its log and bring the run folder back.

The cluster's token is read from RAY_AUTH_TOKEN or ~/.ray/auth_token; see docs/cluster.md.

[bold]Examples[/]

  nassearch submit --address http://HOST:8265 -- run --space mobilenetv3-tiny --task digits
  -o top1:max -o latency_ms:min --executor ray --num-workers 8 --out runs/digits

  nassearch submit --address http://HOST:8265 --attach nassearch-1a2b3c4d
"""


def submit(
    address: Annotated[str, typer.Option(help="Address of the job server, http://HOST:8265.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- run …", help="The command to send, after two dashes.")
    ] = None,
    working_dir: Annotated[
        Path | None, typer.Option(help="Folder to send whole. Default: only the files that the command names.")
    ] = None,
    pip: Annotated[
        list[str] | None, typer.Option(help="Package to install on the cluster, or a requirements file.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Environment variable of the job.")
    ] = None,
    shared_dir: Annotated[
        list[Path] | None, typer.Option(help="Folder that every node sees under this path: not sent.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return as soon as the job is sent.")] = False,
    attach: Annotated[
        str | None, typer.Option(metavar="JOB", help="Follow a job sent before, and fetch its run folder.")
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Use the cluster's own nassearch instead of sending this one.")
    ] = False,
) -> None:
    """Hand the command to the job server."""
    from nassearch import submit as package
    from nassearch.errors import ConfigError

    variables = dict(text.partition("=")[::2] for text in env or [])
    if "" in variables or not all("=" in text for text in env or []):
        raise ConfigError(f"--env takes NAME=VALUE, got {[t for t in env or [] if '=' not in t[1:]]}")
    if attach is not None:
        if command:
            raise ConfigError("--attach follows a job that was sent before; leave the command out")
        raise typer.Exit(package.attach(address, attach))
    if not command:
        raise ConfigError("no command to send; write it after two dashes: nassearch submit --address … -- run …")
    options = package.SubmitOptions(
        address,
        working_dir,
        tuple(pip or ()),
        variables,
        tuple(shared_dir or ()),
        send_packages=not installed,
        follow=not no_wait,
    )
    raise typer.Exit(package.submit(command, options))


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
        colours = {"ok": "green", "busy": "yellow", "missing": "yellow", "broken": "red"}
        for f in findings:
            console.print(f"[{colours[f.state]}]{f.state:>8}[/]  {f.name}: {f.detail}")
            if f.fix:
                console.print(f"          fix: {f.fix}", markup=False)
    if any(f.state == "broken" for f in findings):
        raise typer.Exit(1)
