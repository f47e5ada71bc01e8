"""The bounds of each metric before a search: smallest, largest and sampled networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nassearch.constraints import Constraint
from nassearch.devices import KnownDevices
from nassearch.errors import ConfigError, EvaluationError
from nassearch.evaluation import Job
from nassearch.executors import Executor
from nassearch.metrics import ANALYTIC, is_measured
from nassearch.store import Outcome
from search_spaces import SearchSpace
from supernets import Supernet

_ANALYTIC_SAMPLE = 10_000


@dataclass(frozen=True)
class Bounds:
    """A metric of the smallest and the largest network, and its range over a sample that includes both."""

    smallest: float
    largest: float
    least: float
    most: float
    n_sampled: int

    def to_json(self) -> dict[str, float]:
        """Return the fields as JSON data."""
        return asdict(self)


def analytic_bounds(space: SearchSpace, net: Supernet, seed: int = 0) -> dict[str, Bounds]:
    """Return the bounds of the analytic metrics: exact for both ends, and over a sample of 10,000."""
    sample = space.sample(_ANALYTIC_SAMPLE, np.random.default_rng([seed, 1]))
    G = np.concatenate([space.smallest[None], space.largest[None], sample])
    return {
        metric: Bounds(float(v[0]), float(v[1]), float(v.min()), float(v.max()), len(sample))
        for metric, v in net.analytic(G).items()
    }


def evaluated_bounds(
    executor: Executor, space: SearchSpace, metrics: Iterable[str], *, n_sampled: int, seed: int, devices: KnownDevices
) -> tuple[dict[str, Bounds], float]:
    """Evaluate the smallest, the largest and a few sampled networks.

    Args:
        executor: Evaluates; its supernet may be untrained where only costs are wanted.
        space: The search space.
        metrics: The metrics wanted: measured ones, or the task's.
        n_sampled: Number of sampled networks besides the two ends.
        seed: Decides the sample.
        devices: Is told what measured, and refuses another device than before.

    Returns:
        Metric -> bounds, and the mean time of one evaluation in seconds.

    Raises:
        EvaluationError: A network could not be evaluated.
    """
    wanted = list(metrics)
    sample = space.sample(n_sampled, np.random.default_rng([seed, 2]))
    G = np.concatenate([space.smallest[None], space.largest[None], sample])
    split = "search" if any(not is_measured(m) for m in wanted) else None
    outcomes: dict[int, Outcome] = {}
    executor.submit([Job(i, arch, split) for i, arch in enumerate(space.decode(G))])
    while executor.in_flight:
        for outcome in executor.wait():
            if outcome.status != "ok":
                which = {0: "smallest", 1: "largest"}.get(outcome.id, "sampled")
                raise EvaluationError(
                    f"the bounds of {', '.join(wanted)} are not to be had: the {which} network could not be evaluated "
                    f"({outcome.error}); mend the cause, or leave the constraint out"
                )
            devices.check(outcome.device)
            outcomes[outcome.id] = outcome
    bounds = {}
    for metric in wanted:
        v = [outcomes[i].values[metric] for i in range(len(G))]
        bounds[metric] = Bounds(v[0], v[1], min(v), max(v), len(sample))
    return bounds, float(np.mean([o.wall_s for o in outcomes.values()]))


def unsatisfiable(constraints: Sequence[Constraint], bounds: dict[str, Bounds]) -> list[str]:
    """Return one message for each constraint that no network within the bounds can meet."""
    faults = []
    for constraint in constraints:
        if constraint.metric not in bounds:
            continue
        b = bounds[constraint.metric]
        resolved = constraint.resolve({"largest": b.largest, "smallest": b.smallest})
        if not resolved.satisfied([b.least, b.most]).any():
            where = "computed" if constraint.metric in ANALYTIC else "measured"
            faults.append(
                f"constraint '{resolved}' cannot be met: {constraint.metric} is {b.smallest:.4g} for the smallest and "
                f"{b.largest:.4g} for the largest network, {b.least:.4g} to {b.most:.4g} over both and {b.n_sampled} "
                f"sampled ones ({where}); choose a limit within that range"
            )
    return faults


def check_satisfiable(constraints: Sequence[Constraint], bounds: dict[str, Bounds]) -> None:
    """Refuse constraints that cannot be met.

    Raises:
        ConfigError: With the bounds of each.
    """
    faults = unsatisfiable(constraints, bounds)
    if faults:
        raise ConfigError(faults)


def bounds_table(bounds: dict[str, Bounds], title: str) -> Any:
    """Return the bounds as a rich table."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in ("smallest net", "largest net", "least", "most", "sampled"):
        table.add_column(name, justify="right")
    for metric, b in bounds.items():
        cells = [f"{x:.4g}" for x in (b.smallest, b.largest, b.least, b.most)]
        table.add_row(metric, *cells, str(b.n_sampled))
    return table
