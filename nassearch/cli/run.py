"""`nassearch run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nassearch.cli.options import AsJson, Space, TaskSpec, print_json
from nassearch.errors import ConfigError, EvaluationError

_HELP = """Search a space for the Pareto front of its networks: train, search, report, export.

[bold]Examples[/]

  nassearch run --space mobilenetv3-tiny --task digits --objective top1:max --objective latency_ms:min

  nassearch run --space ofa-mobilenetv3-w1.0 --checkpoint ofa.pth --task imagefolder:DIR -o top1:max
  -o macs_m:min -c "latency_ms <= 20" --latency cpu:onnxruntime,batch=1,threads=4

  nassearch run --space auto --model my-bert --task text-classification:sst2 --train instatune
  -o accuracy:max -o macs_m:min -c "latency_ms <= 60%" --out runs/bert

  nassearch run --config run.yaml --set num_evals=500 --out runs/long

  nassearch run --resume runs/long

  nassearch run --resume runs/long --retry-failed

  nassearch run --warm-start runs/long --reuse accuracy -o top1:max -o latency_ms@board:min
  --latency board=cpu:onnxruntime,batch=1,threads=2 --out runs/board
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", help=_HELP)(run)


def run(
    space: Space = None,
    task: TaskSpec = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR_OR_HUB_ID", help="Pre-trained model of --space auto: a folder, timm:NAME or a hub id."
        ),
    ] = None,
    uniform: Annotated[
        bool | None, typer.Option("--uniform", help="Only subnets that the model's stock class can hold.")
    ] = None,
    offload: Annotated[
        Path | None,
        typer.Option(
            help="For a model that is too large for memory: its layers stay on disk; folder for what that needs."
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool | None, typer.Option("--trust-remote-code", help="Let code that comes with the model run.")
    ] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", "-o", metavar="METRIC:max|min", help="One to four, in order.")
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option("--constraint", "-c", metavar="TEXT", help='"latency_ms <= 20", "params_m <= 60% of largest".'),
    ] = None,
    num_evals: Annotated[int | None, typer.Option(help="Architectures to evaluate. Default: 250.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. Default: 0.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/SPACE-TASK-sSEED.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Search strategy; `nassearch strategies`. Default: linas.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Proposals a batch, whatever the workers. Default: 10.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="sandwich, progressive-shrinking, single-path, instatune or none. Default: sandwich; of a pre-trained "
            "model: instatune.",
        ),
    ] = None,
    importance_order: Annotated[
        bool | None,
        typer.Option(
            "--importance-order/--no-importance-order",
            help="Order units by importance before training. Default: as the method wants (instatune does).",
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Published weights of the supernet, e.g. OFA's .pth.")] = None,
    mixture: Annotated[
        str | None, typer.Option(help="Weights are mixtures of experts: none, layer or neuron. Default: none.")
    ] = None,
    experts: Annotated[int | None, typer.Option(help="Experts of a mixture. Default: 2.")] = None,
    supernet: Annotated[Path | None, typer.Option(help="Trained supernet: the supernet/ of another run.")] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Start from what an earlier run of the space has found; repeatable."),
    ] = None,
    reuse: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC|accuracy", help="Take its values from the warm start, evaluate only the rest."),
    ] = None,
    latency: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]DEVICE:BACKEND,…",
            help="How latency is measured; named ones give latency_ms@NAME. Default: cpu:eager,batch=1,threads=1.",
        ),
    ] = None,
    executor: Annotated[str | None, typer.Option(help="local or ray. Default: local.")] = None,
    num_workers: Annotated[int | None, typer.Option(help="Evaluations at a time (ray). Default: 1.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each evaluation. Default: 1.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster. Default: one on this machine.")] = None,
    latency_resource: Annotated[
        str | None, typer.Option(help="Ray resource of the nodes that measure. Default: latency_slot.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds allowed to one evaluation. Default: none.")] = None,
    asynchronous: Annotated[
        bool | None, typer.Option("--async", help="Keep every worker busy; reproducible from the log.")
    ] = None,
    export_subnet: Annotated[
        str | None, typer.Option("--export", metavar="WHICH", help="Subnet to export at the end. Default: knee.")
    ] = None,
    export_format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="torch, onnx, state-dict, transformers, timm, none. Default: torch."),
    ] = None,
    plugin: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="Python module to import first; may register anything.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags go over it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override any setting, over the flags.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with a stopped run.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: evaluate what failed once more.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Collect the flags into settings and hand them to the engine."""
    executor_flags = {
        "name": executor,
        "num_workers": num_workers,
        "threads": threads,
        "address": ray_address,
        "latency_resource": latency_resource,
        "timeout_s": timeout,
        "asynchronous": asynchronous,
    }
    settings = _given(
        {
            "space": space,
            "model": model,
            "trust_remote_code": trust_remote_code,
            "offload": offload,
            "model_options": _given({"uniform": uniform, "mixture": mixture, "experts": experts}),
            "task": task,
            "objectives": objective,
            "constraints": constraint,
            "num_evals": num_evals,
            "seed": seed,
            "out": out,
            "strategy": strategy,
            "batch_size": batch_size,
            "checkpoint": checkpoint,
            "supernet": supernet,
            "warm_start": warm_start,
            "reuse": reuse,
            "latency": latency,
            "plugins": plugin,
            "train": _given({"method": train, "importance_order": importance_order}),
            "executor": _given(executor_flags),
            "export": _given({"subnet": export_subnet, "format": export_format}),
        }
    )
    if resume is not None:
        beside = {"--config": config, "--set": set_, "--overwrite": overwrite, "--dry-run": dry_run}
        named = [flag for flag, given in beside.items() if given]
        _resume(resume, settings, named, retry_failed=retry_failed, as_json=as_json)
        return
    if retry_failed:
        raise ConfigError("--retry-failed goes on with a run: name it by --resume DIR")
    from nassearch.config import make_config
    from nassearch.console import make_console
    from nassearch.folders import check_folder_is_free

    console = make_console(quiet=as_json)
    made = make_config(settings, file=config, sets=set_ or [])
    if dry_run:
        from nassearch.cli.profile import print_profile
        from nassearch.problem import make_problem
        from nassearch.warm_start import gather

        check_folder_is_free(made.folder, overwrite)
        problem = make_problem(made)
        gather(problem)
        print_profile(problem, as_json=as_json)
        return
    from nassearch.engine import run as run_engine

    _finish(run_engine(made, overwrite=overwrite, console=console), as_json)


