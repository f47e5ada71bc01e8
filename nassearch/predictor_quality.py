"""Predictors of a finished or running search, fitted anew to its evaluations and judged on rows they have not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.manifest import write_json
from nassearch.metrics import ANALYTIC, base_name
from nassearch.runs import Record, Run
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from predictors import HeldOut, LatencyTable, Predictor, Quality
    from predictors.quality import LearningPoint

LEAST_ROWS = 10
"""Successful evaluations that predictors are judged with at least."""
DEFAULT_PREDICTORS = ("auto", "gp", "ridge", "svr", "xgboost", "mlp")

Tell = Callable[[str], None]
Curves = Literal["all", "best", "none"]


@dataclass(frozen=True)
class Fit:
    """A predictor fitted to a metric of a run.

    Attributes:
        name: What to call it: its name, with what it builds on.
        predictor: The predictor.
        held_out: What cross-validation shows: predictions of rows it was not fitted on, with 90 % intervals.
        basis: What became of its prior or table: ``"sum"``, ``"line"``, ``"residual"``; empty where it has none, or
            where cross-validation found it of no use.
        fit_s: Seconds that fitting and cross-validation took.
        curve: Learning curve; empty where none was asked for.
    """

    name: str
    predictor: Predictor
    held_out: HeldOut
    basis: str
    fit_s: float
    curve: tuple[LearningPoint, ...] = ()

    @property
    def quality(self) -> Quality:
        """Cross-validated quality."""
        return self.predictor.quality

    def to_json(self) -> dict[str, Any]:
        """Return name, quality, coverage of the conformal intervals and learning curve as JSON data."""
        quality = self.quality
        return {
            "predictor": self.name,
            "basis": self.basis,
            **quality.to_json(),
            "interval_coverage": self.held_out.coverage,
            "learning_curve": [point.to_json() for point in self.curve],
            "fit_s": self.fit_s,
        }


@dataclass(frozen=True)
class MetricFits:
    """All predictors of one metric; float64 ``[n]`` values of the evaluations they were fitted to."""

    metric: str
    fits: tuple[Fit, ...]

    @property
    def best(self) -> Fit:
        """The one that ranks held-out rows best; the first of equals."""
        taus = [fit.quality.kendall_tau for fit in self.fits]
        return self.fits[int(np.argmax(np.nan_to_num(taus, nan=-2.0)))]


def chosen_metrics(run: Run, only: Sequence[str] = ()) -> list[str]:
    """Return the metrics of the goal that are not computed exactly, or some of them.

    Args:
        run: The run.
        only: Names to choose; all where empty.

    Raises:
        ConfigError: A name that is not there, or nothing to predict.
    """
    known = [m for m in run.goal.metrics if m not in ANALYTIC]
    if not known:
        raise ConfigError(
            f"{run.folder} has nothing to predict: {', '.join(run.goal.metrics)} are computed exactly for any network"
        )
    unknown = [m for m in only if m not in known]
    if unknown:
        raise ConfigError(
            [
                f"metric {m!r} is not predicted in this run{did_you_mean(m, known)}; there are {', '.join(known)}"
                for m in unknown
            ]
        )
    return [m for m in known if not only or m in only]


def check_predictors(names: Sequence[str]) -> list[str]:
    """Return the names of predictors, or the default ones, without repeats.

    Raises:
        ConfigError: A name that is not registered.
    """
    from predictors import list_predictors

    known = list_predictors()
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ConfigError(
            [f"unknown predictor {n!r}{did_you_mean(n, known)}; available: {', '.join(known)}" for n in unknown]
        )
    return list(dict.fromkeys(names or DEFAULT_PREDICTORS))


def rows_of(
    run: Run, metric: str, *, without: Container[tuple[int, ...]] = ()
) -> tuple[NDArray[np.float32], NDArray[np.float64], list[Record]]:
    """Return features ``[n, f]`` and values ``[n]`` of the successful evaluations of a metric, with their records.

    Args:
        run: The run.
        metric: One of its metrics.
        without: Rows to leave out.

    Raises:
        ConfigError: There are fewer than `LEAST_ROWS`.
    """
    done = [r for r in run.records if r.status == "ok" and np.isfinite(r.values.get(metric, np.nan))]
    if without:
        done = [r for r in done if r.row not in without]
    beside = " besides those that the other run reused" if without else ""
    if len(done) < LEAST_ROWS:
        raise ConfigError(
            f"{run.folder} has {len(done)} successful evaluations of {metric}{beside}, predictors are judged with "
            f"{LEAST_ROWS} or more; go on with: nassearch run --resume {run.folder}"
        )
    X = run.space.features(np.array([r.row for r in done], dtype=np.int64))
    return X, np.array([r.values[metric] for r in done], dtype=np.float64), done


def metric_of_prior(run: Run, prior: Run, metric: str) -> str | None:
    """Return the metric of another run that tells of a run's metric: of the same name, else the only one of its kind.

    Raises:
        ConfigError: It is the same run, or the runs are of different spaces.
    """
    if prior.folder.resolve() == run.folder.resolve():
        raise ConfigError(
            f"--prior {prior.folder} is the run itself, which would be judged on what it was told; give another run"
        )
    if prior.space.identity != run.space.identity:
        raise ConfigError(
            f"--prior {prior.folder} is of space {prior.space.name!r} ({prior.space.identity}), {run.folder} of "
            f"{run.space.name!r} ({run.space.identity}); a prior must be of the same space"
        )
    if metric in prior.goal.metrics:
        return metric
    alike = [m for m in prior.goal.metrics if base_name(m) == base_name(metric)]
    return alike[0] if len(alike) == 1 else None


def shared_rows(run: Run, metric: str) -> frozenset[tuple[int, ...]]:
    """Return rows whose value of a metric was taken over from an earlier run: a prior that has them knows the answer.

    They are left out of any prior, since the run they come from may have been moved, or have taken them over itself.
    """
    return frozenset(r.row for r in run.records if metric in r.reused)


def metrics_of_table(run: Run, metrics: Sequence[str], table: LatencyTable, source: Path) -> list[str]:
    """Return the latencies of a run that a table of blocks tells of: same space, setting and device.

    Raises:
        ConfigError: There is none; the message says why, latency by latency.
    """
    from predictors import DeviceIdentity, LatencySetting

    if table.space.identity != run.space.identity:
        raise ConfigError(
            f"--table {source} is of space {table.space.name!r} ({table.space.identity}), {run.folder} of "
            f"{run.space.name!r} ({run.space.identity}); measure the blocks of that space"
        )
    found, reasons = [], []
    for metric in (m for m in metrics if base_name(m) == "latency_ms"):
        said = next((r.device[metric] for r in run.records if r.status == "ok" and metric in r.device), None)
        if said is None:
            reasons.append(f"{metric} was not measured yet")
        elif reason := table.elsewhere(
            LatencySetting.from_json(said["setting"]), DeviceIdentity.from_json(said["device"])
        ):
            reasons.append(f"for {metric}, {reason}")
        else:
            found.append(metric)
    if not found:
        raise ConfigError(
            f"--table {source} tells of no latency of {run.folder}: {'; '.join(reasons) or 'none was measured'}. "
            "Measure a table with the run's setting on its device, or give another device's run as --prior"
        )
    return found


def fit_metric(
    run: Run,
    metric: str,
    names: Sequence[str],
    *,
    prior: Run | None = None,
    table: LatencyTable | None = None,
    curves: Curves = "best",
    tell: Tell = lambda _: None,
) -> MetricFits:
    """Fit predictors to a metric of a run and cross-validate them.

    Args:
        run: The run.
        metric: One of its metrics.
        names: Registered predictors; the first one is also fitted with the prior and on top of the table.
        prior: A run of the same space, on another device say.
        table: Block latencies of the run's setting and device.
        curves: Whose learning curves are wanted; they take most of the time.
        tell: Is told of each fit and curve that is finished, as many as `fits_to_make` says.

    Raises:
        ConfigError: Too few evaluations, here or in the prior.
        PredictorError: The values cannot be fitted.
    """
    from predictors import make_predictor
    from predictors.models.table import TablePredictor

    X, y, _ = rows_of(run, metric)
    seed = run.config.seed
    fits: list[Fit] = []

    def fit(name: str, predictor: Predictor, other: Predictor | None = None) -> None:
        from predictors import held_out

        started = time.perf_counter()
        predictor.fit(X, y, prior=other)
        held = held_out(predictor)
        seconds = time.perf_counter() - started
        fits.append(Fit(name, predictor, held, _basis(predictor), seconds))
        tell(f"{metric}: {name}")

    for name in names:
        fit(name, make_predictor(name, seed=seed))
    if prior is not None and (there := metric_of_prior(run, prior, metric)) is not None:
        X0, y0, _ = rows_of(prior, there, without=shared_rows(run, metric))
        known = make_predictor(names[0], seed=seed).fit(X0, y0)
        fit(f"{names[0]} + prior", make_predictor(names[0], seed=seed), known)
    if table is not None:
        fit("table", TablePredictor(seed=seed, table=table, correction="none"))
        fit("table + line", TablePredictor(seed=seed, table=table, correction="line"))
        fit(f"table + {names[0]}", TablePredictor(seed=seed, table=table, correction=names[0]))
    best = MetricFits(metric, tuple(fits)).best
    for i, one in enumerate(fits):
        if curves == "all" or (curves == "best" and one is best):
            fits[i] = replace(one, curve=one.quality.learning_curve)
            tell(f"{metric}: {one.name}, learning curve")
    return MetricFits(metric, tuple(fits))


def fits_to_make(names: Sequence[str], *, prior: bool, table: bool, curves: Curves) -> int:
    """Return how many fits and curves `fit_metric` makes of a metric that the prior and the table tell of, or not."""
    fits = len(names) + prior + 3 * table
    return fits + {"all": fits, "best": 1, "none": 0}[curves]


def _basis(predictor: Predictor) -> str:
    from predictors.models.table import TablePredictor

    way = predictor.way if isinstance(predictor, TablePredictor) else predictor.transfer
    return "" if way in ("none", "model") else way


def save_best(run: Run, found: Sequence[MetricFits]) -> Path:
    """Write the best predictor of each metric to ``predictors/`` of the run, with its quality.

    Returns:
        The folder.
    """
    import json

    folder = run.folder / "predictors"
    folder.mkdir(exist_ok=True)
    summary_file = folder / "quality.json"
    summary = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.is_file() else {}
    for one in found:
        one.best.predictor.save(folder / one.metric)
        summary[one.metric] = {"predictor": one.best.name, **one.best.quality.to_json()}
    write_json(summary_file, summary)
    return folder
