"""What can be said of a configuration before any work: metrics, devices and subnets that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nassearch.config import RunConfig
from nassearch.constraints import Constraint
from nassearch.errors import ConfigError
from nassearch.metrics import base_name, is_measured, natural_range
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from nassearch.tasks import Task
    from predictors import LatencySetting
    from supernets import Supernet


def unmeasurable(metric: str, latency: Mapping[str, LatencySetting], config: RunConfig) -> str | None:
    """Return why a metric cannot be measured on this machine, where it is this machine that measures."""
    from nassearch.executors import measures_elsewhere

    setting = latency.get(metric.partition("@")[2])
    if not is_measured(metric) or setting is None or measures_elsewhere(config.executor.name, config.executor.address):
        return None
    from predictors.backends import make_backend

    reason = make_backend(setting.backend).available(setting.device)
    return f"{metric} cannot be measured as {setting}: {reason}" if reason else None


def no_device(config: RunConfig) -> str | None:
    """Return why quality cannot be evaluated on the device named, where it is this machine that evaluates."""
    from nassearch.executors import measures_elsewhere

    device = config.evaluation.device
    if not device.startswith("cuda") or measures_elsewhere(config.executor.name, config.executor.address):
        return None
    from predictors.backends.base import cuda_missing

    reason = cuda_missing(device)
    return f"evaluation.device={device} cannot be used: {reason}" if reason else None


def check_subnet(config: RunConfig, metrics: list[str]) -> None:
    """Check the name of the subnet to export: an unknown one should not come out after hours of search.

    Raises:
        ConfigError: No finished run could have such a subnet.
    """
    which = config.export.subnet
    if which == "knee":
        return
    if re.fullmatch(r"\d+", which):
        if not 1 <= int(which) <= config.num_evals:
            raise ConfigError(f"--export {which}: ids go from 1 to the number of evaluations, {config.num_evals}")
        return
    if any(op in which for op in "<>="):
        metric = Constraint.parse(which).metric
    elif which == "fastest":
        if not any(base_name(m) == "latency_ms" for m in metrics):
            raise ConfigError(
                "--export fastest needs a measured latency; add the objective latency_ms:min, or a constraint on it"
            )
        return
    elif which.startswith("best-"):
        metric = which.removeprefix("best-")
    else:
        options = ["knee", "fastest", *(f"best-{m}" for m in metrics)]
        raise ConfigError(
            f"--export {which!r} is no subnet{did_you_mean(which, options)}; give knee, fastest, best-METRIC, an id "
            "or a constraint such as 'latency_ms <= 2'"
        )
    if metric not in metrics:
        raise ConfigError(
            f"--export {which!r}: metric {metric!r} is not evaluated in this run{did_you_mean(metric, metrics)}; "
            f"there are {', '.join(metrics)}"
        )


def impossible(constraint: Constraint) -> str | None:
    """Return why no value of a metric can meet the constraint, judging by its natural range alone."""
    if constraint.relative:
        return None
    low, high = natural_range(constraint.metric)
    number, op = constraint.number, constraint.op
    too_high = op in (">", ">=") and (number > high or (op == ">" and number == high))
    too_low = op in ("<", "<=") and (number < low or (op == "<" and number == low))
    if not (too_high or too_low):
        return None
    unit = " (accuracies are in percent)" if high == 100.0 else ""
    return (
        f"constraint '{constraint}' cannot be met: {base_name(constraint.metric)} is between {low:g} and {high:g}{unit}"
    )


def order_fault(net: Supernet, task: Task) -> str | None:
    """Return what is wrong where a supernet has a task's classes in another order; None if all is well."""
    its, names = net.class_names or [], [str(name) for name in getattr(task, "class_names", [])]
    ours, theirs = [name.lower() for name in names], [name.lower() for name in its]
    if ours == theirs or sorted(ours) != sorted(theirs):
        return None
    return (
        f"its outputs are the classes {its}, in this order, those of the task are {names}; name the model that it was "
        "made of, too (--model), from which the task takes the order, or name the classes of the data in its order"
    )


def unshown(net: Supernet, task: Task, metrics: Iterable[str]) -> list[str]:
    """Return what is wrong with the metrics that only some supernets show, and this one on this task does not."""
    from supernets import observing_family

    tokens = task.input_shape[0] if len(task.input_shape) == 1 else None
    known = (*task.metrics, *task.comparisons)
    shown = [m for m in metrics if m not in known and observing_family(m) is not None]
    return [fault for m in shown if (fault := net.behaviour_fault(m, tokens)) is not None]


def unused_choices(has: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Return the options of a conversion that a supernet which is there already does not have.

    Args:
        has: What its ``config()`` tells; ``choices`` is stack -> dimension -> values, of a model, or dimension ->
            values, of one with experts.
        options: The options given: ``uniform``, ``sequence``, and lists by dimension or by ``STACK_dimension``.
    """
    wrong = {}
    for name in ("uniform", "sequence"):
        if name in has and options.get(name) not in (None, has[name]):
            wrong[name] = has[name]
    choices = has.get("choices")
    for stack, dims in choices.items() if isinstance(choices, Mapping) else ():
        of_experts = isinstance(dims, list | bool) and stack in options
        if of_experts and set(_listed(options[stack])) != set(_listed(dims)):
            wrong[stack] = dims
        for dim, values in dims.items() if isinstance(dims, Mapping) else ():
            own = f"{stack}_{dim}" if stack else dim
            option = own if own in options else dim
            if option in options and _as_list(options[option]) != list(values):
                wrong[option] = list(values)
    return [f"{name}={options[name]} (it has {value})" for name, value in wrong.items()]


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _as_list(values: Any) -> Any:
    if isinstance(values, list | tuple) and all(isinstance(v, int) for v in values):
        return sorted(values)
    return [values]
