"""Sections of a report that say how it came about: command, data, measurement, versions, words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nassearch.finish import reused_lines
from nassearch.metrics import ANALYTIC, MEASURED, is_measured
from nassearch.reports.markup import Markup, Number, facts, join, plain, section, table, tag
from nassearch.runs import Run

_SPLITS = {
    "train": "the weights are trained on it",
    "calibration": "normalisation statistics of each network are set on it",
    "search": "the search sees its scores",
    "report": "scored after the search, for the front only",
}
_IDENTITY = ("device", "cpu", "gpu", "cuda", "threads", "usable_cores", "cores", "os", "torch", "onnxruntime")
_GLOSSARY = {
    "evaluated network": "A sub-network whose quality was scored with the supernet's weights and whose costs were "
    "measured on the network as it would be exported.",
    "Pareto front": "The networks that meet every constraint and that no other one beats in every objective.",
    "knee": "The front member that bulges furthest towards the ideal, with each objective scaled to its range on the "
    "front.",
    "search": "Scored on the search split, which the search optimised: the best values are lucky ones in part.",
    "report": "Scored on the report split, which the search never saw: what to expect on new data.",
    "measured": "Timed or observed on the device during the search.",
    "again": "Measured once more after the search: lucky measurements do not repeat.",
    "computed": "Exact, from the architecture alone.",
    "predicted": "Said by a model before the evaluation; it only helps to choose what to evaluate.",
    "start-up": "Chosen before anything was predicted; the first batch of a strategy that does not predict.",
    "outside a constraint": "Evaluated, but it misses at least one constraint, so it cannot be on the front.",
    "hypervolume": "What a front dominates up to a reference point; larger is better.",
    "Kendall's tau": "Agreement of two rankings: 1 the same, 0 none, -1 reversed.",
}


def headline(run: Run, manifest: Mapping[str, Any]) -> Markup:
    """Return title, what was searched for, and the command."""
    config = run.config
    goals = ", ".join(f"{o.metric} {'high' if o.direction == 'max' else 'low'}" for o in run.goal.objectives)
    limits = "; ".join(str(c) for c in run.goal.constraints)
    pairs = {
        "wanted": goals,
        "constraints": limits,
        "strategy": config.strategy,
        "started": _date(manifest.get("created")),
        "training": manifest.get("training_method"),
        "seed": config.seed,
    }
    command = manifest.get("command")
    parts: list[object] = [tag("h1", run.space.name, tag("span", " on "), config.task), facts(pairs)]
    if command:
        parts += [tag("p", "The command behind this report:", class_="label"), tag("pre", str(command))]
    return tag("header", *parts)


def _date(value: object) -> str | None:
    return str(value).replace("T", " ")[:16] if value else None


def measurement(run: Run, manifest: Mapping[str, Any]) -> Markup:
    """Return which metric was measured in which setting, on which devices, and how steady it was."""
    rows = []
    devices: dict[str, dict[str, Any]] = {}
    settings = manifest.get("latency")
    settings = settings if isinstance(settings, Mapping) else {}
    for metric in run.goal.metrics:
        if not is_measured(metric):
            continue
        measured = [r for r in run.records if metric in r.values]
        ratios = [r.std[metric] / r.values[metric] for r in measured if r.std.get(metric) and r.values[metric]]
        steady = f"{100 * float(np.median(ratios)):.1f} %" if ratios else "-"
        names = set()
        for r in measured:
            device = _device(r.device.get(metric))
            name = str(device.get("fingerprint") or plain(device)) if device else ""
            if device:
                devices.setdefault(name, device)
                names.add(name)
        where = ", ".join(sorted(names)) or "-"
        rows.append(
            [metric, plain(settings.get(metric, "-")), where, Number(len(measured), str(len(measured))), steady]
        )
    parts: list[object] = []
    if rows:
        head = ["metric", "setting", "device", "networks", "typical spread"]
        text = "Values are medians; the spread is the median over networks of the interquartile range over the median."
        parts += [table(head, rows), tag("p", text)]
    else:
        parts.append(tag("p", "This run measured nothing on a device: its costs are computed, or it has none."))
    parts += [tag("p", line) for line in reused_lines(run)]
    for name, device in devices.items():
        parts += [tag("h3", f"Device {name}"), facts(_identity(device))]
    hardware = manifest.get("hardware")
    if isinstance(hardware, Mapping) and str(hardware.get("fingerprint")) not in devices:
        parts += [tag("h3", "Machine that ran the search"), facts(_identity(hardware))]
    described = {m: t for m, t in {**MEASURED, **ANALYTIC}.items() if any(m in r.values for r in run.records)}
    if described:
        parts += [tag("h3", "Metrics"), facts(described)]
    return section("measurement", "Measurement", *parts)


def _device(value: Any) -> dict[str, Any]:
    found = value.get("device") if isinstance(value, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _identity(device: Mapping[str, Any]) -> dict[str, Any]:
    return {k.replace("_", " "): device[k] for k in _IDENTITY if device.get(k) is not None}


def data(run: Run, manifest: Mapping[str, Any]) -> Markup:
    """Return the splits of the data and what the task says of them."""
    task = manifest.get("task")
    task = task if isinstance(task, Mapping) else {}
    parts: list[object] = []
    splits = task.get("splits")
    if isinstance(splits, Mapping) and splits:
        rows = [
            [name, Number(size, f"{size:,}") if isinstance(size, int) else plain(size), _SPLITS.get(name, "")]
            for name, size in splits.items()
        ]
        parts.append(table(["split", "examples", "what for"], rows))
    hidden = ("splits", "task", "spec")
    named = {"task": run.config.task, "fingerprint": manifest.get("data_fingerprint")}
    parts.append(facts(named | {str(k).replace("_", " "): v for k, v in task.items() if k not in hidden}))
    return section("data", "Data", *parts)


def making(run: Run, manifest: Mapping[str, Any]) -> Markup:
    """Return training settings, search space and versions."""
    space = {
        "name": run.space.name,
        "genes": len(run.space.genes),
        "genotypes": f"{run.space.n_genotypes:.3g}" if run.space.n_genotypes >= 1e6 else run.space.n_genotypes,
        "identity": run.space.identity,
    }
    config = {
        "batch size": run.config.batch_size,
        "executor": run.config.executor.name,
        "workers": run.config.executor.num_workers,
        "strategy options": run.config.strategy_options,
    }
    parts: list[object] = [tag("h3", "Search space"), facts(space), tag("h3", "Search"), facts(config)]
    for title, key in (("Training", "training"), ("Versions", "versions")):
        found = manifest.get(key)
        if isinstance(found, Mapping) and found:
            parts += [tag("h3", title), facts({str(k).replace("_", " "): v for k, v in found.items()})]
    return section("making", "How it was made", *parts)


def glossary() -> Markup:
    """Return what the words of the report mean."""
    words = join(join([tag("dt", k), tag("dd", v)]) for k, v in _GLOSSARY.items())
    return section("glossary", "Words", tag("dl", words, class_="words"))
