"""What the InstaTune benchmarks share: ways of training, searches, and rows of what was found.

A job is a way of training and a seed. Each is trained (a row in NAME_training.csv; the supernet stays in --work), its
subnets are searched on the search split, and then the front, and the best subnets at 75, 60 and 50 % of the
multiply-accumulates, are scored on the report split, which decides nothing (rows in NAME.csv), beside the same
architectures cut from the plain fine-tune of the seed. A stopped benchmark goes on where it was, within a training and
within a search, too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rows import append_row, machine, read_rows

from nassearch.objectives import Objective
from nassearch.pareto import non_dominated
from nassearch.strategies import make_strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nassearch.tasks.base import Task
    from supernets.base import Supernet
    from supernets.training import Rehearsal, TrainProgress

Scored = dict[str, float]
Score = Callable[["Supernet", Mapping[str, Any], str], Scored]

TARGETS = (0.75, 0.6, 0.5)
OBJECTIVES = [Objective.parse("accuracy:max"), Objective.parse("macs_m:min")]
ORDERED_BY = 16  # batches
CHECKPOINT_EVERY = 50


@dataclass(frozen=True)
class Way:
    """A way of training.

    Attributes:
        options: Of the method.
        taught: Whether the seed's plain fine-tune is the teacher.
        order: How units are ordered: "rehearsed" (heads, neurons and layers, by a copy that has been fine-tuned a
            little), "new-head" (heads and neurons, by the gradients of the new head), "after" (like "rehearsed", but
            after the training, by its own weights) or "none".
    """

    options: Mapping[str, Any]
    taught: bool = False
    order: str = "rehearsed"


WAYS = {
    # Ordered when it has been trained, which suits best what is cut from it.
    "plain": Way({"alpha": 1.0, "random_subnets": 0}, order="after"),
    "g0": Way({}),
    "g1": Way({}, taught=True),
    "g0-unordered": Way({}, order="none"),
    "g1-unordered": Way({}, taught=True, order="none"),
    "g0-new-head": Way({}, order="new-head"),
    "g1-new-head": Way({}, taught=True, order="new-head"),
    "g1-smallest": Way({"smallest": True}, taught=True),
    "g1-smallest-new-head": Way({"smallest": True}, taught=True, order="new-head"),
    "g1-two": Way({"random_subnets": 2}, taught=True),
}
TRAINED = ["way", "seed", "lr", "epochs", "amp", "search", "report", "cpu_s", "wall_s", "machine"]
FOUND = [
    "way", "seed", "lr", "epochs", "point", "macs_m", "share", "search", "report", "error", "plain_search",
    "plain_report", "evaluations", "arch",
]  # fmt: skip


def binomial_error(percent: float, n: int) -> float:
    """Return the standard error of an accuracy on n examples, both in percent."""
    return 100 * math.sqrt(max(percent * (100 - percent), 0.0) / 1e4 / n)


def best_within(scored: Sequence[Scored], macs: NDArray[np.float64], most: float) -> int | None:
    """Return the number of the most accurate network within a limit; of equal ones that of the least loss.

    Args:
        scored: Accuracy and loss of each network.
        macs: Cost of each network.
        most: The limit.
    """
    allowed = [i for i in range(len(scored)) if macs[i] <= most]
    return min(allowed, key=lambda i: (-scored[i]["accuracy"], scored[i]["loss"]), default=None)


@dataclass(frozen=True)
class Study:
    """A pre-trained model and the task it is fine-tuned on.

    Attributes:
        task: The task.
        pretrained: Seed -> the model with a new head.
        settings: Of training, beside those of the command line.
        batch_size: Of training.
    """

    task: Task
    pretrained: Callable[[int], nn.Module]
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 32

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the task's loss."""
        from supernets.training import logits_of

        return self.task.loss(logits_of(outputs), targets)

    def order(self, net: Supernet, seed: int, *, layers: bool, rehearsal: Rehearsal | None = None) -> None:
        """Order a supernet's units by importance, on training data."""
        from supernets.training import sort_units

        batches = islice(self.task.training_data(self.batch_size, seed).batches(0), ORDERED_BY)
        sort_units(net, batches, self.loss, layers=layers, rehearsal=rehearsal, device="cpu")


