"""`nassearch export`, `evaluate`, `finetune`: leaving with an ordinary model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.options import AsJson, RunFolder, print_json

Which = Annotated[
    str,
    typer.Option(
        "--subnet", help='knee, best-METRIC, fastest, an id of the front, or a constraint such as "latency_ms <= 2".'
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("evaluate")(evaluate)
    app.command("finetune")(finetune)


def export(
    run: RunFolder,
    subnet: Which = "knee",
    format: Annotated[str, typer.Option(help="torch, onnx, state-dict, transformers or timm.")] = "torch",
    out: Annotated[Path | None, typer.Option(help="Folder. Default: exports/ in the run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export a subnet as an ordinary model that loads without nassearch.

    The file is loaded again and its outputs are compared with the subnet's before it counts. The card beside it
    says what it is.

    [bold]Examples[/]

      nassearch export results/demo --subnet knee --format onnx --out my-model

      nassearch export results/demo --subnet "latency_ms <= 2" --format state-dict
    """
    from nassearch.exports import export as export_run
    from nassearch.runs import Run

    result = export_run(Run(run), subnet, format, out)
    if as_json:
        print_json(result.to_json())
        return
    print(f"subnet #{result.record.id} as {format}: {result.folder}")
    print(f"largest difference to the subnet after loading again: {result.max_difference:.2g}")


def evaluate(
    run: RunFolder,
    subnet: Which = "knee",
    split: Annotated[str, typer.Option(help="search or report.")] = "report",
    latency: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]DEVICE:BACKEND,…", help="Measure it in these settings too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate one subnet of a run again, also in settings that the run did not have.

    [bold]Example[/]

      nassearch evaluate results/demo --subnet knee --latency cpu:onnxruntime,batch=8,threads=2
    """
    from nassearch.errors import ConfigError
    from nassearch.evaluation import EvaluationSettings, SupernetEvaluator
    from nassearch.problem import parse_latency
    from nassearch.runs import Run
    from predictors.backends.base import pinned_threads

    if split not in ("search", "report"):
        raise ConfigError(f"--split {split!r} is not a split to evaluate on; give search or report")
    found = Run(run)
    record = found.select(subnet)
    given = parse_latency(latency or [])
    settings = {f"latency_ms@{name}" if name else "latency_ms": setting for name, setting in given.items()}
    e = found.config.evaluation
    evaluator = SupernetEvaluator(
        found.supernet(),
        found.task(),
        EvaluationSettings(tuple(settings), settings, e.batch_size, e.calibration_size, e.device),
    )
    with pinned_threads(found.config.executor.threads):
        part = evaluator.quality(record.arch, split)
        if evaluator.needs_cost:
            part = part.joined(evaluator.cost(record.arch))
    if as_json:
        print_json({"id": record.id, "values": part.values, "std": part.std, "measured": part.measured})
        return
    print(f"subnet #{record.id}")
    for metric, value in part.values.items():
        spread = f" (IQR {part.std[metric]:.3g})" if metric in part.std else ""
        print(f"  {metric:16} {value:10.4g}{spread}  {part.measured[metric]}")


def finetune(
    run: RunFolder,
    subnet: Which = "knee",
    epochs: Annotated[int | None, typer.Option(help="Default: the run's, or a tenth where it trained anew.")] = None,
    lr: Annotated[float | None, typer.Option(help="Default: the run's, or a tenth where it trained anew.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Inputs of a step. Default: the run's.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Weight of the labels; the rest is the teacher's; 1: none. Default: the family's, or 0.5."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the distillation. Default: the family's, or 2.")] = None,
    no_distill: Annotated[bool, typer.Option("--no-distill", help="Labels alone, no teacher.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="What is trained: a group such as routers, or a pattern of parameter names; repeatable."),
    ] = None,
    lora_rank: Annotated[int, typer.Option(help="Train low-rank adapters of this rank alone; 0: none.")] = 0,
    lora_alpha: Annotated[float | None, typer.Option(help="Factor on them, over the rank. Default: the rank.")] = None,
    lora_targets: Annotated[
        list[str] | None, typer.Option(help="Patterns of the layers that get adapters. Default: all; repeatable.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="Export the result, too: as in `nassearch export`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: finetuned/ID in the run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train one subnet on, on its own, taught by the largest one of the run.

    Prints its quality before and after on both splits. Given again, it goes on where it was stopped.

    [bold]Examples[/]

      nassearch finetune results/minilm-sst2 --subnet knee --epochs 3 --format transformers

      nassearch finetune results/olmoe --subnet "size_mb <= 500" --only routers
    """
    from nassearch.console import make_console
    from nassearch.finetuning import FinetuneSettings
    from nassearch.finetuning import finetune as finetune_run
    from nassearch.runs import Run

    settings = FinetuneSettings(
        epochs,
        lr,
        alpha,
        temperature,
        not no_distill,
        batch_size,
        tuple(only or ()),
        lora_rank,
        lora_alpha,
        tuple(lora_targets or ("*",)),
    )
    console = make_console(quiet=as_json)
    result = finetune_run(Run(run), subnet, settings, out=out, format=format, console=console)
    if as_json:
        print_json(result.to_json())
        return
    print(f"subnet #{result.record.id}, fine-tuned: {result.folder}")
