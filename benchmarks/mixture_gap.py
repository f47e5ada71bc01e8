"""What ways of training a supernet are worth: 30 architectures from scratch, and what each supernet says of them.

A job is a way of training and a seed (of first weights, the order of the data and the sampled subnets). Each is a run
of ours on `hat-tiny` (`benchmarks/tiny_translation.py`) and 8,000 pairs of Multi30k, then `nassearch gap` on it;
``hat:0`` trains 30 networks with two seeds of their own from scratch, for the same passes over the data as the
supernet, and the others take those over. ``scratch-3x:0`` trains them for three times the steps, once. Quality is
``nll``, nats per token of the validation set. Every network is a row of results/mixture_gap.csv, every supernet one of
results/mixture_gap_training.csv. A stopped benchmark goes on where it was, within a training, too. Without jobs the
figures are computed from the tables (`benchmarks/mixture_figures.py`); `--collect` first gathers what the jobs have.

    python benchmarks/mixture_gap.py --data ../shared/data/multi30k_en_de --jobs hat:0 hat-3x:0 sandwich:0 neuron:0 …
    python benchmarks/mixture_gap.py --base hat sandwich --figure results/mixture_gap.png
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mixture_figures import LONG, PLAIN, SCRATCH, draw, print_effects, print_tables, read_tables, scratch_columns
from rows import append_row, machine, read_rows

if TYPE_CHECKING:
    from nassearch import Run

Mixed = dict[str, Any]
SANDWICH = {"random_subnets": 1, "distillation": False}  # three passes a step, all on labels, as in the paper
THREE = {"random_subnets": 3, "distillation": False}
LAYER: Mixed = {"mixture": "layer", "experts": 2}
NEURON: Mixed = {"mixture": "neuron", "experts": 2}
# Way -> method, its options, epochs as a multiple of those from scratch, options of the supernet.
WAYS: dict[str, tuple[str, dict[str, Any], int, Mixed]] = {
    "hat": ("single-path", {}, 1, {}),
    "hat-3x": ("single-path", {}, 3, {}),
    "sandwich": ("sandwich", SANDWICH, 1, {}),
    "layer": ("sandwich", SANDWICH, 1, LAYER),
    "neuron": ("sandwich", SANDWICH, 1, NEURON),
    "neuron-average": ("sandwich", SANDWICH, 1, {**NEURON, "mixture_options": {"encoding": "average"}}),
    "neuron-one-hot": ("sandwich", SANDWICH, 1, {**NEURON, "mixture_options": {"encoding": "one-hot"}}),
    "neuron-constant": ("sandwich", SANDWICH, 1, {**NEURON, "mixture_options": {"encoding": "constant"}}),
    "neuron-m1": ("sandwich", SANDWICH, 1, {"mixture": "neuron", "experts": 1}),
    "neuron-m4": ("sandwich", SANDWICH, 1, {"mixture": "neuron", "experts": 4}),
    "neuron-cold": ("sandwich", SANDWICH, 1, {**NEURON, "mixture_options": {"temperature": 0.25}}),
    "neuron-copies": ("sandwich", SANDWICH, 1, {**NEURON, "mixture_options": {"init": "copies"}}),
    "layer-average": ("sandwich", SANDWICH, 1, {**LAYER, "mixture_options": {"encoding": "average"}}),
    "sandwich-distilled": ("sandwich", {**SANDWICH, "distillation": True}, 1, {}),
    "neuron-distilled": ("sandwich", {**SANDWICH, "distillation": True}, 1, NEURON),
    "neuron-single-path": ("single-path", {}, 3, NEURON),
    "hat-9x": ("single-path", {}, 9, {}),
    "sandwich-3x": ("sandwich", SANDWICH, 3, {}),
    "three-random": ("random-subnets", THREE, 1, {}),
    "neuron-three-random": ("random-subnets", THREE, 1, NEURON),
    "ends": ("sandwich", {"random_subnets": 0, "distillation": False}, 1, {}),
    "neuron-3x": ("sandwich", SANDWICH, 3, NEURON),
}
EPOCHS, BATCH = 2, 32
SCRATCH_SEED = 100
"""The first seed of networks trained alone, and that of the sample; no supernet shares its first weights."""
JOBS = (*WAYS, LONG)
METRIC = "nll"
FIRST = ("hat", 0)  # the job that trains from scratch
TRAINED = ["way", "seed", "method", "epochs", "steps", "passes", "cpu_s", "largest", "smallest", "machine"]
FOUND = [
    "way", "seed", "architecture", "params_m", "macs_m", "inherited",
    *scratch_columns(), "genotype",
]  # fmt: skip


def trained_run(way: str, seed: int, args: argparse.Namespace) -> Run:
    """Return the run of a job; its supernet is trained as far as that is missing."""
    import nassearch
    from nassearch.config import make_config

    method, options, times, model = WAYS[way]
    folder = args.work / f"{way}-{seed}"
    if (folder / "config.yaml").is_file():
        return nassearch.resume(folder)
    settings = {"epochs": times * EPOCHS, "lr": 3e-3, "optimizer": "adamw", "evaluate_every": 0}
    return nassearch.run(
        make_config({
            "space": "hat-tiny", "plugins": ["benchmarks.tiny_translation"], "out": folder, "strategy": "random",
            "task": f"same-pairs-translation:multi30k:{args.data},bleu=none,vocab_size=1000,train=8000", "seed": seed,
            "objectives": [f"{METRIC}:min", "macs_m:min"], "num_evals": 2, "batch_size": 2, "model_options": model,
            "train": {"method": method, "batch_size": BATCH, "settings": settings, "options": options},
            "export": {"format": "none"},
        })
    )  # fmt: skip


def run_job(way: str, seed: int, args: argparse.Namespace) -> None:
    """Train and compare one job, as far as that is missing."""
    from nassearch.evaluation import SupernetEvaluator
    from nassearch.gap import measure_gap
    from nassearch.gap.scratch import make_recipe

    if way in SCRATCH:  # the sample is of the first seed, so the one of a job counts from there
        measure_gap(
            trained_run(*FIRST, args), architectures=args.architectures, epochs=SCRATCH[way].times * EPOCHS,
            seeds=seed + 1, seed=SCRATCH_SEED, metric=METRIC, out=gap_folder(way, 0, args.work),
        )  # fmt: skip
        return
    training = args.out.with_stem(f"{args.out.stem}_training")
    first = gap_folder(*FIRST, args.work)
    if (way, seed) != FIRST and not args.train_only and not (first / "gap.json").is_file():
        raise SystemExit(f"{way}:{seed} takes over results from scratch; finish {FIRST[0]}:{FIRST[1]} first")
    before, began = (args.work / f"{way}-{seed}").exists(), time.process_time()
    run = trained_run(way, seed, args)
    spent = math.nan if before else time.process_time() - began  # a part of it, where it was interrupted
    recipe = make_recipe(run, epochs=EPOCHS)
    if not any((r["way"], r["seed"]) == (way, str(seed)) for r in read_rows(training)):
        score = SupernetEvaluator(run.supernet(), run.task(), recipe.problem.evaluation_settings()).score
        ends = [score(a, "search")[METRIC] for a in run.space.decode(np.stack([run.space.largest, run.space.smallest]))]
        method, options, times, _ = WAYS[way]
        steps = times * EPOCHS * recipe.problem.task.training_data(BATCH).steps_per_epoch
        passes = steps * (options.get("random_subnets", 1) + 2 * (method == "sandwich"))
        row = [way, seed, method, times * EPOCHS, steps, passes, f"{spent:.0f}", *(f"{e:.4f}" for e in ends), machine()]
        append_row(training, TRAINED, row)
    if args.train_only:
        return
    measure_gap(
        run, architectures=args.architectures, epochs=EPOCHS, seeds=args.scratch_seeds if (way, seed) == FIRST else 1,
        seed=SCRATCH_SEED, metric=METRIC, reuse=None if (way, seed) == FIRST else first,
        out=gap_folder(way, seed, args.work),
    )  # fmt: skip


def gap_folder(way: str, seed: int, work: Path) -> Path:
    """Return where the networks of a job are."""
    return work / f"gap-{way}-{seed}"


def collect(args: argparse.Namespace) -> None:
    """Write the networks of all jobs, as far as they are done, into one table."""
    from nassearch.gap.folder import read_rows as read_networks
    from nassearch.manifest import write_atomically

    alone: dict[tuple[int, ...], dict[str, float]] = {}
    for name in SCRATCH:
        folder = gap_folder(*FIRST, args.work) if name == PLAIN else gap_folder(name, 0, args.work)
        for found in read_networks(folder) if (folder / "gap.csv").is_file() else ():
            if METRIC in found.scratch:
                alone.setdefault(found.genotype, {})[f"{name}_{found.seed - SCRATCH_SEED}"] = found.scratch[METRIC]
    lines = [",".join(FOUND)]
    for way, seed in ((w, s) for w in WAYS for s in range(10)):
        folder = gap_folder(way, seed, args.work)
        for found in read_networks(folder) if (folder / "gap.csv").is_file() else ():
            if found.seed != SCRATCH_SEED or found.genotype not in alone:
                continue
            mine = [repr(v) if (v := alone[found.genotype].get(c)) is not None else "" for c in scratch_columns()]
            told = [f"{found.params_m:.6f}", f"{found.macs_m:.6f}", repr(found.inherited[METRIC])]
            genotype = " ".join(map(str, found.genotype))
            lines.append(",".join([way, str(seed), str(found.architecture), *told, *mine, genotype]))
    write_atomically(args.out, "\n".join(lines) + "\n")


def main() -> None:
    """Run jobs, then print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="*", type=_job, default=[], help=f"WAY:SEED, ways are {', '.join(JOBS)}")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/multi30k_en_de"))
    parser.add_argument("--collect", action="store_true", help="gather what the jobs in --work have so far")
    parser.add_argument("--train-only", action="store_true", help="train the jobs' supernets and compare nothing yet")
    parser.add_argument("--architectures", type=int, default=30)
    parser.add_argument("--scratch-seeds", type=int, default=SCRATCH[PLAIN].seeds, help="trainings of each network")
    parser.add_argument("--out", type=Path, default=Path("results/mixture_gap.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/mixture_gap"))
    parser.add_argument(
        "--base", nargs="+", choices=list(WAYS), default=["hat"], help="what the others are compared with"
    )
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    args = parser.parse_args()
    if args.jobs:
        import torch

        torch.set_num_threads(1)
    for way, seed in args.jobs:
        run_job(way, seed, args)
    if args.collect or (args.jobs and not args.train_only):
        collect(args)
    if args.train_only or not args.out.is_file():
        return
    tables = read_tables(args.out)
    print_tables(tables, args.base)
    print_effects(tables)
    if args.figure:
        draw(tables, ["hat", "sandwich", "layer", "neuron", "hat-3x"], args.figure)


def _job(text: str) -> tuple[str, int]:
    way, _, seed = text.partition(":")
    if way not in JOBS or not seed.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not WAY:SEED; ways are {', '.join(JOBS)}")
    if way in SCRATCH and int(seed) >= SCRATCH[way].seeds:
        raise argparse.ArgumentTypeError(
            f"{text!r}: the tables have {SCRATCH[way].seeds} trainings of {way}, from 0 on"
        )
    return way, int(seed)


if __name__ == "__main__":
    main()