class Spent:
    """CPU and wall seconds of a training, those before an interruption included.

    Args:
        path: Where they are kept whenever the training keeps a checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = json.loads(path.read_text()) if path.is_file() else [0.0, 0.0]
        self.began = (time.process_time(), time.monotonic())

    def seconds(self) -> list[float]:
        """Return CPU and wall seconds until now."""
        now = (time.process_time(), time.monotonic())
        return [b + n - s for b, n, s in zip(self.before, now, self.began, strict=True)]

    def __call__(self, state: TrainProgress) -> None:
        """Keep the seconds, and print the state of the training."""
        if state.step % CHECKPOINT_EVERY == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.seconds()))
            cpu, wall = self.seconds()
            print(
                f"{self.path.parent.name} {state.step}/{state.total} loss {state.loss:.3f} {cpu:.0f} {wall:.0f} s",
                flush=True,
            )


def train_job(way: str, seed: int, study: Study, args: argparse.Namespace) -> tuple[Supernet, float, float]:
    """Return the trained supernet, and the CPU and wall seconds of its training, order and teacher included."""
    from supernets import convert
    from supernets.training import Rehearsal, TrainSettings, method_settings, rehearsal_steps, train

    chosen = WAYS[way]
    options = dict(chosen.options)
    if chosen.taught:
        teacher = args.work / f"plain-{seed}"
        if not teacher.is_dir():
            raise SystemExit(f"{way}:{seed} learns from plain:{seed}, which is not in {teacher}; name that job first")
        options = {**options, "teacher": str(teacher)}
    spent = Spent(args.work / f"{way}-{seed}" / "spent.json")
    net = convert(study.pretrained(seed))
    data = study.task.training_data(study.batch_size, seed)
    given = {
        **study.settings, "epochs": args.epochs, "lr": args.lr, "seed": seed, "amp": args.amp, "options": options,
        "checkpoint_every": CHECKPOINT_EVERY,
    }  # fmt: skip
    settings = TrainSettings(**{**method_settings("instatune"), **given})
    if chosen.order in ("rehearsed", "new-head"):
        steps = rehearsal_steps(settings.total_steps(data.steps_per_epoch))
        rehearsed = chosen.order == "rehearsed"
        study.order(net, seed, layers=rehearsed, rehearsal=Rehearsal(data, steps, settings) if rehearsed else None)
    train(
        net,
        data,
        study.loss,
        method="instatune",
        settings=settings,
        score=None,
        device="cpu",
        checkpoint_dir=args.work / f"{way}-{seed}" / "training",
        resume=True,
        progress=spent,
    )
    if chosen.order == "after":
        study.order(net, seed, layers=True)
    return net, *spent.seconds()


def remembering(task: Task, path: Path) -> Score:
    """Return a function that scores a subnet on a split, and keeps the scores in a table."""
    from supernets.base import call
    from supernets.training import logits_of

    columns = ["split", "arch", "accuracy", "loss"]
    known = {(r["split"], r["arch"]): {m: float(r[m]) for m in columns[2:]} for r in read_rows(path)}

    def score(net: Supernet, arch: Mapping[str, Any], split: str) -> Scored:
        key = (split, json.dumps(arch))
        if key not in known:
            with net.activated(arch):
                figures = task.evaluate(lambda x: logits_of(call(net, x)), split, 128)
            known[key] = {"accuracy": figures[next(iter(task.metrics))], "loss": figures["loss"]}
            append_row(path, columns, [*key, known[key]["accuracy"], known[key]["loss"]])
        return known[key]

    return score


def search(net: Supernet, score: Score, seed: int, budget: int) -> tuple[NDArray[np.int64], list[Scored]]:
    """Return the networks that `linas` evaluated, and their scores on the search split."""
    made = make_strategy("linas", net.space, objectives=OBJECTIVES, seed=seed, analytic=net.analytic, budget=budget)
    rows: list[NDArray[np.int64]] = []
    scored: list[Scored] = []
    while len(scored) < budget and len(G := made.ask(min(10, budget - len(scored)))):
        new = [score(net, arch, "search") for arch in net.space.decode(G)]
        made.tell(G, np.column_stack([[s["accuracy"] for s in new], net.analytic(G)["macs_m"]]))
        rows.append(G)
        scored += new
        print("evaluations", len(scored), f"best {max(s['accuracy'] for s in scored):.2f}", flush=True)
    return np.concatenate(rows), scored


def report_job(way: str, seed: int, nets: tuple[Supernet, Supernet], task: Task, args: argparse.Namespace) -> None:
    """Search one trained supernet, then write a row for each chosen network."""
    net, plain = nets
    score, plain_score = (remembering(task, args.work / f"{w}-{seed}" / "scores.csv") for w in (way, "plain"))
    rows, scored = search(net, score, seed, args.budget)
    macs = net.analytic(rows)["macs_m"]
    full = float(net.analytic(net.space.largest[None])["macs_m"][0])
    values = np.column_stack([[s["accuracy"] for s in scored], macs])
    chosen: list[tuple[str, int]] = [("largest", int(np.flatnonzero((rows == net.space.largest).all(1))[0]))]
    for target in TARGETS:
        found = best_within(scored, macs, target * full)
        if found is not None:
            chosen.append((f"-{100 * (1 - target):.0f} %", found))
    front = np.flatnonzero(non_dominated(values, OBJECTIVES))
    chosen += [("front", int(i)) for i in front[np.argsort(macs[front])]]
    path, written = args.out, []
    for point, i in chosen:
        (arch,) = net.space.decode(rows[i][None])
        accuracy = score(net, arch, "report")["accuracy"]
        cut: list[Any] = ["", ""]
        if way != "plain" and point != "front":
            cut = [f"{plain_score(plain, arch, split)['accuracy']:.2f}" for split in ("search", "report")]
        written.append([
            way, seed, args.lr, args.epochs, point, f"{macs[i]:.1f}", f"{macs[i] / full:.4f}",
            f"{scored[i]['accuracy']:.2f}", f"{accuracy:.2f}", f"{binomial_error(accuracy, task.size('report')):.2f}",
            *cut, len(scored), json.dumps(arch),
        ])  # fmt: skip
    for row in written:  # together: a job without all of its rows would count as done
        append_row(path, FOUND, row)


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser of what all these benchmarks take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--jobs", nargs="*", type=_job, default=[], help=f"WAY:SEED, ways are {', '.join(WAYS)}")
    made.add_argument("--finetune", nargs="*", type=_job, default=[], help="jobs whose winners are trained on alone")
    made.add_argument("--out", type=Path, default=Path(f"results/{name}.csv"))
    made.add_argument("--work", type=Path, default=Path(f"runs/{name}"))
    made.add_argument("--amp", default="bf16", choices=["off", "bf16"])
    made.add_argument("--budget", type=int, default=80, help="evaluations of a search; 0: train only")
    made.add_argument("--threads", type=int, default=1)
    return made


def _job(text: str) -> tuple[str, int]:
    way, _, seed = text.partition(":")
    if way not in WAYS or not seed.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not WAY:SEED; ways are {', '.join(WAYS)}")
    return way, int(seed)


def run_job(way: str, seed: int, study: Study, args: argparse.Namespace) -> None:
    """Train and search one job, as far as that is missing."""
    from supernets import load, save

    folder = args.work / f"{way}-{seed}"
    trained = args.out.with_stem(f"{args.out.stem}_training")
    if not any((r["way"], r["seed"]) == (way, str(seed)) for r in read_rows(trained)):
        net, cpu, wall = train_job(way, seed, study, args)
        save(net, folder)
        (folder / "scores.csv").unlink(missing_ok=True)  # of other weights
        score = remembering(study.task, folder / "scores.csv")
        quality = [score(net, net.active, split)["accuracy"] for split in ("search", "report")]
        row = [way, seed, args.lr, args.epochs, args.amp, *(f"{q:.2f}" for q in quality), f"{cpu:.0f}", f"{wall:.0f}"]
        append_row(trained, TRAINED, [*row, machine()])
    if not folder.is_dir():
        raise SystemExit(
            f"{trained} has a row of {way}:{seed}, but its supernet is not in {folder}; give the --work folder in "
            "which it was trained, or another --out to train it anew"
        )
    if args.budget and not any((r["way"], r["seed"]) == (way, str(seed)) for r in read_rows(args.out)):
        nets = load(folder).eval(), load(args.work / f"plain-{seed}").eval()
        report_job(way, seed, nets, study.task, args)


def print_table(path: Path) -> None:
    """Print means over seeds, with the spread between them."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_rows(path):
        if row["point"] != "front":
            groups.setdefault((row["way"], row["point"]), []).append(row)
    for key, rows in groups.items():
        columns = ("share", "search", "report", "plain_search", "plain_report")
        means = {c: statistics.mean(float(r[c]) for r in rows if r[c]) for c in columns if rows[0][c]}
        seen = [float(r["report"]) for r in rows]
        print(*key, f"{len(rows)} seeds", {c: round(m, 3) for c, m in means.items()}, f"{min(seen)}-{max(seen)}")
