"""Latency predictors built on tables of measured blocks, beside one that learns from whole networks alone.

    python benchmarks/block_tables.py

Measures the blocks of two supernets in three settings, and sampled whole networks of them, into results/block_tables (a
table that is there is continued; ``--score`` takes it as it is, on any machine). Then predicts the networks held out
after fitting to 10, 20 and 50 of the others: by the sums of blocks as they are, by a line through them, by the line and
a residual learnt by ``auto`` where cross-validation prefers it, and by ``auto`` without the table. A row of the CSV
that exists is not run again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rows import append_row, machine, read_rows

from predictors import LatencySetting, LatencyTable, make_predictor
from predictors.models.table import TablePredictor

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "results" / "block_tables"
OUT = ROOT / "results" / "block_tables.csv"
COLUMNS = (
    "table", "way", "rows", "split", "kendall_tau", "mape", "held_out", "basis", "fit_s", "machine"
)  # fmt: skip
WAYS = ("table", "table + line", "table + auto", "auto")


@dataclass(frozen=True)
class Case:
    """A supernet, a setting, how many whole networks to measure, and how often to measure everything."""

    space: str
    setting: str
    networks: int
    passes: int


CASES = {
    "tiny-eager": Case("mobilenetv3-tiny", "cpu:eager,threads=1", 80, 3),
    "tiny-onnxruntime": Case("mobilenetv3-tiny", "cpu:onnxruntime,threads=1", 60, 1),
    "ofa-eager": Case("ofa-mobilenetv3-w1.0", "cpu:eager,threads=1", 60, 5),
}


def measured(name: str) -> LatencyTable:
    """Return the table of a case, measured as far as it was not."""
    from nassearch.console import make_console
    from nassearch.measuring import TableMeasurement
    from nassearch.progress import StepProgress
    from supernets import build

    case, path = CASES[name], TABLES / f"{name}.json"
    TABLES.mkdir(parents=True, exist_ok=True)
    net = build(case.space).eval()
    networks = net.space.sample(case.networks, np.random.default_rng(0))
    work = TableMeasurement(net, LatencySetting.parse(case.setting), path, networks, case.passes)
    with StepProgress(make_console(), name, len(work.steps())) as progress:
        for step, timing in work.run():
            progress(f"{timing.median_ms:.4g} ms  {step.name}")
    return work.table


def score(table: LatencyTable, way: str, n: int, split: int) -> list[object]:
    """Fit to ``n`` of the measured networks and predict the others: tau, MAPE, their number, basis, seconds."""
    from scipy.stats import kendalltau

    X = table.space.features(np.array(list(table.networks), dtype=np.int64)).astype(np.float64)
    y = np.array([t.median_ms for t in table.networks.values()])
    order = np.random.default_rng(split).permutation(len(y))
    seen, unseen = order[:n], order[n:]
    started = time.process_time()
    if way == "auto":
        predictor, basis = make_predictor("auto", seed=split).fit(X[seen], y[seen]), ""
    else:
        correction = {"table": "none", "table + line": "line", "table + auto": "auto"}[way]
        predictor = TablePredictor(table=table, correction=correction, seed=split).fit(X[seen], y[seen])
        basis = predictor.way
    mean = predictor.predict(X[unseen])[0]
    tau, mape = float(kendalltau(mean, y[unseen]).statistic), float(100 * np.mean(np.abs(mean / y[unseen] - 1)))
    return [f"{tau:.6g}", f"{mape:.6g}", len(unseen), basis, f"{time.process_time() - started:.3g}"]


def print_table(rows: list[dict[str, str]]) -> None:
    """Print medians over splits."""
    sizes = sorted({int(r["rows"]) for r in rows})
    print(f"{'':34}" + "".join(f"{f'{n} rows':>20}" for n in sizes))
    print(f"{'table':<18}{'way':<16}" + f"{'tau':>10}{'MAPE %':>10}" * len(sizes))
    for name in dict.fromkeys(r["table"] for r in rows):
        for way in WAYS:
            cells = ""
            for n in sizes:
                some = [r for r in rows if (r["table"], r["way"], int(r["rows"])) == (name, way, n)]
                for column, digits in (("kendall_tau", 3), ("mape", 2)):
                    cells += f"{np.median([float(r[column]) for r in some]):>10.{digits}f}" if some else f"{'-':>10}"
            print(f"{name:<18}{way:<16}{cells}")


def main() -> None:
    """Measure and run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 20, 50], help="networks to fit to")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--score", action="store_true", help="measure nothing, take the tables that are there")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    tables = {n: LatencyTable.load(TABLES / f"{n}.json") if options.score else measured(n) for n in options.tables}
    done = {(r["table"], r["way"], int(r["rows"]), int(r["split"])) for r in read_rows(options.out)}
    where = machine()
    for split in range(options.splits):
        for name, table in tables.items():
            for n in options.rows:
                for way in WAYS:
                    if (name, way, n, split) not in done and n + 5 <= len(table.networks):
                        append_row(options.out, COLUMNS, [name, way, n, split, *score(table, way, n, split), where])
    print_table(read_rows(options.out))


if __name__ == "__main__":
    main()
