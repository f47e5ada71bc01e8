"""The winners of an InstaTune benchmark trained on alone, as `nassearch finetune` does."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from instatune_jobs import CHECKPOINT_EVERY, Spent, binomial_error
from rows import append_row, machine, read_rows

if TYPE_CHECKING:
    from instatune_jobs import Study

    from supernets.fixed import FixedSupernet

POINTS = ("-25 %", "-50 %")
TUNED = [
    "way", "seed", "point", "share", "search_before", "report_before", "search", "report", "error", "cpu_s", "machine",
]  # fmt: skip


def accuracies(study: Study, net: FixedSupernet) -> list[float]:
    """Return the accuracy on the search and on the report split, in percent."""
    from supernets.base import call
    from supernets.training import logits_of

    figures = [study.task.evaluate(lambda x: logits_of(call(net, x)), split, 128) for split in ("search", "report")]
    return [f[next(iter(study.task.metrics))] for f in figures]


def finetune_job(way: str, seed: int, study: Study, args: argparse.Namespace) -> None:
    """Train the chosen subnets of one job on, each as an ordinary model taught by the largest; a row for each."""
    from nassearch.finetuning import FinetuneSettings
    from supernets import load
    from supernets.fixed import FixedSupernet
    from supernets.training import TrainSettings, method_settings, train

    path = args.out.with_stem(f"{args.out.stem}_finetune")
    found = {r["point"]: r for r in read_rows(args.out) if (r["way"], r["seed"]) == (way, str(seed))}
    if not found:
        raise SystemExit(f"{way}:{seed} has no rows in {args.out}; search it first (--jobs {way}:{seed})")
    done = {(r["way"], r["seed"], r["point"]) for r in read_rows(path)}
    folder, defaults = args.work / f"{way}-{seed}", FinetuneSettings()
    options: dict[str, Any] = {
        "random_subnets": 0, "alpha": defaults.alpha, "gamma": 1.0, "temperature": defaults.temperature,
        "teacher": str(folder),
    }  # fmt: skip
    for point in POINTS:
        row = found.get(point)
        if row is None or (way, str(seed), point) in done:
            continue
        net = FixedSupernet(load(folder).eval(), json.loads(row["arch"]), keep_statistics=True)
        before = accuracies(study, net)
        work = args.work / f"{way}-{seed}-tuned{point.replace(' %', '')}"
        given = {
            **study.settings, "epochs": args.epochs, "lr": args.lr, "seed": seed, "amp": args.amp, "options": options,
            "checkpoint_every": CHECKPOINT_EVERY,
        }  # fmt: skip
        spent = Spent(work / "spent.json")
        train(
            net,
            study.task.training_data(study.batch_size, seed),
            study.loss,
            method="instatune",
            settings=TrainSettings(**{**method_settings("instatune"), **given}),
            score=None,
            device="cpu",
            checkpoint_dir=work / "training",
            resume=True,
            progress=spent,
        )
        cpu = spent.seconds()[0]
        after = accuracies(study, net)
        error = binomial_error(after[1], study.task.size("report"))
        figures = [f"{x:.2f}" for x in (*before, *after, error)]
        append_row(path, TUNED, [way, seed, point, row["share"], *figures, f"{cpu:.0f}", machine()])
