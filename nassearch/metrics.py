"""The names of metrics, and what kind each is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from search_spaces.errors import did_you_mean

ANALYTIC: Mapping[str, str] = {
    "params_m": "parameters, millions",
    "macs_m": "multiply-accumulates of one input, millions",
    "size_mb": "parameters and buffers, 1e6 bytes",
    "active_params_m": "parameters that one token uses, millions; of supernets with experts",
    "active_size_mb": "what one token uses, 1e6 bytes; of supernets with experts",
    "active_experts": "routed experts of one token, mean over the layers; of supernets with experts",
}
MEASURED: Mapping[str, str] = {
    "latency_ms": "median time of one inference, milliseconds",
    "peak_memory_mb": "peak memory of one inference, 1e6 bytes",
}
PERCENTAGES = ("dead_experts", "esap", "load_entropy", "sch", "srp")
"""Metrics from 0 to 100, or their names before the first dot, besides accuracies."""
ACCURACIES = ("accuracy", "f1", "matthews", "top1", "top5")

QUALITIES = (*ACCURACIES, "bits_per_byte", "bleu", "esap", "kl", "loss", "nll", "perplexity")
"""Metrics, or their names before the first dot, that say how good predictions are: smaller networks gain nothing."""

_TOLD_BESIDE = {"srp": "srp_rho"}  # before the first dot; the one cannot be judged without the other
_SAME = {"accuracy": "top1", "top1": "accuracy"}  # of a class each, whatever the task calls it


def canonical(metric: str, task_metrics: Iterable[str]) -> str:
    """Return what a task calls a metric: ``top1`` for ``accuracy``, and the other way round, where it has only that."""
    known = list(task_metrics)
    other = _SAME.get(metric)
    return other if other is not None and other in known and metric not in known else metric


def told_beside(metric: str) -> str | None:
    """Return the metric that is evaluated and shown with another: ``srp_rho.16`` with ``srp.16``; None for most."""
    stem, dot, rest = metric.partition(".")
    return _TOLD_BESIDE[stem] + dot + rest if stem in _TOLD_BESIDE else None


def base_name(metric: str) -> str:
    """Return a metric without its ``@SETTING``: ``latency_ms`` of ``latency_ms@pi``."""
    return metric.partition("@")[0]


def is_quality(metric: str) -> bool:
    """Return whether a metric says how good predictions are, as far as its name tells."""
    return metric.partition(".")[0] in QUALITIES


def is_measured(metric: str) -> bool:
    """Return whether a metric is timed or observed on a device."""
    return base_name(metric) in MEASURED


def fault_of(metric: str, task_metrics: Iterable[str], settings: Iterable[str]) -> str | None:
    """Return what is wrong with a metric's name, or None.

    Args:
        metric: The name a user gave.
        task_metrics: Metrics of the task.
        settings: Names of the latency settings; ``""`` is the unnamed one.
    """
    base, at, setting = metric.partition("@")
    task_metrics, names = list(task_metrics), sorted(settings)
    if base in MEASURED:
        if setting not in names or (at and not setting):
            known = [n or "(unnamed)" for n in names]
            return (
                f"metric {metric!r} needs the latency setting {setting or '(unnamed)'!r}; given are {known}. "
                f"Add --latency {setting + '=' if setting else ''}cpu:eager,batch=1,threads=1"
            )
        return None
    if metric in ANALYTIC or metric in task_metrics:
        return None
    from supernets import observing_family

    if (family := observing_family(metric)) is not None:
        return family.behaviour_fault(metric)
    allowed = [*task_metrics, *ANALYTIC, *MEASURED]
    return f"unknown metric {metric!r}{did_you_mean(metric, allowed)}; available: {', '.join(allowed)}"


def natural_range(metric: str) -> tuple[float, float]:
    """Return the least and greatest value that a metric can have at all."""
    if base_name(metric) == "matthews":
        return -100.0, 100.0
    if base_name(metric).partition(".")[0] in (*ACCURACIES, *PERCENTAGES, "bleu"):
        return 0.0, 100.0
    return 0.0, float("inf")
