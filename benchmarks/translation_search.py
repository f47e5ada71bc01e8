"""Our search of a translation supernet beside HAT's own, at an equal number of evaluated networks and of latencies.

Ours are run folders of ``nassearch run`` over a trained translation supernet, with a metric of the search split and
``latency_ms`` as objectives; the network within a limit is the one that ``nassearch export --subnet "latency_ms <= X"``
takes. HAT's (`hat_search`) has as many evaluations, divided among the limits, and its latency predictor learns from as
many measured networks as the run measured. Both choose by the search split alone. What they chose, and the largest
network, is then measured alike: latency in rounds that are interleaved in one process, as CPU time of one thread; BLEU
of the report split, with bootstrap over its sentences. Evaluations are kept in ``--work``: a stopped benchmark goes on.

    python benchmarks/translation_search.py --vocabulary runs/translate-neuron runs/de-en.model
    python benchmarks/translation_search.py --runs runs/neuron-bleu-0 runs/neuron-loss-0
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bleu_bootstrap import bleu, resampled, statistics
from hat_search import Rows, Values, hat_search, latency_predictor
from rows import append_row, machine, read_rows
from translation_latency import timed_rounds

if TYPE_CHECKING:
    import nassearch

COLUMNS = (
    "supernet", "search", "seed", "limit", "evaluations", "latencies", "loss_search", "bleu_search",
    "latency_search_ms", "bleu_report", "bleu_se", "ahead_of_hat", "ahead_low", "ahead_high", "latency_ms", "iqr_ms",
    "of_largest", "params_m", "arch", "machine",
)  # fmt: skip
_LARGEST_MEASURED = 5  # times: the limits are shares of its latency


class Subject:
    """A trained supernet, the task and the conditions of a run over it.

    Args:
        run: The run.
        work: Where evaluations are kept.
    """

    def __init__(self, run: nassearch.Run, work: Path) -> None:
        from nassearch.evaluation import EvaluationSettings, SupernetEvaluator
        from nassearch.runs import SUPERNET_FOLDER
        from predictors import LatencySetting

        self.run, self.space, self.work = run, run.space, work
        self.net, self.task, self.seed = run.supernet(), run.task(), run.config.seed
        self.name = run.config.supernet.parent.name if run.config.supernet else run.folder.name
        self.setting = LatencySetting.parse(run.config.latency[0])
        of = run.config.evaluation
        settings = EvaluationSettings(
            ("latency_ms",), {"latency_ms": self.setting}, of.batch_size, of.calibration_size, "cpu"
        )
        self.evaluator = SupernetEvaluator(self.net, self.task, settings)
        (weights,) = (run.folder / SUPERNET_FOLDER).glob("*.safetensors")
        self.weights = weights.stem
        self._known = {tuple(list(r.values())[:-1]): float(r["value"]) for r in read_rows(self._table)}

    @property
    def _table(self) -> Path:
        return self.work / "evaluations.csv"

    @property
    def split(self) -> str:
        """What tells evaluations on the search split apart: data, splits and settings of the task."""
        return f"{self.task.fingerprint} batch {self.evaluator.settings.batch_size}"

    @property
    def rivalry(self) -> tuple[Any, ...]:
        """What a search of ours and one of HAT's must have in common to be compared."""
        return (self.name, self.weights, self.split, self.seed, len(self.run.records))

    def _cached(self, metric: str, conditions: str, row: Rows, compute: Any) -> float:
        key = (self.weights, conditions, metric, " ".join(map(str, row.tolist())))
        if key not in self._known:
            (arch,) = self.space.decode(row[None])
            self._known[key] = float(compute(arch))
            append_row(
                self._table, ["weights", "conditions", "metric", "genotype", "value"], [*key, repr(self._known[key])]
            )
        return self._known[key]

    def latencies(self, rows: Rows, time: int = 0) -> Values:
        """Return latencies, ms, measured as the run measured them; ``time`` tells repetitions apart."""
        where = f"{self.setting} {machine()} {time}"
        return np.array(
            [self._cached("latency_ms", where, r, lambda a: self.evaluator.cost(a).values["latency_ms"]) for r in rows]
        )

    def losses(self, rows: Rows) -> Values:
        """Return the loss on the search split, with the supernet's weights: HAT's fitness."""

        def loss(arch: Any) -> float:
            with self.net.activated(arch):
                return self.task.evaluate(lambda x: self.net(**x), "search", self.evaluator.settings.batch_size)["loss"]

        return np.array([self._cached("loss", self.split, row, loss) for row in rows])

    @cached_property
    def largest_ms(self) -> float:
        """Latency of the largest network, the median of several measurements."""
        return float(np.median([self.latencies(self.space.largest[None], t)[0] for t in range(_LARGEST_MEASURED)]))

    def translations(self, row: Rows, split: str) -> np.ndarray[Any, Any]:
        """Return BLEU's statistics of the sentences of a split, in the split's order."""
        text = json.dumps([self.weights, self.split, split, row.tolist()])
        path = self.work / f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.txt"
        task: Any = self.task
        if not path.is_file():
            (arch,) = self.space.decode(row[None])
            with self.net.activated(arch):
                written = task.translate(self.net.generate, split, self.evaluator.settings.batch_size)
            part = path.with_suffix(".part")
            part.write_text("\n".join(" ".join(w.split("\n")) for w in written), encoding="utf-8")
            part.rename(path)
        return statistics(path.read_text(encoding="utf-8").split("\n"), task.reference(split))


