"""Figures, tables and picture of `benchmarks/mixture_gap.py`.

Intervals are of 95 %, over resampled architectures and, where a way has two seeds or more, supernets. Two ways are
compared on the architectures and the seeds that both have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rows import read_rows

from nassearch.gap.sample import LEAST
from nassearch.gap.statistics import Estimate, agreement, estimate, line_error, ranking, resampled

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """Networks that are trained alone.

    Attributes:
        times: Steps, as a multiple of those of a supernet of way ``hat``.
        seeds: Trainings of each.
    """

    times: int
    seeds: int


PLAIN, LONG = "scratch", "scratch-3x"
SCRATCH = {PLAIN: Reference(1, 2), LONG: Reference(3, 1)}
FIGURES = {
    "mae": "MAE", "bias": "bias", "mae_without_bias": "MAE less bias", "slope": "slope", "kendall_tau": "tau",
    "tau_within": "tau, same decoder width", "regret": "regret",
}  # fmt: skip
_ERRORS, _RANKS = ("mae", "mae_without_bias", "regret"), ("kendall_tau", "tau_within")
GENES = {"encoder width": 0, "decoder width": 6, "decoder layers": 7}
"""Gene -> its place in a genotype of `hat-tiny`, whose choices are indices, the largest first."""


def scratch_columns() -> list[str]:
    """Return the columns of quality from scratch."""
    return [f"{name}_{i}" for name, reference in SCRATCH.items() for i in range(reference.seeds)]


@dataclass
class Tables:
    """What the networks are worth, in nats per token, by genotype.

    Attributes:
        params: Parameters, millions.
        scratch: Reference -> genotype -> what each of its trainings reached.
        inherited: Way -> seed -> genotype -> with the supernet's weights.
    """

    params: dict[str, float] = field(default_factory=dict)
    scratch: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {name: {} for name in SCRATCH})
    inherited: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)

    def true(self, reference: str, genotypes: Sequence[str]) -> Floats:
        """Return quality from scratch, float64 ``[n]``: the mean of as many trainings as all of the reference have.

        Trainings of one seed share first weights and the order of the data, and so a part of their error.
        """
        common = min(map(len, self.scratch[reference].values()))
        return np.array([np.mean(self.scratch[reference][g][:common]) for g in genotypes])

    def genotypes(self, reference: str, *jobs: tuple[str, int]) -> list[str]:
        """Return the architectures that all jobs and a reference have, in the reference's order."""
        return [g for g in self.scratch[reference] if all(g in self.inherited[w][s] for w, s in jobs)]


def read_tables(path: Path) -> Tables:
    """Return the rows of the table."""
    tables = Tables()
    for row in read_rows(path):
        genotype = row["genotype"]
        tables.params[genotype] = float(row["params_m"])
        for name, reference in SCRATCH.items():
            if values := [float(v) for i in range(reference.seeds) if (v := row[f"{name}_{i}"])]:
                tables.scratch[name][genotype] = values
        tables.inherited.setdefault(row["way"], {}).setdefault(int(row["seed"]), {})[genotype] = float(row["inherited"])
    return tables


@dataclass(frozen=True)
class Compared:
    """Figures of a way, or of a way less those of another.

    Attributes:
        n: Architectures.
        seeds: Of the supernets.
        figures: Name -> value and interval.
        by_seed: Name -> value of each seed.
    """

    n: int
    seeds: tuple[int, ...]
    figures: dict[str, Estimate]
    by_seed: dict[str, list[float]]


def seed_weights(n: int) -> Floats:
    """Return the weight of each of ``n`` supernets in each resample, float64 ``[RESAMPLES + 1, n]``; first the mean.

    A resampled mean of few is too narrow: its variance is (n - 1) / n of the mean's. Deviations from the mean are
    widened by the root of n / (n - 1) (Rao and Wu, 1988). One supernet says nothing of others.
    """
    counts = resampled(n, seed=1) / n
    return counts if n == 1 else 1 / n + math.sqrt(n / (n - 1)) * (counts - 1 / n)


