"""Hypervolume of strategies on measured tables: OFA MobileNetV3 (w1.2, 224 px) on a phone, NAS-Bench-201.

    python benchmarks/strategy_quality.py --data ../shared/data --problem ofa --strategies linas nsga2 random \
        --seeds 3 --evaluations 400 --batch 10 --out results/strategy_quality.csv

Objectives are scaled by the ideal and nadir of the table (OFA: of the best front known), the reference is (1, 1), and
the hypervolume is divided by that of the best front known. A row of the CSV that exists is not run again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from pathlib import Path

import numpy as np

from nassearch.objectives import Objective
from nassearch.pareto import non_dominated_min, normalised_hypervolume
from nassearch.strategies import make_strategy
from search_spaces import Gene, SearchSpace, get_space

_STAGES = ((32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1))


class OfaPhone:
    """Top-1 by the published accuracy model, latency by the phone's block table."""

    metrics = ("top1:max", "latency_ms:min")

    def __init__(self, data: Path) -> None:
        folder = data / "ofa_mobilenetv3"
        self.space = get_space("ofa-mobilenetv3-w1.2")
        with np.load(folder / "ofa_acc_predictor.npz", allow_pickle=False) as f:
            self.net = [(f[f"W{i}"], f[f"b{i}"]) for i in range(4)]
        with gzip.open(folder / "note10_lut.json.gz") as f:
            self.table = {k: v["mean"] for k, v in json.load(f)["224"].items()}
        self._latency_tables()
        with np.load(folder / "reference_front.npz", allow_pickle=False) as f:
            self.ideal = np.array([100 - f["lo"][0], f["lo"][1]])
            self.nadir = np.array([100 - f["hi"][0], f["hi"][1]])
            best = f["F"] * [-1, 1] + [100, 0]
        self.best = self.hypervolume(best)

    def _latency_tables(self) -> None:
        self.fixed, self.blocks = 0.0, np.zeros((20, 3, 3))
        for key, ms in self.table.items():
            if not key.startswith("expanded_conv") or "112x112x24-output:112x112x24" in key:
                self.fixed += ms
        size, width = 112, 24
        for stage, (out, stride, se, hs) in enumerate(_STAGES):
            for block in range(4):
                s = stride if block == 0 else 1
                to = size // s
                for k, kernel in enumerate((3, 5, 7)):
                    for e, expand in enumerate((3, 4, 6)):
                        key = (
                            f"expanded_conv-input:{size}x{size}x{width}-output:{to}x{to}x{out}-expand:{expand * width}"
                            f"-kernel:{kernel}-stride:{s}-idskip:{int(block > 0)}-se:{se}-hs:{hs}"
                        )
                        self.blocks[stage * 4 + block, k, e] = self.table[key]
                size, width = to, out

    def evaluate(self, G: np.ndarray) -> np.ndarray:
        active = self.space.active(G)[:, :20]
        ks, e = np.eye(3)[G[:, :20]] * active[:, :, None], np.eye(3)[G[:, 20:40]] * active[:, :, None]
        resolution = np.zeros((len(G), 8))
        resolution[:, 7] = 1
        x = np.concatenate([ks.reshape(len(G), -1), e.reshape(len(G), -1), resolution], axis=1)
        for i, (W, b) in enumerate(self.net):
            x = x @ W.T + b
            x = np.maximum(x, 0) if i < 3 else x
        ms = self.blocks[np.arange(20), G[:, :20], G[:, 20:40]] * active
        return np.stack([100 * x[:, 0], self.fixed + ms.sum(axis=1)], axis=1)

    def hypervolume(self, values: np.ndarray) -> float:
        return normalised_hypervolume(values, self.ideal, self.nadir, [Objective.parse(m) for m in self.metrics])


