"""Predicting the latency of translations: HAT's averaged features against features of every layer.

    python benchmarks/translation_latency.py --data ../shared/data --splits 5 --out results/translation_latency.csv
    python benchmarks/translation_latency.py --measure 300 --clock process --table results/translation_measured.csv
    python benchmarks/translation_latency.py --table results/translation_measured.csv --splits 5 --out results/…

The first compares, on HAT's 2,000 measurements of each of three devices, its own recipe (ten averages; a network of
three hidden layers of 400, Adam with a rate of 1e-5, batches of 128, 5,000 steps), the same with a usual rate (1e-3),
a line in the depth of the decoder, and our ridge and XGBoost on the same ten averages. The second measures random
networks of a space of ours: encoder and beam search over the target, in eval mode, the extracted network; a row of
the table that exists is not measured again. ``--clock process`` counts the CPU time of the one thread, which other
work on the machine does not add to. The third compares the ten averages with the features of all genes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rows import append_row, machine, read_rows

from nassearch.bench.hat_latency import DEVICES, FEATURES
from predictors import LatencySetting, make_predictor
from search_spaces import get_space, hat_averages

_COLUMNS = (
    "table", "features", "predictor", "split", "train_rows", "rmse_ms", "mape", "kendall_tau", "fit_s", "machine"
)  # fmt: skip
_MEASURED = ("space", "setting", "beam", "architecture", "latency_ms", "iqr_ms", "clock", "machine")
_REPEATS = 15
_NORMALISER = np.array([640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2], dtype=np.float64)
_TEST_SHARE = 0.1

Predict = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def hat_network(X: np.ndarray, y: np.ndarray, rate: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """HAT's latency predictor: n - 400 - 400 - 400 - 1, ReLU, mean squared error of latencies over their largest."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    sizes = (X.shape[1], 400, 400, 400)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(400, 1))
    inputs, scale = torch.tensor(X, dtype=torch.float32), float(y.max())
    wanted = torch.tensor(y / scale, dtype=torch.float32)[:, None]
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(5000):
        rows = torch.randint(0, len(X), (128,))
        optimiser.zero_grad()
        nn.functional.mse_loss(net(inputs[rows]), wanted[rows]).backward()
        optimiser.step()

    def predict(unseen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.tensor(unseen, dtype=torch.float32))[:, 0].double().numpy() * scale

    return predict


def hat_recipe(rate: float) -> Predict:
    """HAT's latency predictor as one of those that are compared."""
    return lambda X, y, unseen, seed: hat_network(X, y, rate, seed)(unseen)


def line_in(column: int) -> Predict:
    """Least squares on one feature."""

    def predict(X: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int) -> np.ndarray:
        slope, start = np.polyfit(X[:, column], y, 1)
        return np.asarray(slope * unseen[:, column] + start)

    return predict


def ours(name: str) -> Predict:
    """One of our predictors."""

    def predict(X: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int) -> np.ndarray:
        return np.asarray(make_predictor(name).fit(X, y).predict(unseen)[0])

    return predict


PREDICTORS: dict[str, Predict] = {
    "hat-mlp": hat_recipe(1e-5),
    "hat-mlp-1e-3": hat_recipe(1e-3),
    "line-decoder-depth": line_in(5),
    "ridge": ours("ridge"),
    "xgboost": ours("xgboost"),
}
_ON_ALL_GENES = ("hat-mlp-1e-3", "ridge", "xgboost")


