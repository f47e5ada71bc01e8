"""Where a run is evaluated: its executor, and what is asked of a cluster before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nassearch.devices import KnownDevices
from nassearch.evaluation import SupernetEvaluator, SupernetEvaluatorSource
from nassearch.executors import Executor, ExecutorSettings, make_executor, measures_elsewhere
from nassearch.executors.local import LocalExecutor
from nassearch.metrics import is_measured
from nassearch.problem import Problem
from nassearch.profile import Bounds, evaluated_bounds
from supernets import Supernet


def executor_settings(problem: Problem, devices: KnownDevices | None = None) -> ExecutorSettings:
    """Return how a run's evaluations are to be run.

    Args:
        problem: The run.
        devices: What measured it so far.
    """
    config = problem.config.executor
    own = any(setting.resource for setting in problem.latency.values())
    return ExecutorSettings(
        config.num_workers,
        config.threads,
        config.timeout_s,
        config.retries,
        config.address,
        config.latency_resource,
        resources={m: s.resource or config.latency_resource for m, s in problem.latency.items()} if own else {},
        exclusive_latency=not config.asynchronous,
        latency_cpus=max((setting.threads for setting in problem.latency.values()), default=1),
        devices=devices.fingerprints if devices else {},
    )


def run_executor(problem: Problem, net: Supernet, devices: KnownDevices) -> Executor:
    """Make the executor of a run's search and of the second look at its front.

    Args:
        problem: The run.
        net: Its trained supernet.
        devices: What measured it so far.
    """
    name, settings = problem.config.executor.name, problem.evaluation_settings()
    # Workers evaluate where the settings say; this process, which does not, may have no such device.
    here = settings if name == "local" else replace(settings, device="cpu")
    evaluator = SupernetEvaluator(net, problem.task, here)
    source = replace(SupernetEvaluatorSource.of(evaluator, problem.config.plugins), settings=settings)
    return make_executor(name, evaluator, source, executor_settings(problem, devices))


def check_place(problem: Problem) -> None:
    """Refuse a cluster that cannot be used, or has no nodes for what the run needs, before any work.

    Raises:
        ConfigError: Saying what is missing.
    """
    if problem.config.executor.name != "ray":
        return
    from nassearch.executors.ray_cluster import Cluster, require_ray
    from nassearch.executors.ray_needs import check_needs

    require_ray()
    if problem.training is not None and problem.config.executor.num_workers > 1:
        from nassearch.executors.ray_training import require_ray_train

        require_ray_train()
    if measures_elsewhere("ray", problem.config.executor.address):
        settings = executor_settings(problem)
        cluster = Cluster(settings, 0)
        try:
            check_needs(cluster, settings, costs=any(map(is_measured, problem.metrics)))
        finally:
            cluster.close()


def cost_bounds(
    problem: Problem, net: Supernet, metrics: Sequence[str], *, n_sampled: int, devices: KnownDevices
) -> tuple[dict[str, Bounds], float]:
    """Measure the bounds of costs where the run will measure them.

    Args:
        problem: The run.
        net: Its supernet; it need not be trained.
        metrics: Measured metrics.
        n_sampled: Number of sampled networks besides the smallest and the largest.
        devices: Is told what measured.

    Returns:
        Metric -> bounds, and the mean time of one evaluation in seconds.
    """
    settings = replace(problem.evaluation_settings(), metrics=tuple(dict.fromkeys(metrics)))
    evaluator = SupernetEvaluator(net, problem.task, settings)
    config = problem.config
    if measures_elsewhere(config.executor.name, config.executor.address):
        source = SupernetEvaluatorSource.of(evaluator, config.plugins)
        place = replace(executor_settings(problem, devices), num_workers=0, exclusive_latency=True)
        place = replace(place, resources={m: r for m, r in place.resources.items() if m in settings.metrics})
        executor = make_executor("ray", evaluator, source, place)
    else:  # a private cluster is this machine too
        executor = LocalExecutor(evaluator, executor_settings(problem, devices))
    with executor:
        return evaluated_bounds(
            executor, problem.space, settings.metrics, n_sampled=n_sampled, seed=config.seed, devices=devices
        )


def quality_bounds(
    problem: Problem, net: Supernet, metrics: Sequence[str], *, n_sampled: int
) -> tuple[dict[str, Bounds], float]:
    """Evaluate the bounds of quality in this process.

    Args:
        problem: The run.
        net: Its trained supernet.
        metrics: Metrics of the task.
        n_sampled: Number of sampled networks besides the smallest and the largest.

    Returns:
        Metric -> bounds, and the mean time of one evaluation in seconds.
    """
    named = tuple(m for m in metrics if not is_measured(m))  # nothing is measured
    settings = replace(problem.evaluation_settings(), metrics=named)
    executor = LocalExecutor(SupernetEvaluator(net, problem.task, settings), executor_settings(problem))
    return evaluated_bounds(
        executor, problem.space, metrics, n_sampled=n_sampled, seed=problem.config.seed, devices=KnownDevices()
    )