class NasBench201:
    """CIFAR-100 test accuracy after 200 epochs and latency on one device."""

    metrics = ("top1:max", "latency_ms:min")

    def __init__(self, data: Path, device: str = "raspi4") -> None:
        folder = data / "nas_bench_201"
        ops = ("none", "skip", "conv1x1", "conv3x3", "avgpool")
        edges = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
        self.space = SearchSpace("nas-bench-201", [Gene(e, ops, kind="categorical") for e in edges])
        with np.load(folder / "accuracy.npz", allow_pickle=False) as a:
            rows, top1 = a["ops"].astype(np.int64), a["test200_cifar100"].astype(float)
        with np.load(folder / "latency_ms.npz", allow_pickle=False) as latency:
            ms = latency[device].astype(float)
        self.values = np.empty((5,) * 6 + (2,))
        self.values[tuple(rows.T)] = np.stack([top1, ms], axis=1)
        flat = np.stack([-top1, ms], axis=1)
        low, high = flat.min(axis=0), flat.max(axis=0)
        self.ideal, self.nadir = low * [-1, 1], high * [-1, 1]
        self.best = self.hypervolume(flat[non_dominated_min(flat)] * [-1, 1])

    def evaluate(self, G: np.ndarray) -> np.ndarray:
        return self.values[tuple(G.T)]

    hypervolume = OfaPhone.hypervolume


def run(problem, strategy: str, seed: int, evaluations: int, batch: int, checkpoints: list[int], options: dict):
    """Yield (evaluations, normalised hypervolume, strategy's own seconds) at each checkpoint."""
    s = make_strategy(strategy, problem.space, objectives=problem.metrics, seed=seed, **options)
    values, own = np.empty((0, 2)), 0.0
    while len(values) < evaluations:
        start = time.perf_counter()
        G = s.ask(min(batch, evaluations - len(values)))
        own += time.perf_counter() - start
        new = problem.evaluate(G)
        start = time.perf_counter()
        s.tell(G, new)
        own += time.perf_counter() - start
        before, values = len(values), np.concatenate([values, new])
        for c in checkpoints:
            if before < c <= len(values):
                yield c, problem.hypervolume(values[:c]) / problem.best, own


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--problem", choices=["ofa", "nb201"], default="ofa")
    p.add_argument("--strategies", nargs="+", default=["linas", "nsga2", "random"])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--evaluations", type=int, default=400)
    p.add_argument("--checkpoints", type=int, nargs="+", default=[50, 100, 150, 200, 250, 400])
    p.add_argument("--batch", type=int, default=10)
    p.add_argument("--option", action="append", default=[], help="NAME=JSON, of the strategy")
    p.add_argument("--out", type=Path)
    a = p.parse_args()
    problem = OfaPhone(a.data) if a.problem == "ofa" else NasBench201(a.data)
    options = {k: json.loads(v) for k, v in (o.split("=", 1) for o in a.option)}
    fields = ["problem", "strategy", "options", "batch", "seed", "evaluations", "hypervolume", "own_seconds"]
    rows: list[dict[str, str]] = []
    if a.out and a.out.exists():
        with a.out.open(newline="") as f:
            rows = list(csv.DictReader(f))
    for strategy in a.strategies:
        table = []
        for seed in range(a.seeds):
            key = [a.problem, strategy, json.dumps(options, sort_keys=True), str(a.batch), str(seed)]
            old = [r for r in rows if [r[f] for f in fields[:5]] == key and int(r["evaluations"]) >= a.evaluations]
            if old:
                continue
            points = list(run(problem, strategy, seed, a.evaluations, a.batch, a.checkpoints, options))
            table.append([h for _, h, _ in points])
            rows += [dict(zip(fields, [*key, str(c), f"{h:.4f}", f"{t:.1f}"], strict=True)) for c, h, t in points]
            print(
                f"{a.problem} {strategy} seed {seed}: "
                + " ".join(f"{c}:{h:.3f}" for c, h, _ in points)
                + f"  own {points[-1][2]:.1f} s",
                flush=True,
            )
            if a.out:
                a.out.parent.mkdir(parents=True, exist_ok=True)
                with a.out.open("w", newline="") as f:
                    writer = csv.DictWriter(f, fields)
                    writer.writeheader()
                    writer.writerows(rows)
        if table:
            print(f"{a.problem} {strategy} median: " + " ".join(f"{m:.3f}" for m in np.median(table, axis=0)))


if __name__ == "__main__":
    main()