@dataclass
class Point:
    """A network that a search chose.

    Attributes:
        subject: Of which supernet and task.
        search: Name of the search.
        limit: Share of the largest network's latency; None for that network.
        row: Its choices.
        evaluations: Networks that the search evaluated.
        latencies: Latencies that it measured.
        latency_search: What the search held its latency to be, ms.
        samples: Latencies of the final measurement, ms.
    """

    subject: Subject
    search: str
    limit: float | None
    row: Rows
    evaluations: int = 0
    latencies: int = 0
    latency_search: float = float("nan")
    samples: list[float] = field(default_factory=list)


def ours(subject: Subject, limits: list[float]) -> list[Point]:
    """Return the networks that a run has within each limit."""
    run, n = subject.run, len(subject.run.records)
    chosen = []
    for limit in limits:
        record = run.select(f"latency_ms <= {limit * subject.largest_ms}")
        name = f"{run.config.strategy} on {run.goal.objectives[0].metric}"
        found = record.values["latency_ms"]
        chosen.append(Point(subject, name, limit, np.array(record.row), n, n, found))
    return chosen


def hats(subject: Subject, limits: list[float], population: int) -> list[Point]:
    """Return what HAT's search finds within each limit, at the budget of the run."""
    n = len(subject.run.records)
    space, rng = subject.space, np.random.default_rng(subject.seed)
    sample = space.sample(n, np.random.default_rng([subject.seed, 1]))
    predict = latency_predictor(space, sample, subject.latencies(sample), subject.seed)
    known = [r for r in subject.run.records if "latency_ms" in r.values]
    error = predict(np.array([r.row for r in known])) / np.array([r.values["latency_ms"] for r in known]) - 1
    print(f"HAT's predictor on the {len(known)} networks that ours measured: MAPE {100 * np.abs(error).mean():.1f} %")
    chosen = []
    for limit in limits:
        rows, scores = hat_search(
            space, subject.losses, predict, limit * subject.largest_ms,
            budget=n // len(limits), population=population, rng=rng,
        )  # fmt: skip
        best = rows[int(np.argmin(scores))]
        print(f"HAT within {limit}: {len(rows)} networks, loss {scores.min():.4f}", flush=True)
        chosen.append(Point(subject, "HAT", limit, best, n, n, float(predict(best[None])[0])))
    return chosen


def searches(args: argparse.Namespace) -> list[Point]:
    """Return what all searches chose; HAT's once for each supernet, seed and budget."""
    import nassearch

    points: list[Point] = []
    done: set[Any] = set()
    for folder in args.runs:
        subject = Subject(nassearch.Run(folder), args.work)
        print(f"{folder.name}: {len(subject.run.records)} networks; the largest takes {subject.largest_ms:.2f} ms")
        if subject.name not in done:
            points.append(Point(subject, "largest", None, subject.space.largest))
        points += ours(subject, args.limits)
        if subject.rivalry not in done:
            points += hats(subject, args.limits, args.population)
        done |= {subject.name, subject.rivalry}
    return points