def published(data: Path, device: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the ten averages of HAT's networks, scaled as in HAT, and latencies in ms."""
    rows = read_rows(data / "hat_latency" / DEVICES[device])
    values = np.array([[float(row[name]) for name in FEATURES] for row in rows])
    latency = [float(row["latency_mean_encoder"]) + float(row["latency_mean_decoder"]) for row in rows]
    return {"averages": values / _NORMALISER}, np.array(latency)


def measured(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return both kinds of features of networks that `measure` timed, and latencies in ms."""
    rows = read_rows(path)
    space = get_space(rows[0]["space"])
    G = space.encode([json.loads(row["architecture"]) for row in rows])
    y = np.array([float(row["latency_ms"]) for row in rows])
    averages = hat_averages(space, G)
    return {"averages": averages / averages.max(0), "all genes": space.features(G).astype(np.float64)}, y


def check_continues(path: Path, conditions: dict[str, str]) -> int:
    """Return how many rows a table has, all measured under these conditions.

    Raises:
        ValueError: It has other columns, or rows measured otherwise; what differs is named.
    """
    rows = read_rows(path)
    if path.is_file() and (found := path.read_text(encoding="utf-8").partition("\n")[0]) != ",".join(_MEASURED):
        raise ValueError(f"{path} has the columns {found}, not {','.join(_MEASURED)}; give another --table")
    for line, row in enumerate(rows, start=2):
        if wrong := [f"{n} {row[n]!r}, now {wanted!r}" for n, wanted in conditions.items() if row[n] != wanted]:
            raise ValueError(
                f"{path}, line {line} was measured under other conditions: {'; '.join(wrong)}. Figures that cannot be "
                "compared never mix; give another --table"
            )
    return len(rows)


def measure(path: Path, space_name: str, count: int, setting_text: str, clock: str) -> None:
    """Time random networks, row by row.

    Raises:
        ValueError: The table was measured under other conditions.
    """
    from predictors.measurement import measure_undisturbed
    from supernets import build

    net, setting = build(space_name).eval(), LatencySetting.parse(setting_text)
    beam = str(net.config()["beam"])
    conditions = {"space": space_name, "setting": setting_text, "beam": beam, "clock": clock, "machine": machine()}
    done = check_continues(path, conditions)
    G = net.space.sample(count, np.random.default_rng(0))
    for arch in net.space.decode(G)[done:]:
        inputs = net.example_inputs(arch, batch_size=setting.batch, sequence=setting.sequence)  # type: ignore[call-arg]
        module = net.timed(arch).eval()
        if clock == "process":
            median, spread = process_ms(module, inputs)
        else:
            latency, _ = measure_undisturbed(module, inputs, setting)
            median, spread = latency.median_ms, latency.iqr_ms
        row = (space_name, setting_text, beam, json.dumps(arch), round(median, 4), round(spread, 4))
        append_row(path, _MEASURED, (*row, clock, machine()))


def process_ms(module: Any, inputs: Any) -> tuple[float, float]:
    """Return median and interquartile range of the CPU time of one inference with one thread, milliseconds."""
    import torch

    from supernets import call

    torch.set_num_threads(1)
    times = []
    with torch.inference_mode():
        for _ in range(_REPEATS + 2):
            began = time.process_time_ns()
            call(module, inputs)
            times.append((time.process_time_ns() - began) / 1e6)
    low, median, high = np.percentile(times[2:], [25, 50, 75])  # the first ones warm up
    return float(median), float(high - low)


def timed_rounds(modules: list[tuple[Any, Any]], rounds: int) -> list[list[float]]:
    """Return CPU times of networks with one thread, ms, measured in rounds over all of them, in random order.

    What the machine does in one minute and not in the next so comes to all of them alike.
    """
    import torch

    from supernets import call

    torch.set_num_threads(1)
    samples: list[list[float]] = [[] for _ in modules]
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        for _ in range(rounds):
            for i in rng.permutation(len(modules)):
                call(*modules[i])  # warms up
                for _ in range(3):
                    began = time.process_time_ns()
                    call(*modules[i])
                    samples[i].append((time.process_time_ns() - began) / 1e6)
    return samples


def compare(
    name: str, features: dict[str, np.ndarray], y: np.ndarray, splits: int, chosen: list[str], out: Path
) -> None:
    """Score every predictor on splits of a table, row by row."""
    from scipy.stats import kendalltau

    done = {(r["table"], r["features"], r["predictor"], r["split"]) for r in read_rows(out)}
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(y))
        n_test = max(1, round(len(y) * _TEST_SHARE))
        test, train = order[:n_test], order[n_test:]
        for kind, X in features.items():
            for predictor in PREDICTORS if kind == "averages" else _ON_ALL_GENES:
                if predictor not in chosen or (name, kind, predictor, str(split)) in done:
                    continue
                start = time.perf_counter()
                got = PREDICTORS[predictor](X[train], y[train], X[test], split)
                seconds, wanted = time.perf_counter() - start, y[test]
                rmse = float(np.sqrt(np.mean((got - wanted) ** 2)))
                mape = 100 * float(np.mean(np.abs(got - wanted) / wanted))
                tau = float(kendalltau(got, wanted).statistic)
                scores = (round(rmse, 3), round(mape, 3), round(tau, 4), round(seconds, 2))
                append_row(out, _COLUMNS, (name, kind, predictor, split, len(train), *scores, machine()))


def summary(out: Path) -> None:
    """Print the mean of each predictor on each table."""
    groups: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for row in read_rows(out):
        scores = (float(row["rmse_ms"]), float(row["mape"]), float(row["kendall_tau"]))
        groups.setdefault((row["table"], row["features"], row["predictor"]), []).append(scores)
    print("| table | features | predictor | RMSE, ms | MAPE, % | Kendall tau | splits |\n|---|---|---|---|---|---|---|")
    for (table, kind, predictor), scores in groups.items():
        rmse, mape, tau = np.mean(scores, axis=0)
        print(f"| {table} | {kind} | {predictor} | {rmse:.2f} | {mape:.2f} | {tau:.3f} | {len(scores)} |")


def main() -> None:
    """Measure, or compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with hat_latency")
    parser.add_argument("--devices", nargs="+", default=list(DEVICES), choices=list(DEVICES))
    parser.add_argument("--table", type=Path, help="measurements of our own: to append to, or to compare on")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="time up to N networks and stop")
    parser.add_argument("--space", default="hat-multi30k")
    parser.add_argument("--setting", default="cpu:eager,batch=1,threads=1,sequence=16")
    parser.add_argument("--clock", default="wall", choices=["wall", "process"], help="of the measurements")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--predictors", nargs="+", default=list(PREDICTORS), choices=list(PREDICTORS))
    parser.add_argument("--out", type=Path, default=Path("results/translation_latency.csv"))
    arguments = parser.parse_args()
    if arguments.measure:
        if arguments.table is None:
            parser.error("--measure needs --table FILE to append to")
        try:
            measure(arguments.table, arguments.space, arguments.measure, arguments.setting, arguments.clock)
        except ValueError as error:
            parser.error(str(error))
        return
    if arguments.data is not None:
        for device in arguments.devices:
            features, y = published(arguments.data, device)
            compare(f"hat-{device}", features, y, arguments.splits, arguments.predictors, arguments.out)
    if arguments.table is not None:
        features, y = measured(arguments.table)
        compare(arguments.table.stem, features, y, arguments.splits, arguments.predictors, arguments.out)
    summary(arguments.out)


if __name__ == "__main__":
    main()