def _by_seed(
    tables: Tables, way: str, seeds: Sequence[int], genotypes: Sequence[str], true: Floats
) -> dict[str, Floats]:
    """Return figure -> its values by seed and resample of the architectures, float64 ``[seeds, RESAMPLES + 1]``."""
    counts = resampled(len(genotypes))
    told = [np.array([tables.inherited[way][s][g] for g in genotypes]) for s in seeds]
    found = [_agreement(t, true, genotypes, counts) for t in told]
    return {name: np.stack([f[name] for f in found]) for name in FIGURES}


def _agreement(told: Floats, true: Floats, genotypes: Sequence[str], counts: Floats) -> dict[str, Floats]:
    """Return `FIGURES` for each resample: those of the library, and two that tell what they come of."""
    within = tau_within(told, true, np.array([g.split()[GENES["decoder width"]] for g in genotypes]), counts)
    return {**agreement(told, true, "min", counts), "slope": slope(told, true, counts), "tau_within": within}


def tau_within(told: Floats, true: Floats, groups: NDArray[Any], counts: Floats) -> Floats:
    """Return Kendall's tau over the pairs of one group alone, for each resample.

    Args:
        told: What a supernet says, float ``[n]``.
        true: What networks trained alone reach, float ``[n]``.
        groups: The group of each, ``[n]``.
        counts: How often each architecture counts, float ``[b, n]``.

    Returns:
        float64 ``[b]``; NaN where no group has two that differ.
    """
    x, y = np.sign(told[:, None] - told[None]), np.sign(true[:, None] - true[None])
    same = groups[:, None] == groups[None]

    def weigh(pairs: Floats) -> Floats:
        return np.asarray(((counts @ pairs) * counts).sum(1))

    untied = np.sqrt(weigh(x * x * same) * weigh(y * y * same))
    return np.asarray(np.divide(weigh(x * y * same), untied, out=np.full(len(counts), math.nan), where=untied > 0))


def effects(values: Floats, genotypes: Sequence[str]) -> dict[str, float]:
    """Return by how much the next larger choice of each of `GENES` changes quality, by least squares of all three."""
    rows = np.array([[int(i) for i in g.split()] for g in genotypes], dtype=np.float64)
    design = np.column_stack([np.ones(len(rows)), *(-rows[:, place] for place in GENES.values())])
    found = np.linalg.lstsq(design, values, rcond=None)[0]
    return dict(zip(GENES, found[1:].tolist(), strict=True))


def slope(told: Floats, true: Floats, counts: Floats) -> Floats:
    """Return by how much ``told`` rises where ``true`` rises by one, for each resample: 1 where all gaps are equal.

    Args:
        told: What a supernet says, float ``[n]``.
        true: What networks trained alone reach, float ``[n]``.
        counts: How often each architecture counts, float ``[b, n]``.

    Returns:
        float64 ``[b]``, of least squares.
    """
    share, true = counts / counts.sum(1, keepdims=True), true - true.mean()  # centred: less is lost in the differences
    spread = share @ true**2 - (share @ true) ** 2
    together = share @ (told * true) - (share @ told) * (share @ true)
    return np.asarray(np.divide(together, spread, out=np.full(len(counts), math.nan), where=spread > 0))


def _mean(values: Floats) -> Floats:
    """Return the mean over seeds in each resample of seeds, float64 ``[RESAMPLES + 1]``."""
    return np.asarray((seed_weights(len(values)).T * values).sum(0))


def of_way(tables: Tables, way: str, reference: str = PLAIN) -> Compared | None:
    """Return the figures of a way beside networks trained alone; None where too few have both."""
    seeds = tuple(sorted(tables.inherited.get(way, ())))
    genotypes = tables.genotypes(reference, *((way, s) for s in seeds)) if seeds else []
    if len(genotypes) < LEAST:
        return None
    found = _by_seed(tables, way, seeds, genotypes, tables.true(reference, genotypes))
    drawn = {name: _mean(values) for name, values in found.items()}
    for names, least, most in (_ERRORS, 0.0, np.inf), (_RANKS, -1.0, 1.0):
        for name in names:  # widened deviations may go beyond what there can be
            drawn[name] = np.clip(drawn[name], least, most)
    figures = {name: estimate(values) for name, values in drawn.items()}
    return Compared(len(genotypes), seeds, figures, {name: values[:, 0].tolist() for name, values in found.items()})


