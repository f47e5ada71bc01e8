"""Picture of the fronts that an InstaTune benchmark found, on the report split.

python benchmarks/instatune_figure.py results/instatune_minilm.csv
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from instatune_jobs import binomial_error
from rows import read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "g1": "#0072b2",
    "g0": "#d55e00",
    "g1-unordered": "#009e73",
    "g1-new-head": "#cc79a7",
    "g0-new-head": "#e69f00",
}
MARKS = "os^Dv"
NAMES = {
    "g0": "InstaTune, $\\gamma$ = 0",
    "g1": "InstaTune, $\\gamma$ = 1",
    "g0-unordered": "$\\gamma$ = 0, not ordered",
    "g1-unordered": "$\\gamma$ = 1, not ordered",
    "g0-new-head": "$\\gamma$ = 0, ordered by the new head",
    "g1-new-head": "$\\gamma$ = 1, ordered by the new head",
    "g1-smallest": "$\\gamma$ = 1, with the smallest",
    "g1-smallest-new-head": "$\\gamma$ = 1, with the smallest, ordered by the new head",
    "g1-two": "$\\gamma$ = 1, two random subnets",
}
_INK, _FAINT = "#222222", "#666666"

Row = dict[str, str]


def fronts(rows: list[Row]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return (way, seed) -> share of the multiply-accumulates and accuracy on the report split, cheapest first."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row["point"] == "front":
            key = (row["way"], row["seed"])
            found.setdefault(key, []).append((100 * float(row["share"]), float(row["report"])))
    return {key: sorted(points) for key, points in found.items()}


def draw(rows: list[Row], trained: list[Row], tuned: list[Row], title: str, report_size: int) -> Figure:
    """Return the picture as a matplotlib figure that belongs to no global state.

    Args:
        rows: What was found.
        trained: The trainings.
        tuned: Subnets that were trained on alone.
        title: Above the picture.
        report_size: Examples of the report split.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_plain(axes, rows, [float(r["report"]) for r in trained if r["way"] == "plain"], report_size)
    for (way, seed), points in fronts(rows).items():
        if way == "plain":
            continue
        share, accuracy = zip(*points, strict=True)
        number = int(seed) % len(MARKS)
        axes.plot(
            share, accuracy, MARKS[number], ls="-", lw=1, ms=4.5, color=COLOURS.get(way, _FAINT), alpha=0.9,
            label=f"{NAMES.get(way, way)}, seed {seed}",
        )  # fmt: skip
    if tuned:
        share, accuracy = zip(*[(100 * float(r["share"]), float(r["report"])) for r in tuned], strict=True)
        axes.plot(share, accuracy, "*", ms=12, color="#d55e00", mec=_INK, label="chosen subnets, trained on alone")
    axes.set_xlabel("multiply-accumulates, % of the whole network", color=_INK)
    axes.set_ylabel("accuracy on the report split, %", color=_INK)
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", lw=0.8)
    axes.set_axisbelow(True)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return figure


def _draw_plain(axes: Axes, rows: list[Row], whole: list[float], report_size: int) -> None:
    """Draw the plain fine-tune of all seeds, and the chosen architectures cut from it."""
    if whole:
        mean = statistics.mean(whole)
        error = binomial_error(mean, report_size)
        axes.axhspan(mean - error, mean + error, color="#dddddd", lw=0, alpha=0.6)
        axes.axhline(mean, color=_FAINT, lw=1, ls="--", label="plain fine-tuning, whole (± standard error)")
    cut = [
        (100 * float(r["share"]), float(r["plain_report"]))
        for r in rows
        if r["plain_report"] and r["point"] != "largest"
    ]
    if cut:
        share, accuracy = zip(*cut, strict=True)
        axes.plot(share, accuracy, "x", ms=6, color=_INK, label="the chosen subnets, cut from the plain fine-tune")


def main() -> None:
    """Draw the picture beside the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--title", default="MiniLM-L6 on SST-2: subnets chosen on the search split")
    parser.add_argument("--report-size", type=int, default=1821, help="examples of the report split")
    args = parser.parse_args()
    trained = read_rows(args.table.with_stem(f"{args.table.stem}_training"))
    tuned = read_rows(args.table.with_stem(f"{args.table.stem}_finetune"))
    figure = draw(read_rows(args.table), trained, tuned, args.title, args.report_size)
    figure.savefig(args.table.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
