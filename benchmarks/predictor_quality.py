"""Predictors on measured tables: error, rank correlation and coverage of intervals after training on 100 rows.

    python benchmarks/predictor_quality.py --data ../shared/data --splits 20 --out results/predictor_quality.csv

Tables: latency of translation Transformers on three devices (HAT), latency of Once-for-All subnets in three GPU
settings, their ImageNet top-1 (w1.0), latency of NAS-Bench-201 cells on four devices. Each split draws the training
rows at random; up to 2,000 of the others are predicted. Ours run beside a ridge, an RBF SVR with grid
search, a 3x400 network and plain XGBoost of their own libraries, on the same splits. A row of the CSV that exists is
not run again; without ``--splits`` more than there are, only the table is printed.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rows import append_row, machine, read_rows

from predictors import make_predictor
from search_spaces import get_space

_COLUMNS = (
    "table", "predictor", "split", "rows", "mape", "kendall_tau", "spearman", "coverage90", "fit_s", "machine"
)  # fmt: skip
_OURS = ("gp", "ridge", "svr", "xgboost", "mlp", "stack", "auto")
_THEIRS = ("sklearn-ridge", "sklearn-svr", "sklearn-mlp", "plain-xgboost")
_UNSEEN_AT_MOST = 2000

Table = tuple[np.ndarray, np.ndarray]


def hat(data: Path, device: str) -> Table:
    """Ten averaged features; encoder and decoder latency together, in ms."""
    with (data / "hat_latency" / f"wmt14ende_{device}_all.csv").open(newline="", encoding="utf-8") as file:
        rows = np.array([[float(v) for v in row] for row in list(csv.reader(file))[1:]])
    return rows[:, :10], rows[:, 10] + rows[:, 11]


def ofa_features(table: Any) -> np.ndarray:
    """Masked one-hot and ordinal features of Once-for-All subnets."""
    space = get_space("ofa-mobilenetv3-w1.0")
    rows = zip(table["ks"].tolist(), table["e"].tolist(), table["d"].tolist(), strict=True)
    return space.features(space.encode([{"ks": ks, "e": e, "d": d} for ks, e, d in rows])).astype(np.float64)


def ofa_latency(data: Path, setting: str) -> Table:
    """As `ofa_features` with the resolution; latency in ms."""
    with np.load(data / "ofa_mobilenetv3" / "gpu_latency_ms.npz", allow_pickle=False) as table:
        X = np.hstack([ofa_features(table), table["r"][:, None] / 224.0])
        return X, table[f"lat_{setting}"].astype(np.float64)


def ofa_top1(data: Path) -> Table:
    """As `ofa_features`; ImageNet top-1 in percent."""
    with np.load(data / "ofa_mobilenetv3" / "imagenet_top1.npz", allow_pickle=False) as table:
        return ofa_features(table), table["top1"].astype(np.float64)


def nas_bench(data: Path, device: str) -> Table:
    """One-hot operations of the connected cells; latency in ms."""
    with np.load(data / "nas_bench_201" / "accuracy.npz", allow_pickle=False) as table:
        ops, connected = table["ops"], table["connected"]
    with np.load(data / "nas_bench_201" / "latency_ms.npz", allow_pickle=False) as table:
        y = table[device].astype(np.float64)
    return np.eye(5)[ops[connected]].reshape(int(connected.sum()), -1), y[connected]


TABLES: dict[str, Callable[[Path], Table]] = {
    "hat-xeon": lambda d: hat(d, "cpu_xeon"),
    "hat-titanxp": lambda d: hat(d, "gpu_titanxp"),
    "hat-raspberrypi": lambda d: hat(d, "cpu_raspberrypi"),
    "ofa-2080ti_1": lambda d: ofa_latency(d, "2080ti_1"),
    "ofa-2080ti_32": lambda d: ofa_latency(d, "2080ti_32"),
    "ofa-v100_64": lambda d: ofa_latency(d, "v100_64"),
    "ofa-top1": ofa_top1,
    "nb201-raspi4": lambda d: nas_bench(d, "raspi4"),
    "nb201-pixel3": lambda d: nas_bench(d, "pixel3"),
    "nb201-fpga": lambda d: nas_bench(d, "fpga"),
    "nb201-gold_6226": lambda d: nas_bench(d, "gold_6226"),
}


def peer(name: str, seed: int) -> Any:
    """Return a regressor of scikit-learn or XGBoost with settings that are common in the field."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR
    from xgboost import XGBRegressor

    def scaled(model: Any) -> Any:
        return TransformedTargetRegressor(make_pipeline(StandardScaler(), model), transformer=StandardScaler())

    if name == "sklearn-ridge":
        return scaled(RidgeCV(alphas=np.logspace(-3, 4, 30)))
    if name == "sklearn-svr":
        grid = {"C": [1.0, 10.0, 100.0], "gamma": ["scale", 0.001, 0.01, 0.1], "epsilon": [0.01, 0.1]}
        return scaled(GridSearchCV(SVR(), grid, cv=5))
    if name == "sklearn-mlp":
        return scaled(MLPRegressor(hidden_layer_sizes=(400, 400, 400), max_iter=500, random_state=seed))
    return XGBRegressor(n_estimators=300, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=seed)


