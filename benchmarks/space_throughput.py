"""Sampling, canonicalising and featurising 100,000 genotypes of a 45-gene space.

python benchmarks/space_throughput.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from rows import append_row, machine, read_rows

from search_spaces import get_space

COLUMNS = ["space", "genotypes", "repeat", "sample_s", "canonical_s", "features_s", "total_s", "machine"]


def main() -> None:
    """Measure what is missing and print the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/space_throughput.csv"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--genotypes", type=int, default=100_000)
    args = parser.parse_args()
    space = get_space("ofa-mobilenetv3-w1.0")
    space.features(space.sample(1000, np.random.default_rng(0)))
    for repeat in range(len(read_rows(args.out)), args.repeats):
        times = [time.perf_counter()]
        rows = space.sample(args.genotypes, np.random.default_rng(repeat))
        times.append(time.perf_counter())
        rows = space.canonical(rows)
        times.append(time.perf_counter())
        space.features(rows)
        times.append(time.perf_counter())
        parts = np.diff(times)
        cells = [f"{x:.4f}" for x in (*parts, times[-1] - times[0])]
        append_row(args.out, COLUMNS, [space.name, args.genotypes, repeat, *cells, machine()])
    totals = [float(r["total_s"]) for r in read_rows(args.out)]
    print(f"median {statistics.median(totals):.3f} s (min {min(totals):.3f}, max {max(totals):.3f}, n {len(totals)})")


if __name__ == "__main__":
    main()
