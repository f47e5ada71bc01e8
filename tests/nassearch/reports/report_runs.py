"""Run folders with made-up evaluations, written without a supernet: for tests of whatever reads runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nassearch.config import make_config
from nassearch.constraints import Constraint
from nassearch.metrics import base_name
from nassearch.objectives import Objective
from nassearch.runs import CONFIG_FILE, MANIFEST_FILE, STORE_FILE, Run
from nassearch.store import Outcome, Store
from search_spaces import get_space

SETTING = {"device": "cpu", "backend": "eager", "batch": 1, "threads": 1, "dtype": "float32", "resolution": None}
DEVICE = {
    "device": "cpu", "cpu": "Example CPU @ 3.0GHz", "cores": 8, "usable_cores": 8, "threads": 1, "machine": "x86_64",
    "os": "Linux-6.1", "torch": "2.15.0", "gpu": None, "cuda": None, "fingerprint": "b1135ab8da6d5cb6",
}  # fmt: skip


def made_up_metrics(share: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return metrics of networks whose size is ``share`` (0-1) of the largest, float ``[n]`` each."""
    n = len(share)
    return {
        "top1": 72 + 16 * np.sqrt(share) + rng.normal(0, 0.9, n),
        "top5": 94 + 5 * share + rng.normal(0, 0.2, n),
        "latency_ms": 0.7 + 1.8 * share + rng.normal(0, 0.06, n),
        "latency_ms@gpu": 0.3 + 0.2 * share + rng.normal(0, 0.02, n),
        "params_m": 0.05 + 0.7 * share**1.3,
        "macs_m": 0.2 + 5.4 * share,
        "size_mb": 0.2 + 2.8 * share**1.3,
    }


