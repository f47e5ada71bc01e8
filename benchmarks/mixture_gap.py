"""What ways of training a supernet are worth: 30 architectures from scratch, and what each supernet says of them.

A job is a way of training and a seed (of the order of the data, of the sampled subnets and of dropout). Each is a run
of ours on `hat-tiny` (`benchmarks/tiny_translation.py`) and 8,000 pairs of Multi30k, then `nassearch gap` on it;
``hat:0`` trains 30 networks with two seeds from scratch, for the same passes over the data as the supernet, and the
others take those over. Quality is ``nll``, nats per token of the validation set. Every network is a row of
results/mixture_gap.csv and every supernet one of results/mixture_gap_training.csv. A stopped benchmark goes on where it
was, within a training, too. Without jobs the figures are computed from the tables; `--collect` first gathers what
unfinished jobs have.

    python benchmarks/mixture_gap.py --data ../shared/data/multi30k_en_de --jobs hat:0 hat-3x:0 sandwich:0 neuron:0 …
    python benchmarks/mixture_gap.py --base hat-3x --figure results/mixture_gap.png
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rows import append_row, machine, read_rows

from nassearch.gap.statistics import Estimate, agreement, estimate, line_error, ranking, resampled

if TYPE_CHECKING:
    from nassearch import Run

Mixed = dict[str, Any]
SANDWICH = {"random_subnets": 1, "distillation": False}  # three passes a step, all on labels, as in the paper
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
}
EPOCHS, BATCH, SCRATCH_SEEDS = 2, 32, (0, 1)
METRIC = "nll"
FIRST = ("hat", 0)  # the job that trains from scratch
TRAINED = ["way", "seed", "method", "epochs", "steps", "passes", "cpu_s", "largest", "smallest", "machine"]
FOUND = [
    "way", "seed", "architecture", "params_m", "macs_m", "inherited",
    *(f"scratch_{s}" for s in SCRATCH_SEEDS), "genotype",
]  # fmt: skip
_FIGURES = {"mae": "MAE", "bias": "bias", "mae_without_bias": "MAE less bias", "kendall_tau": "tau", "regret": "regret"}


def trained_run(way: str, seed: int, args: argparse.Namespace) -> Run:
    """Return the run of a job; its supernet is trained as far as that is missing."""
    import nassearch
    from nassearch.config import make_config

    method, options, times, model = WAYS[way]
    folder = args.work / f"{way}-{seed}"
    if (folder / "config.yaml").is_file():
        return nassearch.resume(folder)
    settings = {"epochs": times * EPOCHS, "lr": 3e-3, "optimizer": "adamw", "seed": seed, "evaluate_every": 0}
    return nassearch.run(
        make_config({
            "space": "hat-tiny", "plugins": ["benchmarks.tiny_translation"], "out": folder, "strategy": "random",
            "task": f"translation:multi30k:{args.data},bleu=none,vocab_size=1000,train=8000",
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

    training = args.out.with_stem(f"{args.out.stem}_training")
    first = gap_folder(*FIRST, args.work)
    if (way, seed) != FIRST and not args.train_only and not (first / "gap.csv").is_file():
        raise SystemExit(f"{way}:{seed} takes over results from scratch; name {FIRST[0]}:{FIRST[1]} first")
    before, began = (args.work / f"{way}-{seed}").exists(), time.process_time()
    run = trained_run(way, seed, args)
    spent = math.nan if before else time.process_time() - began  # a part of it, where it was interrupted
    recipe = make_recipe(run, epochs=EPOCHS)
    if not any((r["way"], r["seed"]) == (way, str(seed)) for r in read_rows(training)):
        score = SupernetEvaluator(run.supernet(), run.task(), recipe.problem.evaluation_settings()).score
        ends = [score(a, "search")[METRIC] for a in run.space.decode(np.stack([run.space.largest, run.space.smallest]))]
        method, _, times, _ = WAYS[way]
        steps = times * EPOCHS * recipe.problem.task.training_data(BATCH).steps_per_epoch
        passes = steps * (1 if method == "single-path" else 3)
        row = [way, seed, method, times * EPOCHS, steps, passes, f"{spent:.0f}", *(f"{e:.4f}" for e in ends), machine()]
        append_row(training, TRAINED, row)
    if args.train_only:
        return
    measure_gap(
        run, architectures=args.architectures, epochs=EPOCHS, seeds=args.scratch_seeds, seed=SCRATCH_SEEDS[0],
        metric=METRIC, reuse=None if (way, seed) == FIRST else first, out=gap_folder(way, seed, args.work),
    )  # fmt: skip


def gap_folder(way: str, seed: int, work: Path) -> Path:
    """Return where the networks of a job are."""
    return work / f"gap-{way}-{seed}"


def collect(args: argparse.Namespace) -> None:
    """Write the networks of all jobs, as far as they are done, into one table; those from scratch are of the first."""
    from nassearch.gap.folder import read_rows as read_networks
    from nassearch.manifest import write_atomically

    scratch: dict[tuple[int, ...], dict[int, float]] = {}
    for found in read_networks(gap_folder(*FIRST, args.work)):
        if METRIC in found.scratch:
            scratch.setdefault(found.genotype, {})[found.seed] = found.scratch[METRIC]
    lines = [",".join(FOUND)]
    for way, seed in ((w, s) for w in WAYS for s in range(10)):
        folder = gap_folder(way, seed, args.work)
        for found in read_networks(folder) if (folder / "gap.csv").is_file() else ():
            if found.seed != SCRATCH_SEEDS[0] or found.genotype not in scratch:
                continue
            alone = [repr(v) if (v := scratch[found.genotype].get(s)) is not None else "" for s in SCRATCH_SEEDS]
            told = [f"{found.params_m:.6f}", f"{found.macs_m:.6f}", repr(found.inherited[METRIC])]
            genotype = " ".join(map(str, found.genotype))
            lines.append(",".join([way, str(seed), str(found.architecture), *told, *alone, genotype]))
    write_atomically(args.out, "\n".join(lines) + "\n")


# -- figures -----------------------------------------------------------------------------------------


def tables(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, list[NDArray[np.float64]]]]:
    """Return from-scratch quality ``[n, seeds]``, parameters ``[n]``, and way -> inherited quality ``[n]`` by seed.

    Of the architectures that all jobs have.
    """
    jobs: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read_rows(path):
        jobs.setdefault((row["way"], row["seed"]), []).append(row)
    shared = set.intersection(*({r["genotype"] for r in rows} for rows in jobs.values()))
    kept = {job: [r for r in rows if r["genotype"] in shared] for job, rows in jobs.items()}
    first = next(iter(kept.values()))
    scratch = np.array([[float(r[f"scratch_{s}"] or "nan") for s in SCRATCH_SEEDS] for r in first])
    inherited: dict[str, list[NDArray[np.float64]]] = {}
    for (way, _), rows in kept.items():
        by_genotype = {r["genotype"]: float(r["inherited"]) for r in rows}
        inherited.setdefault(way, []).append(np.array([by_genotype[r["genotype"]] for r in first]))
    return scratch, np.array([float(r["params_m"]) for r in first]), inherited


def figures(path: Path, base: str) -> dict[str, dict[str, Estimate]]:
    """Return way -> figure -> its mean over supernets, with a paired bootstrap interval over architectures.

    Beside those of the library: each less that of ``base``; ``cut``, by how many percent the MAE is less.
    """
    scratch, params, inherited = tables(path)
    true, counts = np.nanmean(scratch, 1), resampled(len(scratch))
    drawn = {
        way: {
            name: np.mean([agreement(told, true, "min", counts)[name] for told in by_seed], axis=0) for name in _FIGURES
        }
        for way, by_seed in inherited.items()
    }
    share = counts / counts.sum(1, keepdims=True)
    drawn["parameters"] = {"mae": share @ np.abs(line_error(params, true)), **ranking(-params, true, "min", counts)}
    if not np.isnan(scratch).any():  # what two trainings say of each other
        second = agreement(scratch[:, 0], scratch[:, 1], "min", counts)
        drawn["scratch again"] = {name: second[name] for name in _FIGURES}
    found: dict[str, dict[str, Estimate]] = {}
    for way, of_way in drawn.items():
        found[way] = {name: estimate(values) for name, values in of_way.items()}
        if base in drawn and way != base:
            found[way] |= {f"{n} - {base}": estimate(v - drawn[base][n]) for n, v in of_way.items()}
            found[way]["cut"] = estimate(100 * (1 - of_way["mae"] / drawn[base]["mae"]))
    return found


def print_table(path: Path, base: str) -> None:
    """Print the figures as Markdown."""
    _, _, inherited = tables(path)
    print(f"| way | seeds | {' | '.join(_FIGURES.values())} | tau - {base} | MAE cut, % |")
    print("|" + "---|" * (len(_FIGURES) + 4))
    for way, found in figures(path, base).items():
        cells = [_cell(found.get(name), 3) for name in _FIGURES]
        seeds = str(len(inherited[way])) if way in inherited else ""
        ends = (_cell(found.get(f"kendall_tau - {base}"), 3), _cell(found.get("cut"), 1))
        print(f"| {way} | {seeds} | {' | '.join([*cells, *ends])} |")


def _cell(found: Estimate | None, digits: int) -> str:
    return "" if found is None else f"{found.value:.{digits}f} ({found.low:.{digits}f}, {found.high:.{digits}f})"


def draw(path: Path, ways: list[str], out: Path) -> None:
    """Draw inherited against from-scratch quality, a panel for each way."""
    from matplotlib.figure import Figure

    scratch, _, inherited = tables(path)
    shown = [w for w in ways if w in inherited]
    figure = Figure(figsize=(3 * len(shown), 3.3), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    true = np.nanmean(scratch, 1)
    for panel, way in zip(panels, shown, strict=True):
        panel.plot([true.min(), true.max()], [true.min(), true.max()], color="0.6", linewidth=1)
        for number, told in enumerate(inherited[way]):
            panel.plot(true, told, "ox"[number % 2], color=f"C{number}", markersize=4, label=f"seed {number}")
        panel.set_title(way)
        panel.set_xlabel("from scratch, nats per token")
    panels[0].set_ylabel("inherited, nats per token")
    panels[0].legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    """Run jobs, then print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="*", type=_job, default=[], help=f"WAY:SEED, ways are {', '.join(WAYS)}")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/multi30k_en_de"))
    parser.add_argument("--collect", action="store_true", help="gather what the jobs in --work have so far")
    parser.add_argument("--train-only", action="store_true", help="train the jobs' supernets and compare nothing yet")
    parser.add_argument("--architectures", type=int, default=30)
    parser.add_argument("--scratch-seeds", type=int, default=len(SCRATCH_SEEDS), help="trainings of each network")
    parser.add_argument("--out", type=Path, default=Path("results/mixture_gap.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/mixture_gap"))
    parser.add_argument("--base", default="hat-3x", help="way that the others are compared with")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    args = parser.parse_args()
    if args.jobs:
        import torch

        torch.set_num_threads(1)
    for way, seed in args.jobs:
        run_job(way, seed, args)
    if args.collect or (args.jobs and not args.train_only):
        collect(args)
    if not args.train_only:
        print_table(args.out, args.base)
    if args.figure:
        draw(args.out, ["hat", "hat-3x", "sandwich", "layer", "neuron"], args.figure)


def _job(text: str) -> tuple[str, int]:
    way, _, seed = text.partition(":")
    if way not in WAYS or not seed.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not WAY:SEED; ways are {', '.join(WAYS)}")
    return way, int(seed)


if __name__ == "__main__":
    main()