def _resume(folder: Path, settings: dict[str, Any], beside: list[str], *, retry_failed: bool, as_json: bool) -> None:
    """Go on with a run; only the budget and the executor may differ from before."""
    allowed = {"num_evals", "executor"}
    named = [*sorted(set(settings) - allowed), *beside]
    if named:
        raise ConfigError(
            f"--resume goes on with the settings of {folder}; besides --num-evals and the executor's flags nothing can "
            f"be changed, but {', '.join(named)} is given. Leave it out, or start a new run with another --out"
        )
    from nassearch.console import make_console
    from nassearch.engine import resume as resume_engine

    run = resume_engine(
        folder,
        num_evals=settings.get("num_evals"),
        executor=settings.get("executor"),
        retry_failed=retry_failed,
        console=make_console(quiet=as_json),
    )
    _finish(run, as_json)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that were given; empty ones count as not given."""
    return {k: v for k, v in flags.items() if v is not None and v != [] and v != {}}


def _finish(run: Any, as_json: bool) -> None:
    """Print the run for scripts; a run in which nothing succeeded is a failure.

    Raises:
        EvaluationError: No evaluation succeeded.
    """
    if as_json:
        from nassearch.finish import front_json

        print_json({"folder": str(run.folder), **front_json(run)})
    if not any(record.status == "ok" for record in run.records):
        raise EvaluationError(
            f"none of {len(run.records)} evaluations succeeded, the last with: {run.records[-1].error}; mend the "
            f"cause, then evaluate them again: nassearch run --resume {run.folder} --retry-failed"
        )