def make_run(
    folder: Path,
    *,
    objectives: Sequence[str] = ("top1:max", "latency_ms:min"),
    constraints: Sequence[str] = (),
    n: int = 60,
    failed: Collection[int] = (),
    interrupted: Collection[int] = (),
    finals: bool = True,
    predictions: bool = True,
    predictors: bool = True,
    task: str = "digits",
    strategy: str = "linas",
    manifest: Mapping[str, Any] | None = None,
    error: str = "RuntimeError: no memory",
    seed: int = 0,
) -> Run:
    """Write a run folder of ``mobilenetv3-tiny``.

    Args:
        folder: Where; must not exist.
        objectives: As in the configuration, of `made_up_metrics`.
        constraints: As in the configuration.
        n: Number of evaluations, in batches of 10.
        failed: Ids of evaluations that failed, with ``error``.
        interrupted: Ids of evaluations whose latencies are twelve times too long.
        finals: Whether the front has its second look.
        predictions: Whether the strategy predicted what it asked for after batch 0.
        predictors: Whether ``predictors/quality.json`` is there.
        task: Task of the configuration.
        strategy: Strategy of the configuration.
        manifest: Fields over those of the made-up manifest.
        error: What the failed evaluations say.
        seed: Decides every value.
    """
    folder.mkdir(parents=True)
    fields = {
        "space": "mobilenetv3-tiny", "task": task, "objectives": list(objectives), "seed": seed,
        "constraints": list(constraints), "num_evals": max(n, 1), "strategy": strategy, "out": str(folder),
    }  # fmt: skip
    config = make_config(fields)
    (folder / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")
    data = _manifest(task, seed) | dict(manifest or {})
    (folder / MANIFEST_FILE).write_text(json.dumps(data), encoding="utf-8")
    wanted = [Objective.parse(o).metric for o in objectives]
    needed = dict.fromkeys([*wanted, *(Constraint.parse(c).metric for c in constraints), *_always()])
    with Store(folder / STORE_FILE, get_space("mobilenetv3-tiny"), create=True) as store:
        _search(store, n, list(needed), wanted, set(failed), set(interrupted), error, predictions, seed)
        store.set_meta("diagnostics", _diagnostics(strategy, wanted, n))
        if finals:
            rng = np.random.default_rng([seed, 2])
            for r in Run(folder).front:
                again = {m: r.values[m] * rng.normal(1, 0.015) for m in needed if base_name(m) == "latency_ms"}
                report = {m: r.values[m] - abs(rng.normal(0.8, 0.5)) for m in ("top1", "top5") if m in needed}
                store.append_final(r.id, again, report, {})
    if predictors:
        (folder / "predictors").mkdir()
        quality = {m: {"predictor": "auto", **_quality(n)} for m in wanted if m not in ("params_m", "macs_m")}
        (folder / "predictors" / "quality.json").write_text(json.dumps(quality), encoding="utf-8")
    return Run(folder)


def _always() -> list[str]:
    return ["top1", "top5", "params_m", "macs_m", "size_mb"]


def _search(
    store: Store,
    n: int,
    metrics: list[str],
    wanted: list[str],
    failed: set[int],
    interrupted: set[int],
    error: str,
    predictions: bool,
    seed: int,
) -> None:
    """Log batches of 10; networks of later batches are nearer the front, as a search's are."""
    space = store.space
    rng = np.random.default_rng([seed, 1])
    store.set_meta("bounds", {m: {"smallest": v[0], "largest": v[1]} for m, v in _bounds(metrics).items()})
    rows = space.sample(n, rng) if n else np.zeros((0, len(space.genes)), dtype=np.int64)
    counts = np.array([len(g.choices) for g in space.genes])
    for start in range(0, n, 10):
        G = rows[start : start + 10]
        share = (G / (counts - 1)).mean(axis=1)
        share = np.clip((share - share.mean()) * 4 + rng.uniform(0.1, 0.9, len(G)), 0.0, 1.0)
        values = made_up_metrics(share, rng)
        if start:
            values["top1"] += min(2.0, start / 40)
        said = None
        if start and predictions:
            noise = {m: rng.normal(1, 0.008, len(G)) for m in wanted if m not in ("params_m", "macs_m")}
            said = [{m: float(values[m][i] * noise[m][i]) for m in noise} for i in range(len(G))]
        proposals = store.propose(G, seed=seed, origin="search", predicted=said)
        for i, p in enumerate(proposals):
            if p.id in failed:
                store.append(Outcome(p.id, "failed", error=error, host="host-a", wall_s=0.4, attempts=3))
                continue
            chosen = {m: float(values[m][i]) for m in metrics}
            if p.id in interrupted:
                chosen |= {m: 12 * v for m, v in chosen.items() if base_name(m) == "latency_ms"}
            timed = [m for m in metrics if base_name(m) == "latency_ms"]
            store.append(
                Outcome(
                    p.id,
                    "ok",
                    chosen,
                    {m: chosen[m] * 0.02 for m in timed},
                    dict.fromkeys(metrics, "search-split") | dict.fromkeys(timed, "measured"),
                    host="host-a",
                    device={m: _latency(chosen[m]) for m in timed},
                    wall_s=1.1,
                )
            )


def _bounds(metrics: Sequence[str]) -> dict[str, tuple[float, float]]:
    ends = made_up_metrics(np.array([0.0, 1.0]), np.random.default_rng(0))
    return {m: (float(ends[m][0]), float(ends[m][1])) for m in metrics}


def _latency(median: float) -> dict[str, Any]:
    return {"median_ms": median, "iqr_ms": median * 0.02, "n": 200, "setting": SETTING, "device": DEVICE}


def _quality(n: int) -> dict[str, Any]:
    return {
        "kendall_tau": 0.8123456, "spearman": 0.93, "mape": 1.2345678, "rmse": 0.6543, "n": n, "coverage": 0.94,
        "folds": 10,
    }  # fmt: skip


def _diagnostics(strategy: str, metrics: Sequence[str], n: int) -> dict[str, Any]:
    models = {m: {"model": "gp", "n": n, "kendall_tau": 0.79} for m in metrics}
    return {"strategy": strategy, "batches": n // 10, "told": n, "failed": 0, "fallback": False, "predictors": models}


def _manifest(task: str, seed: int) -> dict[str, Any]:
    return {
        "command": "nassearch run --space mobilenetv3-tiny --task digits --objective top1:max --objective "
        "latency_ms:min --num-evals 150 --seed 0 --out results/demo",
        "created": "2026-03-04T09:04:07+0000",
        "versions": {"python": "3.11.7", "nassearch": "0.1.0", "torch": "2.15.0", "numpy": "2.4.6"},
        "hardware": DEVICE,
        "seed": seed,
        "space": "mobilenetv3-tiny",
        "space_identity": "5c198b720b9878ca",
        "task": {
            "task": task, "fingerprint": "9f067cbbb5953b25c9d31741e21589a7", "n_classes": 10,
            "splits": {"train": 600, "calibration": 128, "search": 800, "report": 1200},
            "classes": [str(i) for i in range(10)], "input_shape": [1, 16, 16],
            "source": "8x8 images of handwritten digits", "mean": [83.0708236694336], "label_smoothing": 0.0,
            "augmentation": {"kind": "digit-canvas", "noise": 0.12, "shift": 1.5, "clutter": 1},
        },
        "data_fingerprint": "9f067cbbb5953b25c9d31741e21589a7",
        "training": {"epochs": 300, "optimizer": "sgd", "lr": 0.1, "steps": None, "options": {}},
        "training_method": "sandwich",
        "latency": {"latency_ms": "cpu:eager,batch=1,threads=1,dtype=float32"},
    }  # fmt: skip
