"""Evaluations a second of a search over expert configurations: in the run's own process, and over Ray.

    python benchmarks/moe_train.py --data DIR --out FOLDER
    python benchmarks/expert_ray.py --model FOLDER/model --text FOLDER/text/english

A random search on KL divergence to the full model and size, each case with the same networks. The time counts from the
start of the evaluation after the first batch, so that starting workers and loading the model are left out. One row per
case and repeat in ``--out``; cases alternate.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from rows import append_row, machine, read_rows

import nassearch
from nassearch.config import make_config

COLUMNS = ["executor", "workers", "evaluations", "length", "repeat", "per_second", "machine"]
CASES = (("local", 1), ("ray", 1), ("ray", 2))
BATCH = 4


def measure(executor: str, workers: int, args: argparse.Namespace) -> float:
    """Return evaluations a second of one search."""
    with tempfile.TemporaryDirectory() as folder:
        run = nassearch.run(
            make_config({
                "space": "experts", "model": str(args.model), "out": Path(folder) / "run",
                "task": f"causal-lm:text:{args.text},block={args.length}", "objectives": ["kl:min", "size_mb:min"],
                "strategy": "random", "num_evals": args.evaluations, "batch_size": BATCH,
                "executor": {"name": executor, "num_workers": workers}, "export": {"format": "none"},
            })
        )  # fmt: skip
        with run.open_store() as store:
            outcomes = sorted(store.outcomes().values(), key=lambda o: o.started)
    warm = outcomes[BATCH * max(workers, 1) :]
    return len(warm) / (max(o.started + o.wall_s for o in warm) - warm[0].started)


def main() -> None:
    """Measure what is missing and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="folder with train.txt, valid.txt and test.txt")
    parser.add_argument("--out", type=Path, default=Path("results/expert_ray.csv"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--length", type=int, default=128, help="of a block")
    args = parser.parse_args()
    for repeat in range(args.repeats):
        done = {(r["executor"], int(r["workers"]), int(r["repeat"])) for r in read_rows(args.out)}
        for executor, workers in CASES:
            if (executor, workers, repeat) not in done:
                rate = measure(executor, workers, args)
                row = [executor, workers, args.evaluations, args.length, repeat, f"{rate:.3f}", machine()]
                append_row(args.out, COLUMNS, row)
    rows = read_rows(args.out)
    for executor, workers in CASES:
        rates = [float(r["per_second"]) for r in rows if (r["executor"], r["workers"]) == (executor, str(workers))]
        print(f"{executor:5} x{workers} {median(rates):.2f} evaluations/s ({min(rates):.2f}-{max(rates):.2f})")


if __name__ == "__main__":
    main()
