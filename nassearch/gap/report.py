"""The figures of a supernet-quality report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.gap.folder import GapRow, GapSettings, Genotype
from nassearch.gap.sample import LEAST
from nassearch.gap.statistics import Estimate, Floats, agreement, estimate, estimates, line_error, ranking, resampled
from nassearch.tasks.base import Direction
from search_spaces.errors import did_you_mean


@dataclass(frozen=True)
class Qualities:
    """Inherited and from-scratch quality of the same architectures in one metric.

    Attributes:
        metric: The metric.
        direction: In which direction it is better.
        genotypes: The architectures.
        inherited: With the supernet's weights, float64 ``[n]``.
        scratch: From scratch, the mean over seeds, float64 ``[n]``.
        params_m: Parameters in millions, float64 ``[n]``.
        seed_std: Standard deviation between trainings that differ in their seed alone; None with one seed.
        failed: Architectures without a successful training.
    """

    metric: str
    direction: Direction
    genotypes: tuple[Genotype, ...]
    inherited: Floats
    scratch: Floats
    params_m: Floats
    seed_std: float | None
    failed: int

    def only(self, genotypes: Iterable[Genotype]) -> Qualities:
        """Return some of the architectures, in the order given."""
        index = [self.genotypes.index(g) for g in genotypes]
        return Qualities(
            self.metric, self.direction, tuple(self.genotypes[i] for i in index), self.inherited[index],
            self.scratch[index], self.params_m[index], self.seed_std, self.failed,
        )  # fmt: skip


def check_metric(settings: GapSettings, metric: str | None) -> str:
    """Return the metric of a report.

    Raises:
        ConfigError: It is no metric of the task's.
    """
    if metric is None:
        return settings.metric
    if metric not in settings.metrics:
        known = list(settings.metrics)
        raise ConfigError(
            f"--metric {metric!r} is no quality of task {settings.task!r}{did_you_mean(metric, known)}: training "
            f"changes {', '.join(known)}"
        )
    return metric


def qualities(settings: GapSettings, rows: Iterable[GapRow], metric: str) -> Qualities:
    """Return the qualities that rows tell of.

    Raises:
        ConfigError: Fewer than `LEAST` architectures were trained successfully.
    """
    found: dict[Genotype, list[GapRow]] = {}
    for row in rows:
        found.setdefault(row.genotype, []).append(row)
    done = {g: ok for g, some in found.items() if (ok := [r for r in some if metric in r.scratch])}
    if len(done) < LEAST:
        errors = "; ".join(dict.fromkeys(r.error for some in found.values() for r in some if r.error))
        raise ConfigError(
            f"{len(done)} of {len(found)} architectures were trained from scratch successfully, a report needs {LEAST}"
            f"{f' ({errors})' if errors else ''}; train more: nassearch gap {settings.run} --architectures N"
        )
    values = [np.array([r.scratch[metric] for r in ok]) for ok in done.values()]
    repeated = [v for v in values if len(v) > 1]
    return Qualities(
        metric,
        settings.metrics[metric],
        tuple(done),
        np.array([ok[0].inherited[metric] for ok in done.values()]),
        np.array([v.mean() for v in values]),
        np.array([ok[0].params_m for ok in done.values()]),
        float(np.sqrt(np.mean([v.var(ddof=1) for v in repeated]))) if repeated else None,
        len(found) - len(done),
    )


@dataclass(frozen=True)
class Report:
    """Figures with intervals; see `nassearch.gap.statistics.agreement`.

    Attributes:
        qualities: What they are of.
        supernet: Of the inherited quality.
        trivial: Of the number of parameters: ``mae`` of a line through the other architectures, ``kendall_tau``,
            ``regret``.
        advantage: Supernet minus trivial, of the figures that both have.
    """

    qualities: Qualities
    supernet: dict[str, Estimate]
    trivial: dict[str, Estimate]
    advantage: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON data."""
        q = self.qualities
        return {
            "metric": q.metric,
            "direction": q.direction,
            "architectures": len(q.genotypes),
            "failed": q.failed,
            "scratch_mean": float(q.scratch.mean()),
            "scratch_spread": [float(q.scratch.min()), float(q.scratch.max())],
            "scratch_seed_std": q.seed_std,
            **{
                part: {name: e.to_json() for name, e in getattr(self, part).items()}
                for part in ("supernet", "trivial", "advantage")
            },
        }


def make_report(q: Qualities) -> Report:
    """Compute the figures."""
    counts = resampled(len(q.genotypes))
    mine = agreement(q.inherited, q.scratch, q.direction, counts)
    simple = _trivial(q, counts)
    both = {name: estimate(mine[name] - simple[name]) for name in simple}
    return Report(q, estimates(mine), estimates(simple), both)


def _trivial(q: Qualities, counts: NDArray[np.float64]) -> dict[str, Floats]:
    """Return the figures of taking the number of parameters for the quality."""
    share = counts / counts.sum(1, keepdims=True)
    told = q.params_m if q.direction == "max" else -q.params_m
    error = np.abs(line_error(q.params_m, q.scratch))
    return {"mae": share @ error, **ranking(told, q.scratch, q.direction, counts)}
