"""Whether the fronts of two runs can be shown in one plot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError
from nassearch.metrics import is_measured
from nassearch.runs import Run

_OF_A_RUN = ("spec", "seed", "fingerprint")


def check_beside(run: Run, other: Run) -> None:
    """Check that another run answers the same question as a run: of one model, on the same data, by the same measures.

    Strategies, seeds, budgets, constraints and what the space offers may differ.

    Args:
        run: The run that is shown.
        other: The run whose front is to be shown beside it.

    Raises:
        ConfigError: They differ; the message says in what, all of it together.
    """
    faults = []
    if not _same_model(run, other):
        faults.append(f"its model is {_model(other)}, not {_model(run)}")
    if not _same_data(run, other):
        faults.append(f"its data are {other.config.task}, not {run.config.task}")
    mine, its = ({(o.metric, o.direction) for o in r.goal.objectives} for r in (run, other))
    if mine != its:
        shown = [", ".join(sorted(f"{m}:{d}" for m, d in objectives)) for objectives in (its, mine)]
        faults.append(f"its objectives are {shown[0]}, not {shown[1]}")
    for metric in sorted(m for m, _ in mine & its if is_measured(m)):
        settings = [r.manifest.get("latency", {}).get(metric) for r in (other, run)]
        if None not in settings and settings[0] != settings[1]:
            faults.append(f"its {metric} was measured as {settings[0]}, not {settings[1]}")
    if faults:
        raise ConfigError(
            f"{other.folder} cannot be shown beside {run.folder}: {'; '.join(faults)}. Name runs that differ in how "
            "they searched, not in what"
        )


def _model(run: Run) -> str:
    return run.config.model or run.config.space


def _same_model(run: Run, other: Run) -> bool:
    if run.config.supernet or other.config.supernet:  # saved, and maybe moved: the space tells
        return run.space.name == other.space.name
    return _model(run) == _model(other) or _path(run) == _path(other)


def _path(run: Run) -> str:
    """Return the model's folder as a path from the root, or from where the run was started if that is not known."""
    return os.path.normpath(Path(run.manifest.get("working_directory", "."), _model(run)))


def _same_data(run: Run, other: Run) -> bool:
    if run.config.task == other.config.task:
        return True
    told = [_described(r) for r in (run, other)]
    return None not in told and told[0] == told[1]


def _described(run: Run) -> dict[str, Any] | None:
    """Return what the data of a run are, whatever they were called; None where it does not say."""
    task = run.manifest.get("task")
    return {n: v for n, v in task.items() if n not in _OF_A_RUN} if isinstance(task, dict) else None