def measure(points: list[Point], rounds: int) -> None:
    """Measure the latency of all points, in rounds over all of them."""
    from nassearch.evaluation import measured_inputs

    modules = []
    for p in points:
        (arch,) = p.subject.space.decode(p.row[None])
        modules.append((p.subject.net.timed(arch).eval(), measured_inputs(p.subject.net, arch, p.subject.setting)))
    for p, samples in zip(points, timed_rounds(modules, rounds), strict=True):
        p.samples = samples


def write(points: list[Point], out: Path) -> None:
    """Write the table anew: figures of different measurements of latency do not mix."""
    full = {p.subject.name: float(np.median(p.samples)) for p in points if p.limit is None}
    hat = {(p.subject.rivalry, p.limit): p for p in points if p.search == "HAT"}
    part = out.with_suffix(".part")
    part.unlink(missing_ok=True)
    for p in points:
        net, stats = p.subject, p.subject.translations(p.row, "report")
        samples, ahead = resampled(stats), ["", "", ""]
        rival = hat.get((net.rivalry, p.limit))
        if rival is not None and p is not rival:
            theirs = rival.subject.translations(rival.row, "report")
            low, high = np.percentile(samples - resampled(theirs), [2.5, 97.5])
            ahead = [f"{bleu(stats.sum(0)) - bleu(theirs.sum(0)):.2f}", f"{low:.2f}", f"{high:.2f}"]
        q1, median, q3 = np.percentile(p.samples, [25, 50, 75])
        row = [
            net.name, p.search, net.seed, "" if p.limit is None else p.limit, p.evaluations, p.latencies,
            f"{net.losses(p.row[None])[0]:.4f}", f"{bleu(net.translations(p.row, 'search').sum(0)):.2f}",
            f"{p.latency_search:.3f}",
            f"{bleu(stats.sum(0)):.2f}", f"{samples.std():.2f}", *ahead, f"{median:.3f}", f"{q3 - q1:.3f}",
            f"{median / full[net.name]:.3f}", f"{net.net.analytic(p.row[None])['params_m'][0]:.4f}",
            json.dumps(net.space.decode(p.row[None])[0]), machine(),
        ]  # fmt: skip
        append_row(part, COLUMNS, row)
    part.rename(out)


def summary(path: Path) -> None:
    """Print each point."""
    print("| supernet | limit | search | seed | BLEU, report | ahead of HAT's | latency, ms | of largest | params, M |")
    print("|---|---|---|---|---|---|---|---|---|")
    for r in sorted(read_rows(path), key=lambda r: (r["supernet"], -float(r["limit"] or 2), r["search"])):
        ahead = f"{r['ahead_of_hat']} ({r['ahead_low']} to {r['ahead_high']})" if r["ahead_of_hat"] else ""
        print(
            f"| {r['supernet']} | {r['limit'] or '-'} | {r['search']} | {r['seed']} | {r['bleu_report']} ± "
            f"{r['bleu_se']} | {ahead} | {r['latency_ms']} | {r['of_largest']} | {r['params_m']} |"
        )


def main() -> None:
    """Search, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="runs that searched a trained supernet")
    parser.add_argument("--limits", nargs="+", type=float, default=[0.5, 0.75], help="shares of the largest's latency")
    parser.add_argument("--population", type=int, default=12, help="of HAT's genetic algorithm")
    parser.add_argument("--rounds", type=int, default=15, help="of the final measurement of latencies")
    parser.add_argument("--vocabulary", nargs=2, type=Path, metavar=("RUN", "FILE"), help="write a run's and stop")
    parser.add_argument("--work", type=Path, default=Path("runs/translation_search"))
    parser.add_argument("--out", type=Path, default=Path("results/translation_search.csv"))
    args = parser.parse_args()
    if args.vocabulary:
        import nassearch

        folder, file = args.vocabulary
        file.write_bytes(nassearch.Run(folder).task().arrays["model"].tobytes())  # type: ignore[attr-defined]
        return
    if args.runs:
        import torch

        torch.set_num_threads(1)
        points = searches(args)
        measure(points, args.rounds)
        write(points, args.out)
    summary(args.out)


if __name__ == "__main__":
    main()
