"""Genotypes that the inner loop of `linas` scores a second, features included, in a 45-gene space.

python benchmarks/scoring_throughput.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from rows import append_row, machine, read_rows
from threadpoolctl import threadpool_limits

from nassearch.strategies.surrogates import SurrogateSet
from search_spaces import get_space

COLUMNS = ["space", "predictor", "rows_fitted", "genotypes", "repeat", "genotypes_per_s", "machine"]


def main() -> None:
    """Measure what is missing and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/scoring_throughput.csv"))
    parser.add_argument("--predictor", action="append")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--genotypes", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    space = get_space("ofa-mobilenetv3-w1.0")
    rng = np.random.default_rng(0)
    seen, asked = space.sample(args.rows, rng), space.sample(args.genotypes, rng)
    X = space.features(seen).astype(np.float64)
    y = X @ rng.random(X.shape[1]) + 0.1 * np.sin(X @ rng.normal(size=X.shape[1]))
    for kind in args.predictor or ["ridge", "xgboost", "gp"]:
        done = [r for r in read_rows(args.out) if r["predictor"] == kind]
        models = SurrogateSet(space, ["metric"], kind, seed=0)
        with threadpool_limits(args.threads):
            models.fit(seen, y[:, None])
            models.mean(asked[:1000])
            for repeat in range(len(done), args.repeats):
                start = time.perf_counter()
                models.mean(asked)
                speed = args.genotypes / (time.perf_counter() - start)
                append_row(
                    args.out, COLUMNS, [space.name, kind, args.rows, args.genotypes, repeat, f"{speed:.0f}", machine()]
                )
    for kind in dict.fromkeys(r["predictor"] for r in read_rows(args.out)):
        speeds = [float(r["genotypes_per_s"]) for r in read_rows(args.out) if r["predictor"] == kind]
        print(f"{kind}: median {statistics.median(speeds):,.0f} genotypes/s (min {min(speeds):,.0f}, n {len(speeds)})")


if __name__ == "__main__":
    main()