def run_one(table: Table, name: str, split: int, n: int) -> list[float]:
    """Fit to ``n`` rows of a split and return MAPE, tau, Spearman, coverage (NaN for peers) and seconds."""
    from scipy.stats import kendalltau, spearmanr

    X, y = table
    order = np.random.default_rng(split).permutation(len(y))
    seen, unseen = order[:n], order[n : n + _UNSEEN_AT_MOST]
    start, coverage = time.process_time(), float("nan")
    if name in _THEIRS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mean = peer(name, split).fit(X[seen], y[seen]).predict(X[unseen])
    else:
        model = make_predictor(name, seed=split).fit(X[seen], y[seen])
        mean, _ = model.predict(X[unseen])
        low, high = model.interval(X[unseen], 0.9)
        coverage = float(np.mean((low <= y[unseen]) & (y[unseen] <= high)))
    seconds = time.process_time() - start
    mape = float(100 * np.mean(np.abs(mean / y[unseen] - 1)))
    tau, rho = float(kendalltau(mean, y[unseen]).statistic), float(spearmanr(mean, y[unseen]).statistic)
    return [mape, tau, rho, coverage, seconds]


def print_table(rows: list[dict[str, str]], n: int) -> None:
    """Print mean and standard error over splits of each table and predictor."""
    print(f"{'table':<17}{'predictor':<15}{'splits':>6}{'MAPE %':>16}{'tau':>18}{'90 % covers':>18}{'fit s':>8}")
    for table in TABLES:
        for name in (*_OURS, *_THEIRS):
            some = [r for r in rows if r["table"] == table and r["predictor"] == name and int(r["rows"]) == n]
            if not some:
                continue
            cells = []
            for column, digits in (("mape", 3), ("kendall_tau", 4), ("coverage90", 3)):
                values = np.array([float(r[column]) for r in some])
                error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
                cells.append(f"{values.mean():.{digits}f} ±{error:.{digits}f}" if not np.isnan(values).any() else "-")
            seconds = np.mean([float(r["fit_s"]) for r in some])
            print(f"{table:<17}{name:<15}{len(some):>6}{cells[0]:>16}{cells[1]:>18}{cells[2]:>18}{seconds:>8.2f}")


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--rows", type=int, default=100, help="training rows")
    parser.add_argument("--tables", nargs="+", choices=sorted(TABLES), default=list(TABLES))
    parser.add_argument("--predictors", nargs="+", choices=[*_OURS, *_THEIRS], default=[*_OURS, *_THEIRS])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing after this long")
    parser.add_argument("--out", type=Path, default=Path("results/predictor_quality.csv"))
    options = parser.parse_args()
    done = {(r["table"], r["predictor"], int(r["split"]), int(r["rows"])) for r in read_rows(options.out)}
    loaded: dict[str, Table] = {}
    where, end = machine(), time.monotonic() + 60 * options.minutes
    for split in range(options.splits):
        for table in options.tables:
            for name in options.predictors:
                if (table, name, split, options.rows) in done or time.monotonic() > end:
                    continue
                if table not in loaded:
                    loaded[table] = TABLES[table](options.data)
                found = run_one(loaded[table], name, split, options.rows)
                row = [table, name, split, options.rows, *(f"{v:.6g}" for v in found), where]
                append_row(options.out, _COLUMNS, row)
    print_table(read_rows(options.out), options.rows)


if __name__ == "__main__":
    main()
