"""Our search of a translation supernet beside HAT's own, at an equal number of evaluated networks.

Ours: `linas` on BLEU of the search split and measured latency. HAT's (Wang et al., ACL 2020): for
each of three limits of latency a genetic algorithm on the validation loss, a fifth of the population parents, two
fifths mutants (each gene drawn anew with probability 0.3), two fifths uniform crossovers; what a predictor of HAT's
recipe (ten averages, a network of 3 x 400) holds to be too slow is rejected. Its predictor learns from ``--measured``
networks, which do not count as evaluations. What both find, and the largest network, is then measured alike: latency as
CPU time of one thread, which a busy machine does not change, and BLEU of the report split. A stopped benchmark goes on.

    python benchmarks/translation_search.py --runs runs/translate-neuron runs/translate-sandwich --evals 60
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rows import append_row, machine, read_rows
from translation_latency import _NORMALISER, hat_network, process_ms

from nassearch.objectives import Objective
from nassearch.pareto import hypervolume, non_dominated
from nassearch.strategies import make_strategy
from nassearch.tasks import make_task
from search_spaces import SearchSpace, hat_averages

if TYPE_CHECKING:
    from nassearch import Run
    from supernets import Supernet

COLUMNS = [
    "supernet", "search", "seed", "point", "bleu_search", "bleu_report", "nll_search", "latency_ms", "params_m",
    "evaluations", "arch", "machine",
]  # fmt: skip
OBJECTIVES = [Objective.parse("bleu:max"), Objective.parse("latency_ms:min")]
LIMITS = (0.5, 0.7, 0.9)  # of the largest network's latency
Rows = NDArray[np.int64]


def latency_predictor(
    space: SearchSpace, rows: Rows, latency: NDArray[np.float64]
) -> Callable[[Rows], NDArray[np.float64]]:
    """Return HAT's predictor of latency, learnt once from measured rows."""
    predict = hat_network(hat_averages(space, rows) / _NORMALISER, latency, rate=1e-3, seed=0)
    return lambda G: predict(hat_averages(space, G) / _NORMALISER)


