"""Draw the rise of the loss against expert memory, and compare methods, from what `expert_search` wrote.

python benchmarks/expert_figure.py results/expert_search.csv --work runs/experts
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from expert_jobs import scores_path
from numpy.typing import NDArray
from rows import read_rows

Row = dict[str, str]
MARKS = {"searched": "*", "evoesap": "s", "additive-mip": "D", "additive-counts": "^"}
COLOURS = [f"C{i}" for i in range(10) if i != 3] + ["k", "gold", "navy", "lime", "teal", "plum", "tan", "brown"]
NAMES = {"searched": "searched", "evoesap": "counts only (EvoESAP)", "additive-mip": "additive MIP",
         "additive-counts": "additive MIP, counts only"}  # fmt: skip


def curves(rows: Sequence[Row], domain: str) -> dict[str, list[tuple[float, float]]]:
    """Return name -> (share of the expert memory, rise) by size, means over seeds: the front, and uniform networks.

    A uniform network's name is its criterion or, where its experts are not simply dropped, its operator.
    """
    found: dict[str, dict[float, list[float]]] = {}
    for r in rows:
        method, *rest = r["method"].split(":")
        if r["domain"] != domain or method not in ("front", "uniform"):
            continue
        dropped = len(rest) < 2 or rest[1] == "drop" or rest[0] == "width"
        name = "front" if method == "front" else rest[0] if dropped else f"{rest[1]} (operator)"
        found.setdefault(name, {}).setdefault(float(r["expert_share"]), []).append(float(r["delta_nll"]))
    return {n: sorted((share, float(np.mean(v))) for share, v in points.items()) for n, points in found.items()}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture: a panel per domain."""
    from matplotlib.figure import Figure

    domains = list(dict.fromkeys(r["domain"] for r in rows))
    figure = Figure(figsize=(8.4 * len(domains), 5.2), layout="constrained")
    for number, domain in enumerate(domains, start=1):
        axes = figure.add_subplot(1, len(domains), number)
        for at, (name, points) in enumerate(curves(rows, domain).items()):
            color = COLOURS[at % len(COLOURS)]
            style = (
                {"color": "C3", "lw": 2, "zorder": 3} if name == "front" else {"color": color, "lw": 0.8, "ls": "--"}
            )
            label = "searched front" if name == "front" else f"uniform, {name}"
            axes.plot(*zip(*points, strict=True), label=label, marker=".", **style)
        for method, mark in MARKS.items():
            own = [r for r in rows if (r["domain"], r["method"]) == (domain, method)]
            for at, removed in enumerate(sorted({r["removed"] for r in own})):
                rises = np.array([float(r["delta_nll"]) for r in own if r["removed"] == removed])
                error = rises.std(ddof=1) / np.sqrt(len(rises)) if len(rises) > 1 else 0.0
                axes.errorbar(
                    1 - float(removed), rises.mean(), error, fmt=mark, ms=11 if mark == "*" else 6, capsize=3,
                    color={"*": "C3", "s": "k", "D": "C0", "^": "C2"}[mark], zorder=4,
                    label=None if at else f"{NAMES[method]} at a budget",
                )  # fmt: skip
        axes.set(xlabel="share of the expert memory that is left", ylabel="rise of the loss on the report split, nats")
        axes.set_title(f"domain: {domain}")
        axes.set_yscale("symlog", linthresh=0.01)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)


def block_losses(work: Path, row: Row) -> NDArray[np.float64] | None:
    """Return the report loss of each block of a row's network; None where the scores are gone."""
    arch = json.dumps(json.loads(row["arch"]))
    kept = read_rows(scores_path(work, row["domain"], row["seed"]))
    found = next((r["values"] for r in kept if (r["split"], r["arch"]) == ("report", arch)), None)
    return None if found is None else np.array([float(v) for v in found.split()])


def compare(rows: Sequence[Row], work: Path) -> None:
    """Print for each budget the rise of each method, and its distance to the searched network.

    The standard error of a distance is the greater of that over seeds and that over blocks of the text.
    """
    for domain, removed in dict.fromkeys((r["domain"], r["removed"]) for r in rows if r["removed"]):
        own = [r for r in rows if (r["domain"], r["removed"]) == (domain, removed)]
        searched = {r["seed"]: r for r in own if r["method"] == "searched"}
        for method in dict.fromkeys(r["method"] for r in own):
            mine = {r["seed"]: r for r in own if r["method"] == method}
            rises = np.array([float(r["delta_nll"]) for r in mine.values()])
            both = sorted(set(mine) & set(searched))
            pairs = [(block_losses(work, mine[s]), block_losses(work, searched[s])) for s in both]
            gaps = np.array([a - b for a, b in pairs if a is not None and b is not None])
            line = (
                f"{domain} -{removed} {method}: {rises.mean():.4f} ({rises.min():.4f}-{rises.max():.4f}, {len(mine)})"
            )
            if len(gaps):
                over_blocks = gaps.mean(0).std(ddof=1) / np.sqrt(gaps.shape[1])
                over_seeds = gaps.mean(1).std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
                line += f"; over searched {gaps.mean():+.4f} ± {max(over_blocks, over_seeds):.4f}"
            print(line)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/experts"))
    args = parser.parse_args()
    rows = read_rows(args.table)
    draw(rows, args.table.with_suffix(".png"))
    compare(rows, args.work)


if __name__ == "__main__":
    main()
