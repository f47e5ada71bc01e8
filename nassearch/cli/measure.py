"""`nassearch measure`: a table of block latencies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nassearch.cli.options import AsJson, Space, print_json
from nassearch.errors import ConfigError

if TYPE_CHECKING:
    from nassearch.measuring import TableMeasurement
    from supernets import Supernet

_HELP = """Measure every distinct block of a space once, so that the latency of any of its networks is a sum.

The table is written after every measurement; the same command goes on with one that was stopped.
`nassearch predictors RUN --table FILE` shows how well it predicts, beside what learns from whole networks alone.

[bold]Examples[/]

  nassearch measure --space mobilenetv3-tiny --latency cpu:onnxruntime,threads=1 --table tiny-ort.json

  nassearch measure --space ofa-mobilenetv3-w1.0 --latency cpu:eager,threads=1 --table ofa.json --dry-run

  nassearch measure --space mobilenetv3-tiny --latency cpu:eager --table tiny.json --architectures 50 --seed 1
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("measure", help=_HELP)(measure)


def measure(
    table: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON file of the table; one that is there is continued.")
    ],
    space: Space = None,
    latency: Annotated[
        str | None,
        typer.Option(metavar="DEVICE:BACKEND,…", help="How latency is measured. Default: cpu:eager,batch=1,threads=1."),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Published weights of the supernet, e.g. OFA's .pth.")] = None,
    supernet: Annotated[Path | None, typer.Option(help="Trained supernet: the supernet/ of a run.")] = None,
    architectures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Measure N sampled networks as a whole too, to judge the sums.")
    ] = 0,
    passes: Annotated[
        int, typer.Option(min=1, help="Measure all of it N times, spread in time; the fastest counts.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of those networks.")] = 0,
    plugin: Annotated[list[str] | None, typer.Option(metavar="MODULE", help="Python module to import first.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="model_options.A=VALUE", help="Option of the supernet, e.g. its num_classes."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the number of blocks and the predicted time, write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check everything, say how long it will take, and measure."""
    import numpy as np

    from nassearch.config import DEFAULT_LATENCY, import_plugins
    from nassearch.console import make_console
    from nassearch.measuring import TableMeasurement
    from nassearch.problem import parse_latency

    import_plugins(plugin or [])
    (setting,) = parse_latency([latency or DEFAULT_LATENCY]).values()
    net = _supernet(space, checkpoint, supernet, set_ or [])
    rows = net.space.sample(architectures, np.random.default_rng(seed))
    work = TableMeasurement(net, setting, table, rows, passes)
    console = make_console(quiet=as_json)
    table_blocks, done = len(work.table.keys), len(work.table.blocks)
    already = f"; {done} of them are in {table}" if done else ""
    console.print(f"{net.space.name} has {table_blocks} distinct blocks{already}", markup=False)
    console.print(f"measured with {setting} on {work.table.device}", markup=False)
    steps = work.steps()
    networks = sum(step.network for step in steps)
    predicted = work.probe()
    what = [f"{len(steps) - networks} blocks", *([f"{networks} networks"] if networks else [])]
    often = f" in {passes} passes" if passes > 1 else ""
    console.print(f"to measure: {' and '.join(what)}{often}, about {_duration(predicted)}")
    if not dry_run:
        _run(work, console, len(steps))
    _conclude(work, predicted, dry_run=dry_run, as_json=as_json, console=console)


def _supernet(space: str | None, checkpoint: Path | None, folder: Path | None, sets: list[str]) -> Supernet:
    """Build or load the supernet that the flags name.

    Raises:
        ConfigError: They name none, or contradict one another.
    """
    import torch

    from nassearch.config import parse_set
    from search_spaces import get_space
    from supernets import build, list_supernets, load

    given = parse_set(sets)
    options = given.pop("model_options", {})
    faults = [f"--set {name}: only model_options.… can be set here" for name in given]
    for flag, path in (("--checkpoint", checkpoint), ("--supernet", folder)):
        if path is not None and not path.exists():
            faults.append(f"{flag} {path} does not exist; give the path of an existing one")
    if folder is not None and (checkpoint or options):
        faults.append("--supernet brings weights and options of its own; leave --checkpoint and --set out")
    if space is None and folder is None:
        faults.append("no space is given; give --space NAME (`nassearch spaces`) or --supernet FOLDER")
    if space is not None and get_space(space) and space not in list_supernets():
        faults.append(f"search space {space!r} has no supernet; with one are: {', '.join(list_supernets())}")
    if faults:
        raise ConfigError(faults)
    if folder is not None:
        net = load(folder)
        if space is not None and get_space(space).identity != net.space.identity:
            raise ConfigError(f"--supernet {folder} is of space {net.space.name!r}, not {space!r}; leave --space out")
        return net.eval()
    assert space is not None  # noqa: S101
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(space, checkpoint=checkpoint, **options).eval()


def _run(work: TableMeasurement, console: Any, left: int) -> None:
    from nassearch.progress import StepProgress

    with StepProgress(console, "measure", left) as progress:
        for step, timing in work.run():
            progress(f"{timing.median_ms:.4g} ms  {step.name}")


def _conclude(work: TableMeasurement, predicted: float, *, dry_run: bool, as_json: bool, console: Any) -> None:
    from nassearch.measuring import quality_text, table_quality

    table = work.table
    quality = {} if dry_run else table_quality(table)
    if as_json:
        print_json(
            {
                "table": str(work.path),
                "space": table.space.name,
                "setting": str(table.setting),
                "device": table.device.to_json(),
                "blocks": len(table.keys),
                "measured": len(table.blocks),
                "networks": len(table.networks),
                "predicted_s": predicted,
                "quality": {name: q.to_json() for name, q in quality.items()},
            }
        )
        return
    if dry_run:
        console.print("dry run: nothing is written")
        return
    console.print(f"{work.path}: {len(table.blocks)} blocks, {len(table.networks)} networks", markup=False)
    for name, found in quality.items():
        what = "sums of blocks" if name == "sum" else "a line through them, cross-validated"
        console.print(f"  {what}: {quality_text(found)} over {found.n} measured networks")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