def hat_search(
    space: SearchSpace,
    loss: Callable[[Rows], NDArray[np.float64]],
    latency: Callable[[Rows], NDArray[np.float64]],
    limit: float,
    budget: int,
    rng: np.random.Generator,
) -> tuple[Rows, NDArray[np.float64]]:
    """Return the networks that HAT's genetic algorithm evaluated within a limit, and their losses."""
    size = max(5, budget // 4)
    n_choices = space.n_choices

    def accepted(make: Callable[[], Rows], n: int) -> list[Any]:
        found: list[Any] = []
        for _ in range(1000):
            if len(found) >= n:
                break
            row = space.canonical(make()[None])
            if latency(row)[0] <= limit:
                found.append(row[0])
        return found

    def anew() -> Rows:
        return rng.integers(0, n_choices)

    population = np.array(accepted(anew, size))
    seen, scores = population[:0], np.zeros(0)
    while len(seen) < budget and len(population):
        population = population[: budget - len(seen)]
        seen, scores = np.concatenate([seen, population]), np.concatenate([scores, loss(population)])
        parents = seen[np.argsort(scores, kind="stable")[: max(2, size // 5)]]

        def mutant(parents: Rows = parents) -> Rows:
            parent = parents[rng.integers(len(parents))]
            return np.where(rng.random(len(parent)) < 0.3, anew(), parent)

        def child(parents: Rows = parents) -> Rows:
            a, b = parents[rng.choice(len(parents), 2, replace=False)]
            return np.where(rng.random(len(a)) < 0.5, a, b)

        half = (size - len(parents)) // 2
        population = np.array(accepted(mutant, size - len(parents) - half) + accepted(child, half))
    return seen, scores


# -- jobs --------------------------------------------------------------------------------------------


class Subject:
    """A trained supernet and its task.

    Args:
        run: The run that trained it.
        work: Where results are kept.
        task: Specification of the task; None: the run's own.
    """

    def __init__(self, run: Run, work: Path, task: str | None = None) -> None:
        from nassearch.evaluation import EvaluationSettings, SupernetEvaluator

        self.run, self.space = run, run.space
        self.net: Supernet = run.supernet()
        self.task = run.task() if task is None else make_task(task, seed=run.config.seed)
        self.evaluator = SupernetEvaluator(self.net, self.task, EvaluationSettings((), {}, 256, 256, "cpu"))
        self.measured = work / f"{run.folder.name}-latency.csv"
        self.translated = work / f"{run.folder.name}-bleu.csv"

    def latencies(self, rows: Rows) -> NDArray[np.float64]:
        """Return measured latencies, ms; a row that is known is not measured again."""
        known = {r["genotype"]: float(r["latency_ms"]) for r in read_rows(self.measured)}
        found = []
        for row, arch in zip(rows.tolist(), self.space.decode(rows), strict=True):
            key = " ".join(map(str, row))
            if key not in known:
                inputs = self.net.example_inputs(arch)
                known[key], spread = process_ms(self.net.timed(arch).eval(), inputs)
                append_row(self.measured, ["genotype", "latency_ms", "iqr_ms"], [key, known[key], spread])
            found.append(known[key])
        return np.array(found)

    def losses(self, rows: Rows) -> NDArray[np.float64]:
        """Return nats per token of the search split, with the supernet's weights."""
        found = []
        for arch in self.space.decode(rows):
            with self.net.activated(arch):
                found.append(self.task.evaluate(lambda x: self.net(**x), "search", 256)["nll"])
        return np.array(found)

    def bleu(self, rows: Rows, split: str = "search") -> NDArray[np.float64]:
        """Return BLEU of a split, with the supernet's weights; a row that is known is not evaluated again."""
        known = {(r["split"], r["genotype"]): float(r["bleu"]) for r in read_rows(self.translated)}
        found = []
        for row, arch in zip(rows.tolist(), self.space.decode(rows), strict=True):
            key = (split, " ".join(map(str, row)))
            if key not in known:
                known[key] = self.evaluator.score(arch, split)["bleu"]
                append_row(self.translated, ["split", "genotype", "bleu"], [*key, known[key]])
            found.append(known[key])
        return np.array(found)

    def described(self, row: Rows) -> list[Any]:
        """Return the cells of `COLUMNS` from ``bleu_search`` to ``params_m`` of one network."""
        bleu = [self.bleu(row[None], split)[0] for split in ("search", "report")]
        costs = float(self.net.analytic(row[None])["params_m"][0])
        loss, latency = float(self.losses(row[None])[0]), float(self.latencies(row[None])[0])
        return [*(f"{b:.2f}" for b in bleu), f"{loss:.4f}", f"{latency:.3f}", f"{costs:.4f}"]


def ours(subject: Subject, seed: int, args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Return the front of `linas` on BLEU and latency, and names of its points."""
    net = subject.net
    made = make_strategy(
        "linas", subject.space, objectives=OBJECTIVES, seed=seed, analytic=net.analytic, budget=args.evals
    )
    rows, values = subject.space.largest[None][:0], np.zeros((0, 2))
    while len(rows) < args.evals and len(G := made.ask(min(10, args.evals - len(rows)))):
        found = np.column_stack([subject.bleu(G), subject.latencies(G)])
        made.tell(G, found)
        rows, values = np.concatenate([rows, G]), np.concatenate([values, found])
        print(f"{len(rows)} evaluations, best BLEU {values[:, 0].max():.2f}", flush=True)
    front = np.flatnonzero(non_dominated(values, OBJECTIVES))
    front = front[np.argsort(values[front, 1])]
    return rows[front], [f"front {i + 1}" for i in range(len(front))]


def hats(subject: Subject, seed: int, args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Return what HAT's search finds within each limit, and names of the points."""
    space, rng = subject.space, np.random.default_rng(seed)
    sample = space.sample(args.measured, np.random.default_rng([seed, 1]))
    predict = latency_predictor(space, sample, subject.latencies(sample))
    full = float(subject.latencies(space.largest[None])[0])
    chosen = []
    for share in LIMITS:
        rows, scores = hat_search(space, subject.losses, predict, share * full, args.evals // len(LIMITS), rng)
        chosen.append(rows[int(np.argmin(scores))])
    return np.array(chosen), [f"within {100 * s:.0f} %" for s in LIMITS]


SEARCHES = {"linas": ours, "hat": hats}


def run_jobs(args: argparse.Namespace) -> None:
    """Search and measure what is missing."""
    import nassearch

    done = {(r["supernet"], r["search"], r["seed"]) for r in read_rows(args.out)}
    for folder in args.runs:
        subject = Subject(nassearch.Run(folder), args.work, args.task)
        for search in ["largest", *args.searches]:
            if (folder.name, search, str(args.seed)) in done:
                continue
            if search == "largest":
                found, names, spent = subject.space.largest[None], ["largest"], 0
            else:
                found, names = SEARCHES[search](subject, args.seed, args)
                spent = args.evals
            rows = []
            for row, name in zip(found, names, strict=True):
                (arch,) = subject.space.decode(row[None])
                cells = subject.described(row)
                rows.append([folder.name, search, args.seed, name, *cells, spent, json.dumps(arch), machine()])
            for cells in rows:  # together: a search without all of its points would count as done
                append_row(args.out, COLUMNS, cells)


def summary(path: Path) -> None:
    """Print each point, and the hypervolume of each search: BLEU of the report split by latency saved."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read_rows(path):
        groups.setdefault((row["supernet"], row["search"]), []).append(row)
    print("| supernet | search | point | BLEU, report | BLEU, search | latency, ms | of largest | params, M |")
    print("|---|---|---|---|---|---|---|---|")
    for (supernet, search), rows in groups.items():
        full = float(groups[supernet, "largest"][0]["latency_ms"])
        values = np.array([[float(r["bleu_report"]), float(r["latency_ms"])] for r in rows])
        front = non_dominated(values, OBJECTIVES)
        for r, kept in zip(rows, front, strict=True):
            if kept or search != "linas":
                share = float(r["latency_ms"]) / full
                print(
                    f"| {supernet} | {search} | {r['point']} | {r['bleu_report']} | {r['bleu_search']} | "
                    f"{r['latency_ms']} | {share:.2f} | {r['params_m']} |"
                )
        volume = hypervolume(values[front], [0.0, full], OBJECTIVES)
        print(f"| {supernet} | {search} | hypervolume | {volume:.2f} | | | | |")


def main() -> None:
    """Search, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="runs that trained a supernet")
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--evals", type=int, default=60)
    parser.add_argument("--measured", type=int, default=100, help="latencies that HAT's predictor learns from")
    parser.add_argument("--task", help="with fewer sentences to search on, say; default: that of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/translation_search"))
    parser.add_argument("--out", type=Path, default=Path("results/translation_search.csv"))
    args = parser.parse_args()
    if args.runs:
        import torch

        torch.set_num_threads(1)
        run_jobs(args)
    summary(args.out)


if __name__ == "__main__":
    main()
