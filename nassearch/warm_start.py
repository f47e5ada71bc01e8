"""What a run takes over from earlier runs of its space: read at its start, kept in its store from then on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.devices import Device, devices_of
from nassearch.errors import ConfigError
from nassearch.evaluation import Part
from nassearch.metrics import ANALYTIC, base_name, is_measured
from nassearch.problem import Problem, parse_latency
from nassearch.runs import SUPERNET_FOLDER, Run
from nassearch.store import REUSED, Outcome, Store
from search_spaces import Rows
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from predictors import LatencySetting

Row = tuple[int, ...]
ACCURACY = "accuracy"  # every metric of the task, in --reuse
_META = "warm_start"


@dataclass(frozen=True)
class WarmStart:
    """Networks of earlier runs with what is known of them.

    Attributes:
        rows: Distinct rows.
        known: Metric -> value of each row as this run would find it; NaN where unknown.
        prior: Metric -> value of each row under other conditions (device, data, weights); NaN where unknown.
        reused: Row -> what is not evaluated again.
        sources: What is told of each run: its folder, identities, metrics.
    """

    rows: tuple[Row, ...]
    known: Mapping[str, Sequence[float]]
    prior: Mapping[str, Sequence[float]]
    reused: Mapping[Row, Part]
    sources: tuple[Mapping[str, Any], ...]

    @property
    def genotypes(self) -> Rows:
        """The rows as an array, int64 ``[n, n_genes]``."""
        return np.array(self.rows, dtype=np.int64)

    @property
    def devices(self) -> dict[str, Device]:
        """What measured the costs that are reused: the run's other measurements have to come from the same."""
        found: dict[str, Device] = {}
        for part in self.reused.values():
            found = devices_of(part.device) | found
        return found

    @property
    def summary(self) -> str:
        """What is taken over, in one line."""
        reused = sorted({m for part in self.reused.values() for m, how in part.measured.items() if how != "analytic"})
        parts = [f"reused, not evaluated again: {', '.join(reused)}"] if reused else []
        others = {"known": sorted(set(self.known) - set(reused)), "as a prior": sorted(self.prior)}
        parts += [f"{what}: {', '.join(metrics)}" for what, metrics in others.items() if metrics]
        runs = ", ".join(str(s["run"]) for s in self.sources)
        return f"Warm start from {len(self.rows)} networks of {runs}" + (f" ({'; '.join(parts)})" if parts else "")

    def save(self, store: Store) -> None:
        """Write everything into the store of the new run, which needs the earlier ones no more."""
        store.set_meta(
            _META,
            {
                "sources": list(self.sources),
                "rows": self.rows,
                "known": {m: _without_nan(column) for m, column in self.known.items()},
                "prior": {m: _without_nan(column) for m, column in self.prior.items()},
                "reused": [[row, vars(part)] for row, part in self.reused.items()],
            },
        )

    @classmethod
    def of_store(cls, store: Store) -> WarmStart | None:
        """Return what `save` wrote, or None."""
        data = store.meta(_META)
        if data is None:
            return None
        return cls(
            tuple(tuple(row) for row in data["rows"]),
            {m: _with_nan(column) for m, column in data["known"].items()},
            {m: _with_nan(column) for m, column in data["prior"].items()},
            {tuple(row): Part(**part) for row, part in data["reused"]},
            tuple(data["sources"]),
        )


def _without_nan(column: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(v) else v for v in column]


def _with_nan(column: Iterable[float | None]) -> list[float]:
    return [math.nan if v is None else v for v in column]