def beside(tables: Tables, way: str, base: str, reference: str = PLAIN) -> Compared | None:
    """Return the figures of a way less those of another, and ``cut``, by how many percent the MAE is less.

    On the architectures and seeds that both have. There is no ``cut`` where one way's networks are better than those
    trained alone and the other's worse: it would call a distance from zero a gap.
    """
    seeds = tuple(sorted(set(tables.inherited.get(way, ())) & set(tables.inherited.get(base, ()))))
    genotypes = tables.genotypes(reference, *((w, s) for w in (way, base) for s in seeds)) if seeds else []
    if len(genotypes) < LEAST:
        return None
    true = tables.true(reference, genotypes)
    mine, others = (_by_seed(tables, w, seeds, genotypes, true) for w in (way, base))
    difference = {name: mine[name] - others[name] for name in FIGURES}
    figures = {name: estimate(_mean(values)) for name, values in difference.items()}
    by_seed = {name: values[:, 0].tolist() for name, values in difference.items()}
    if _mean(mine["bias"])[0] * _mean(others["bias"])[0] > 0:
        figures["cut"] = estimate(100 * (1 - _mean(mine["mae"]) / _mean(others["mae"])))
        by_seed["cut"] = (100 * (1 - mine["mae"][:, 0] / others["mae"][:, 0])).tolist()
    return Compared(len(genotypes), seeds, figures, by_seed)


def of_parameters(tables: Tables, reference: str = PLAIN) -> Compared | None:
    """Return what the number of parameters tells: its ranking, and the error of a line through the other networks."""
    genotypes = tables.genotypes(reference)
    if len(genotypes) < LEAST:
        return None
    params, true = np.array([tables.params[g] for g in genotypes]), tables.true(reference, genotypes)
    counts = resampled(len(genotypes))
    error = (counts / counts.sum(1, keepdims=True)) @ np.abs(line_error(params, true))
    drawn = {"mae_without_bias": error, **ranking(-params, true, "min", counts)}
    return Compared(len(genotypes), (), {name: estimate(values) for name, values in drawn.items()}, {})


def of_scratch(tables: Tables, reference: str = PLAIN) -> Compared | None:
    """Return what a second training of the same networks says of the first."""
    twice = {g: values for g, values in tables.scratch[reference].items() if len(values) > 1}
    if len(twice) < LEAST:
        return None
    first, second = (np.array([values[i] for values in twice.values()]) for i in (0, 1))
    counts = resampled(len(twice))
    found = _agreement(second, first, list(twice), counts)
    return Compared(len(twice), (), {name: estimate(found[name]) for name in FIGURES}, {})


# -- for readers -------------------------------------------------------------------------------------


def print_tables(tables: Tables, bases: Sequence[str]) -> None:
    """Print the figures as Markdown: of each way beside each length of training alone, and less those of others."""
    for reference, (times, _) in SCRATCH.items():
        if len(tables.scratch[reference]) < LEAST:
            continue
        print(f"\nBeside networks trained alone for {times} x the steps of hat ({reference}):\n")
        rows = {way: of_way(tables, way, reference) for way in tables.inherited}
        rows |= {"parameters": of_parameters(tables, reference), f"{reference} again": of_scratch(tables, reference)}
        _print(["way", "n", "seeds", *FIGURES.values()], rows, list(FIGURES))
        for number, base in enumerate(b for b in bases if b in tables.inherited):
            print(f"\nLess the figures of {base}, on the architectures and seeds that both have:\n")
            ways = [w for w in tables.inherited if w not in bases[: number + 1]]
            others = {way: beside(tables, way, base, reference) for way in ways}
            _print(
                ["way", "n", "seeds", "MAE cut, %", "MAE less bias", "tau", FIGURES["tau_within"]], others,
                ["cut", "mae_without_bias", "kendall_tau", "tau_within"],
            )  # fmt: skip


