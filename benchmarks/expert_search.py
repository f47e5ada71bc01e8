"""Searches for expert configurations at memory budgets, beside every baseline at equal evaluations.

    python benchmarks/moe_train.py --data DIR --out FOLDER
    python benchmarks/expert_search.py --model FOLDER/model --data DIR --jobs all:0 all:1 all:2 python:0 python:1

A budget of 25 or 50 % removes that share of the memory of routers and experts. All methods see the KL divergence to the
full model on the search split, and none the report split, on which the best network of each within the budget is
scored: the difference of its negative log-likelihood to the full model's, block by block. Methods:

- ``uniform:CRITERION:OPERATOR``: the same number of experts in each layer, as published; one evaluation each.
- ``searched``: `probed-linas` over the whole space, which is told the uniform ones.
- ``linas``: the same without probes of single layers.
- ``evoesap``: counts of experts per layer evolve; experts are dropped in the order of the best uniform criterion.
- ``additive-mip``: alternatives of single layers, with that criterion, and an integer program; over the whole space.
- ``additive-counts``: the same over counts of experts alone.
- ``front``: ``searched`` without a budget, for divergence and size; all its non-dominated networks are scored.

The uniform networks are known to all: the others have their criterion from them, and each may end with one of them.
Each search has ``--budget`` evaluations of its own beside them, in batches of five.

One row per job, budget and method in ``--out``; a stopped job goes on where it was, within a search, too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from expert_jobs import ALL, Scores, expert_mb, limit_mb, open_job
from moe_texts import DOMAINS
from numpy.typing import NDArray
from rows import append_row, machine, read_rows

from nassearch.objectives import Objective
from nassearch.pareto import non_dominated
from nassearch.strategies import make_strategy
from supernets.experts import list_criteria

REMOVED = (0.25, 0.5)
METHODS = ("searched", "linas", "evoesap", "additive-mip", "additive-counts")
OPERATORS = ["drop", "m-smoe", "hc-smoe", "ream", "dern", "mone"]
SINGLE = 0.75  # of the additive methods' evaluations for single layers: all counts of all layers are scored
BATCH = 5
COLUMNS = [
    "domain", "seed", "removed", "method", "evaluations", "size_mb", "expert_share", "kl_search", "esap_search", "nll",
    "delta_nll", "block_error", "cpu_s", "arch", "machine",
]  # fmt: skip
Rows = NDArray[np.int64]


def uniform_rows(net: Any, removed: float | None) -> tuple[list[str], Rows]:
    """Return names and rows of the published methods: each criterion with dropping, each operator in the order of REAP.

    Beside them: narrower experts in all layers, for which no criterion matters.

    Args:
        net: The supernet.
        removed: Share of the experts that goes; without it all sizes.
    """
    choices = net.choices
    full = net.space.decode(net.space.largest[None])[0]
    keeps = [k for k in choices.keep if k < max(choices.keep)]
    if removed is not None:
        keeps = [round((1 - removed) * max(choices.keep))]
    pairs = [(c, "drop") for c in choices.criteria] + [("reap", o) for o in choices.operators if o != "drop"]
    found: dict[str, dict[str, Any]] = {}
    for keep in keeps:
        for criterion, operator in pairs:
            arch = {**full, "criterion": criterion}
            for slot in range(len(net.blocks)):
                arch |= {f"keep.{slot}": keep, f"op.{slot}": operator}
            found[f"uniform:{criterion}:{operator}" + ("" if removed else f":{keep}")] = arch
    for width in choices.width:
        if width < max(choices.width) and (removed is None or width == round((1 - removed) * max(choices.width))):
            narrow = {f"width.{slot}": width for slot in range(len(net.blocks))}
            found["uniform:width" + ("" if removed else f":{width}")] = {**full, **narrow}
    return list(found), net.space.canonical(net.space.encode(list(found.values())))


def search(
    scores: Scores, name: str, objectives: Sequence[str], limit: float | None, seed: int, budget: int,
    first: Rows | None, **options: Any,
) -> tuple[Rows, NDArray[np.float64]]:  # fmt: skip
    """Return the networks that a strategy asked and their divergence.

    Args:
        scores: Of the job.
        name: Of the strategy.
        objectives: What to minimise: ``kl``, or it and ``size_mb``.
        limit: Of the size, in 1e6 bytes.
        seed: Of the strategy.
        budget: Evaluations beside those of ``first``.
        first: Networks that are told before anything is asked.
        **options: Of the strategy.
    """
    net = scores.net
    made = make_strategy(
        name, net.space, objectives=[f"{o}:min" for o in objectives], seed=seed, analytic=net.analytic,
        constraints=[] if limit is None else [f"size_mb <= {limit!r}"], budget=budget, **options,
    )  # fmt: skip

    def tell(G: Rows) -> list[float]:
        kl = divergences(scores, G)
        columns = {"kl": kl, "size_mb": net.analytic(G)["size_mb"]}
        made.tell(G, np.column_stack([columns[o] for o in objectives]))
        return kl.tolist()

    if first is not None:
        tell(first)
    rows: list[Rows] = []
    seen: list[float] = []
    while len(seen) < budget and len(G := made.ask(min(BATCH, budget - len(seen)))):
        rows.append(G)
        seen += tell(G)
        print(f"{scores.path.stem} {name} {len(seen)}/{budget} best {min(seen):.4f}", flush=True)
    return np.concatenate(rows), np.array(seen)


def divergences(scores: Scores, G: Rows) -> NDArray[np.float64]:
    """Return the divergence of networks from the full model on the search split, nats, float64 ``[n]``."""
    return np.array([scores.fidelity(arch)[0] for arch in scores.net.space.decode(G)])


def best_within(kl: NDArray[np.float64], sizes: NDArray[np.float64], limit: float) -> int | None:
    """Return the number of the network of least divergence within a limit; None where none is."""
    allowed = np.flatnonzero(sizes <= limit)
    return int(allowed[np.argmin(kl[allowed])]) if len(allowed) else None


class Job:
    """All methods on one domain with one seed.

    Args:
        domain: One of the domains, or all.
        seed: Of blocks and strategies.
        args: Of the command line.
        **choices: Of `supernets.convert`. Default: criteria and operators of the command line.
    """

    def __init__(self, domain: str, seed: int, args: argparse.Namespace, **choices: Any) -> None:
        self.domain, self.seed, self.args = domain, seed, args
        self.done = {
            (r["removed"], r["method"]) for r in read_rows(args.out) if (r["domain"], r["seed"]) == (domain, str(seed))
        }
        given = {"criteria": args.criteria, "operators": args.operators}
        self.scores = open_job(args, domain, seed, **{**given, **choices})
        self.base = self.scores.losses(self.scores.full)

    def missing(self, removed: str, method: str) -> bool:
        """Return whether a method has no row yet."""
        return (removed, method) not in self.done

    def write(self, removed: str, method: str, row: Rows, evaluations: int, began: float) -> None:
        """Score a network on the report split and append its row."""
        net, scores = self.scores.net, self.scores
        (arch,) = net.space.decode(row[None])
        kl, esap = scores.fidelity(arch)
        losses = scores.losses(arch)
        change = losses - self.base
        share = expert_mb(net, row[None])[0] / expert_mb(net, net.space.largest[None])[0]
        figures = [kl, esap, losses.mean(), change.mean(), change.std(ddof=1) / np.sqrt(len(change))]
        append_row(self.args.out, COLUMNS, [
            self.domain, self.seed, removed, method, evaluations, f"{net.analytic(row[None])['size_mb'][0]:.4f}",
            f"{share:.4f}", *(f"{f:.5f}" for f in figures), f"{time.process_time() - began:.0f}", json.dumps(arch),
            machine(),
        ])  # fmt: skip
        print(f"{self.domain}-{self.seed} {removed} {method} delta {change.mean():.4f}", flush=True)

    def at_budget(self, removed: float) -> None:
        """Run all methods at one budget."""
        net, scores, args, label = self.scores.net, self.scores, self.args, str(removed)
        names, uniform = uniform_rows(net, removed)
        limit = limit_mb(net, removed)
        kl = divergences(scores, uniform)
        for name, row in zip(names, uniform, strict=True):
            if self.missing(label, name):
                self.write(label, name, row, 1, time.process_time())
        dropping = [i for i, n in enumerate(names) if n.endswith(":drop")]
        criterion = names[min(dropping, key=lambda i: kl[i])].split(":")[1]
        counts = {"criterion": criterion, "op": "drop", "width": "largest"}
        methods: dict[str, tuple[str, Rows | None, dict[str, Any]]] = {
            "searched": ("probed-linas", uniform, {}),
            "linas": ("linas", uniform, {"landmarks": False}),
            "evoesap": ("evoesap", None, {"role": "experts", "fixed": counts}),
            "additive-mip": ("additive-mip", None, {"fixed": {"criterion": criterion}, "share": SINGLE}),
            "additive-counts": ("additive-mip", None, {"fixed": counts, "share": SINGLE}),
        }
        for method in args.methods:
            if method in methods and self.missing(label, method):
                began = time.process_time()
                strategy, first, options = methods[method]
                G, found = search(scores, strategy, ["kl"], limit, self.seed, args.budget, first, **options)
                own = len(G)
                # All may end with a uniform network: all know them.
                G, found = np.concatenate([G, uniform]), np.concatenate([found, kl])
                best = best_within(found, net.analytic(G)["size_mb"], limit)
                if best is None:
                    print(f"{self.domain}-{self.seed} {label} {method}: none of {len(G)} is within the budget")
                else:
                    self.write(label, method, G[best], own, began)

    def front(self) -> None:
        """Search divergence against size, and score the front and uniform networks of all sizes."""
        net, scores = self.scores.net, self.scores
        names, uniform = uniform_rows(net, None)
        for name, row in zip(names, uniform, strict=True):
            if self.missing("", name) and name.split(":")[2] in ("drop", *(map(str, net.choices.width))):
                self.write("", name, row, 1, time.process_time())
        if not self.missing("", "front"):
            return
        began = time.process_time()
        halves = np.concatenate([uniform_rows(net, r)[1] for r in REMOVED])
        G, kl = search(scores, "linas", ["kl", "size_mb"], None, self.seed, self.args.front, halves)
        evaluations = len(G)
        G, kl = np.concatenate([halves, G]), np.concatenate([divergences(self.scores, halves), kl])
        values = np.column_stack([kl, net.analytic(G)["size_mb"]])
        best = np.flatnonzero(non_dominated(values, [Objective.parse("kl:min"), Objective.parse("size_mb:min")]))
        for i in best[np.argsort(values[best, 1])]:
            if expert_mb(net, G[i][None])[0] >= 0.2 * expert_mb(net, net.space.largest[None])[0]:
                self.write("", "front", G[i], evaluations, began)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", required=True, metavar="DOMAIN:SEED", help=f"{ALL}, {', '.join(DOMAINS)}")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--removed", nargs="+", type=float, default=list(REMOVED))
    parser.add_argument("--budget", type=int, default=60, help="evaluations of each search")
    parser.add_argument("--front", type=int, default=0, help="evaluations of the search without a budget; 0: none")
    parser.add_argument("--criteria", nargs="+", default=list_criteria())
    parser.add_argument("--operators", nargs="+", default=OPERATORS)
    parser.add_argument("--out", type=Path, default=Path("results/expert_search.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/experts"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for text in args.jobs:
        domain, _, seed = text.partition(":")
        job = Job(domain, int(seed), args)
        for removed in args.removed:
            job.at_budget(removed)
        if args.front:
            job.front()


if __name__ == "__main__":
    main()
