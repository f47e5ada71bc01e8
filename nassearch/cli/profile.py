"""`nassearch profile`: a space's size, the bounds of each metric, and how long a run would take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nassearch.cli.options import AsJson, Space, TaskSpec, print_json

if TYPE_CHECKING:
    from nassearch.problem import Problem

_HELP = """Print a space's size, the bounds of each metric for the smallest, largest and sampled networks, and the
predicted time of a run. Quality is not profiled: it needs trained weights.

[bold]Examples[/]

  nassearch profile --space mobilenetv3-tiny --task digits

  nassearch profile --space ofa-mobilenetv3-w1.0 --task imagefolder:DIR --latency cpu:onnxruntime,batch=1,threads=4
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile", help=_HELP)(profile)


def profile(
    space: Space = None,
    task: TaskSpec = None,
    latency: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]DEVICE:BACKEND,…", help="How latency is measured.")
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option("--constraint", "-c", help="Checked against the bounds.")
    ] = None,
    num_evals: Annotated[int | None, typer.Option(help="Budget of the predicted run. Default: 250.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of a run's settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override any setting.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the problem of a run with latency as objective, and profile it."""
    from nassearch.config import make_config
    from nassearch.problem import make_problem

    settings: dict[str, Any] = {
        "space": space, "task": task, "latency": latency, "constraints": constraint, "num_evals": num_evals,
    }  # fmt: skip
    settings = {k: v for k, v in settings.items() if v is not None}
    if config is None:
        names = [text.partition("=")[0] if "=" in text.partition(":")[0] else "" for text in latency or [""]]
        settings["objectives"] = [f"latency_ms{'@' + n if n else ''}:min" for n in names[:4]]
    print_profile(make_problem(make_config(settings, file=config, sets=set_ or [])), as_json=as_json)


def print_profile(problem: Problem, *, as_json: bool = False, n_sampled: int = 5) -> None:
    """Measure the bounds and the time of an evaluation, and print them; nothing is written.

    Raises:
        ConfigError: A constraint cannot be met within the bounds.
    """
    from nassearch.console import make_console
    from nassearch.devices import KnownDevices
    from nassearch.evaluation import SupernetEvaluator
    from nassearch.metrics import is_measured
    from nassearch.places import check_place, cost_bounds
    from nassearch.profile import analytic_bounds, bounds_table, check_satisfiable
    from predictors.backends.base import pinned_threads

    config, space = problem.config, problem.space
    net = problem.build_supernet()
    problem.check_latency(net)
    problem.check_behaviours(net)
    bounds = analytic_bounds(space, net, config.seed)
    check_place(problem)
    measured = [m for m in problem.metrics if is_measured(m)]
    cost_s = 0.0
    if measured:
        found, cost_s = cost_bounds(problem, net, measured, n_sampled=n_sampled, devices=KnownDevices())
        bounds |= found
    evaluator = SupernetEvaluator(net, problem.task, problem.evaluation_settings())
    started = time.perf_counter()
    with pinned_threads(config.executor.threads):
        evaluator.quality(space.decode(space.largest[None])[0])
    quality_s = time.perf_counter() - started
    workers = config.executor.num_workers
    search_s = config.num_evals * (quality_s / workers + cost_s)
    size = {"genes": len(space.genes), "genotypes": space.n_genotypes, "distinct": space.n_distinct}
    if as_json:
        print_json(
            {
                "space": space.name,
                **size,
                "bounds": {m: b.to_json() for m, b in bounds.items()},
                "latency": {m: str(s) for m, s in problem.latency.items()},
                "evaluation_s": {"quality": quality_s, "cost": cost_s},
                "predicted_search_s": search_s,
                "data": problem.task.describe(),
            }
        )
    else:
        console = make_console()
        console.print(
            f"{space.name}: {len(space.genes)} genes, {space.n_genotypes:.4g} genotypes, {space.n_distinct:.4g} "
            f"distinct networks"
        )
        console.print(bounds_table(bounds, "Bounds"))
        for metric, setting in problem.latency.items():
            console.print(f"{metric}: {setting}")
        console.print(
            f"one evaluation: {quality_s:.2f} s quality of the largest network + {cost_s:.2f} s measurements; "
            f"{config.num_evals} evaluations: about {search_s / 60:.1f} minutes, without training"
        )
    check_satisfiable(problem.constraints, bounds)