def print_effects(tables: Tables) -> None:
    """Print what genes are worth to networks trained alone and, the mean of its seeds, with each supernet's weights."""
    print("\nBy how many nats per token the next larger choice changes quality (less is better):\n")
    print(f"| | n | {' | '.join(GENES)} |\n|---|---|{'---|' * len(GENES)}")
    for name, known in tables.scratch.items():
        if len(known) > len(GENES) + 1:
            _print_effects(name, list(known), [tables.true(name, list(known))])
            if name != PLAIN and len(known) < len(tables.scratch[PLAIN]):
                _print_effects(f"{PLAIN}, of those", list(known), [tables.true(PLAIN, list(known))])
    for way, by_seed in tables.inherited.items():
        genotypes = tables.genotypes(PLAIN, *((way, s) for s in by_seed))
        if len(genotypes) > len(GENES) + 1:
            _print_effects(way, genotypes, [np.array([told[g] for g in genotypes]) for told in by_seed.values()])


def _print_effects(name: str, genotypes: Sequence[str], values: Sequence[Floats]) -> None:
    found = [effects(v, genotypes) for v in values]
    cells = [f"{np.mean([f[gene] for f in found]):+.3f}" for gene in GENES]
    print(f"| {name} | {len(genotypes)} | {' | '.join(cells)} |")


def _print(header: Sequence[str], rows: Mapping[str, Compared | None], names: Sequence[str]) -> None:
    print(f"| {' | '.join(header)} |")
    print("|" + "---|" * len(header))
    for way, row in rows.items():
        if row is not None:
            cells = [cell(row, name, 1 if name == "cut" else 3) for name in names]
            print(f"| {way} | {row.n} | {' '.join(map(str, row.seeds))} | {' | '.join(cells)} |")


def cell(row: Compared, name: str, digits: int) -> str:
    """Return a figure, its interval, and the value of each seed where there are several."""
    if name not in row.figures:
        return ""
    found = row.figures[name]
    text = f"{found.value:.{digits}f} ({found.low:.{digits}f}, {found.high:.{digits}f})"
    each = row.by_seed.get(name, [])
    return text + (f" [{', '.join(f'{v:.{digits}f}' for v in each)}]" if len(each) > 1 else "")


def draw(tables: Tables, ways: Sequence[str], out: Path, reference: str = PLAIN) -> None:
    """Draw inherited against from-scratch quality, a panel for each way."""
    from matplotlib.figure import Figure

    shown = [w for w in ways if w in tables.inherited]
    figure = Figure(figsize=(2.4 * len(shown) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    every = tables.true(reference, tables.genotypes(reference))
    for panel, way in zip(panels, shown, strict=True):
        panel.plot([every.min(), every.max()], [every.min(), every.max()], color="0.4", linewidth=1, label="no gap")
        for number, (seed, told) in enumerate(sorted(tables.inherited[way].items())):
            genotypes = tables.genotypes(reference, (way, seed))
            for wide in (True, False):
                some = [g for g in genotypes if (g.split()[GENES["decoder width"]] == "0") == wide]
                panel.plot(
                    tables.true(reference, some), [told[g] for g in some], "o^s"[number % 3], color=f"C{number}",
                    markersize=4.5, markerfacecolor=f"C{number}" if wide else "none",
                    label=f"seed {seed}, decoder {'wide' if wide else 'narrow'}",
                )  # fmt: skip
        panel.set_title(way, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("trained alone, nats per token", fontsize=10)
    panels[0].set_ylabel("in the supernet, nats per token")
    handles, labels = max((p.get_legend_handles_labels() for p in panels), key=lambda found: len(found[1]))
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=len(labels))
    figure.savefig(out, dpi=150)