class _Source:
    """An earlier run, seen from the new one.

    Raises:
        ConfigError: It is no run, of another space, or has nothing evaluated.
    """

    def __init__(self, folder: Path, problem: Problem) -> None:
        self.folder, self.run, self._problem = folder, Run(folder), problem
        space = self.run.space
        if space.identity != problem.space.identity:
            raise ConfigError(
                f"it is of space {space.name!r} ({space.identity}), the new run of {problem.space.name!r} "
                f"({problem.space.identity}); a warm start needs the same space"
            )
        with self.run.open_store() as store:
            proposals = store.proposals()
            self.outcomes = {proposals[o.id].row: o for o in store.outcomes().values() if o.status == "ok"}
        if not self.outcomes:
            raise ConfigError("it has no successful evaluation yet; give a run that has some")
        self.metrics = list(dict.fromkeys(m for o in self.outcomes.values() for m in o.values))

    def to_json(self) -> dict[str, Any]:
        """Return what identifies the run."""
        return {
            "run": str(self.folder),
            "networks": len(self.outcomes),
            "metrics": self.metrics,
            "task": self.run.config.task,
            "data_fingerprint": self.run.manifest.get("data_fingerprint"),
            "weights": _weights(self.run.folder / SUPERNET_FOLDER),
            "latency": self.run.manifest.get("latency"),
        }

    def difference(self, metric: str, *, trust_cluster: bool = False) -> str | None:
        """Return why the values of a metric are not those that the new run would find, or None.

        Args:
            metric: Name of the metric.
            trust_cluster: Take the device of a cluster to be the same; measurements of another are refused later.
        """
        if metric not in self.metrics:
            return f"{self.folder} has no {metric!r}; it has {', '.join(self.metrics)}"
        return self._other_device(metric, trust_cluster) if is_measured(metric) else self._other_quality

    @cached_property
    def _other_quality(self) -> str | None:
        config, old = self._problem.config, self.run.config
        theirs, ours = self.run.manifest.get("data_fingerprint"), self._problem.task.fingerprint
        if theirs != ours:
            return (
                f"the data of {self.folder} ({old.task!r}, seed {old.seed}) have fingerprint {theirs}, those of the "
                f"new run ({config.task!r}, seed {config.seed}) {ours}; give the same --task and --seed"
            )
        weights = _weights(self.run.folder / SUPERNET_FOLDER)
        if config.train_method != "none" or config.supernet is None or _weights(config.supernet) != weights:
            given = f"--supernet {config.supernet}" if config.supernet else "of its own"
            return (
                f"the new run has other supernet weights ({given}) than {self.folder}; leave --supernet, --checkpoint "
                "and --train out, then that run's supernet is searched as it is"
            )
        if config.evaluation != old.evaluation:
            return (
                f"{self.folder} evaluated with {_settings(old.evaluation)}, the new run would with "
                f"{_settings(config.evaluation)}; give the same evaluation settings"
            )
        return None

    def _other_device(self, metric: str, trust_cluster: bool) -> str | None:
        from nassearch.executors import measures_elsewhere
        from predictors import describe_device

        setting = self._problem.latency.get(metric)
        theirs = parse_latency(self.run.config.latency).get(metric.partition("@")[2])
        if setting is None or theirs is None or _unnamed(setting) != _unnamed(theirs):
            return f"{metric} of {self.folder} was measured as {theirs}, the new run measures it as {setting}"
        executor = self._problem.config.executor
        if measures_elsewhere(executor.name, executor.address):
            return None if trust_cluster else f"where {metric} will be measured is not known yet"
        here = describe_device(setting)
        for outcome in self.outcomes.values():
            device = devices_of(outcome.device).get(metric)
            if device is not None and device.fingerprint != here.fingerprint:
                return (
                    f"{metric} of {self.folder} was measured on {device}, this machine is {here} ({here.fingerprint}); "
                    "figures of different devices never mix: measure it anew, or under another name"
                )
        return None

    def relative(self, metric: str) -> str | None:
        """Return the metric of the run that is most like one of the new run, or None."""
        if metric in self.metrics:
            return metric
        return next((m for m in self.metrics if is_measured(m) and base_name(m) == base_name(metric)), None)

    def reused(self, outcome: Outcome, metrics: Iterable[str]) -> Part:
        """Return the part of an outcome that is not evaluated again; with quality come the exact metrics."""
        wanted = [m for m in metrics if m in outcome.values]
        quality = any(not is_measured(m) for m in wanted)
        exact = [m for m in ANALYTIC if m in outcome.values] if quality else []
        device = {m: {**outcome.device[m], "reused_from": str(self.folder)} for m in wanted if m in outcome.device}
        return Part(
            {m: outcome.values[m] for m in [*exact, *wanted]},
            {m: outcome.std[m] for m in wanted if m in outcome.std},
            dict.fromkeys(exact, "analytic") | dict.fromkeys(wanted, f"{REUSED}{self.folder}"),
            device,
        )


def _weights(folder: Path) -> list[str]:
    """Return what identifies the weights of a saved supernet: the names of its files, which have their checksums."""
    return sorted(p.name for p in folder.glob("*.safetensors"))


def _unnamed(setting: LatencySetting) -> LatencySetting:
    return replace(setting, name=None, resource=None)


def _settings(section: Any) -> str:
    return ", ".join(f"{k}={v}" for k, v in section.model_dump().items())


def gather(problem: Problem) -> WarmStart | None:
    """Read what a new run takes over from the runs that its configuration names; nothing is written.

    Raises:
        ConfigError: A folder is no run of this space, or what is to be reused differs; with everything that is wrong.
    """
    config = problem.config
    faults: list[str] = []
    sources: list[_Source] = []
    for folder in config.warm_start:
        try:
            sources.append(_Source(folder, problem))
        except ConfigError as error:
            faults += [f"--warm-start {folder}: {fault}" for fault in error.faults]
    if faults:
        raise ConfigError(faults)
    if not sources:
        return None
    lenders = _lenders(problem, sources)
    reused: dict[Row, Part] = {}
    for source in sources:
        metrics = [m for m, lending in lenders.items() if source in lending]
        for row, outcome in source.outcomes.items():
            part = source.reused(outcome, metrics)
            if part.values:
                reused[row] = part.joined(reused[row]) if row in reused else part
    rows = tuple(dict.fromkeys(row for source in sources for row in source.outcomes))
    known, prior = _columns(problem, sources, rows, lenders)
    return WarmStart(rows, known, prior, reused, tuple(s.to_json() for s in sources))


def _lenders(problem: Problem, sources: list[_Source]) -> dict[str, list[_Source]]:
    """Return each metric to be reused with the runs that it can be taken from.

    Raises:
        ConfigError: No run has it under the same conditions, or runs of different devices have; the message says what
            differs in each.
    """
    quality = list(problem.task.metrics)
    lenders: dict[str, list[_Source]] = {}
    faults = []
    for name in problem.config.reuse:
        allowed = [ACCURACY, *(m for m in problem.metrics if m not in ANALYTIC)]
        if name in ANALYTIC:
            faults.append(f"--reuse {name}: it is computed and costs nothing; leave it out")
        elif name not in allowed and name not in quality:
            near = did_you_mean(name, allowed)
            faults.append(f"--reuse {name!r} is no metric of this run{near}; allowed: {', '.join(allowed)}")
        else:
            for metric in quality if name == ACCURACY else [name]:
                why = {s: s.difference(metric, trust_cluster=True) for s in sources}
                lenders[metric] = [s for s in sources if why[s] is None]
                if not lenders[metric]:
                    faults += [f"--reuse {name}: {w}" for w in why.values()]
                elif fault := _mixed_devices(metric, lenders[metric]):
                    faults.append(f"--reuse {name}: {fault}")
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return lenders


def _mixed_devices(metric: str, lenders: Iterable[_Source]) -> str | None:
    """Return what is wrong where the values of a metric to be reused were measured on different devices, or None."""
    found: dict[str, str] = {}
    for source in lenders:
        for outcome in source.outcomes.values():
            if (device := devices_of(outcome.device).get(metric)) is not None:
                found.setdefault(device.fingerprint, f"on {device} in {source.folder}")
    if len(found) < 2:
        return None
    return (
        f"{metric} was measured {' and '.join(found.values())}; figures of different devices never mix: give "
        f"--warm-start runs of one device, or leave {metric} out of --reuse and measure it anew"
    )


def _columns(
    problem: Problem, sources: list[_Source], rows: tuple[Row, ...], lenders: Mapping[str, list[_Source]]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return known and prior values of the metrics of the goal; a prior is of one run, scales are not mixed."""
    known: dict[str, list[float]] = {}
    prior: dict[str, list[float]] = {}
    for metric in problem.metrics:
        if metric in ANALYTIC:
            continue
        same = [s for s in sources if s in lenders.get(metric, ()) or s.difference(metric) is None]
        if same:
            known[metric] = [next(_values(same, row, metric), math.nan) for row in rows]
        related = next((s for s in sources if s not in same and s.relative(metric)), None)
        if related is not None:
            name = related.relative(metric) or metric
            prior[metric] = [next(_values([related], row, name), math.nan) for row in rows]
    return known, prior


def _values(sources: Iterable[_Source], row: Row, metric: str) -> Iterator[float]:
    for source in sources:
        if row in source.outcomes and metric in source.outcomes[row].values:
            yield float(source.outcomes[row].values[metric])
