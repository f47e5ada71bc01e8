"""What the frequency criterion says of real routing: OLMoE-1B-7B (64 experts, top-8) and Mixtral-8x7B (8, top-2).

    python benchmarks/olmoe_routing.py --data DIR/olmoe_routing

DIR/olmoe_routing/expert_counts.npz has how often each expert was chosen in layers 0, 7 and 15 for texts of several
domains. The criterion `frequency` of the space ``experts`` orders them; the script asks how far the orders of domains
agree, and how much of a domain's routing is lost with the experts that are dropped by its own order, by that of another
domain, and by that of all domains together (each with the same weight, as EASY-EP mixes them). Tables: ``--out`` (a row
per model, layer, domain and share that is kept) and ``--out``_pairs (a row per pair of domains).
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rows import append_row
from scipy.stats import spearmanr

from supernets.experts import get_criterion
from supernets.experts.statistics import LayerStatistics

LAYERS = (0, 7, 15)
MODELS = {"olmoe": 8, "mistral": 2}  # experts a token has; the counts of Mixtral go by this name
DOMAINS = ("arxiv", "book", "c4", "github", "wikipedia")
KEPT = (0.75, 0.5, 0.25)
Shares = NDArray[np.float64]

PAIRS = ["model", "layer", "domain", "other", "js_bits", "rank_correlation", "same_half"]
DROPPED = [
    "model", "layer", "domain", "kept", "effective_experts", "busiest_over_even", "lost_own", "lost_mixed",
    "lost_other_mean", "lost_other_worst", "worst_other", "lost_random",
]  # fmt: skip


def frequencies(counts: NDArray[np.int64]) -> Shares:
    """Return the scores of criterion `frequency`: the share of each expert in all routings of a layer."""
    known = LayerStatistics(len(counts), 1, 1, 0)
    known.counts.copy_(torch.from_numpy(counts))
    return get_criterion("frequency").score(None, known).numpy()  # type: ignore[arg-type]


def js_bits(p: Shares, q: Shares) -> float:
    """Return the Jensen-Shannon divergence of two distributions in bits, 0 to 1."""
    m = (p + q) / 2
    terms = [x[x > 0] * np.log2(x[x > 0] / m[x > 0]) for x in (p, q)]
    return float(sum(t.sum() for t in terms) / 2)


def best(scores: Shares, share: float) -> NDArray[np.intp]:
    """Return the experts that are kept, the most frequent first."""
    return np.argsort(-scores, kind="stable")[: round(share * len(scores))]


def lost(shares: Shares, order: Shares, share: float) -> float:
    """Return the share of a layer's routings that went to experts which another order drops."""
    return float(1 - shares[best(order, share)].sum())


def effective(p: Shares) -> float:
    """Return how many evenly used experts have the entropy of a distribution."""
    return float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()))


def write_tables(file: Path, out: Path) -> None:
    """Write both tables anew."""
    pairs = out.with_stem(f"{out.stem}_pairs")
    for table in (out, pairs):
        table.unlink(missing_ok=True)
    with np.load(file, allow_pickle=False) as data:
        for model in MODELS:
            counts = {d: data[f"{model}|expert_counts|{d}"] for d in DOMAINS}
            for slot, layer in enumerate(LAYERS):
                p = {d: frequencies(c[slot]) for d, c in counts.items()}
                _write_pairs(pairs, model, layer, p)
                _write_dropped(out, model, layer, p)


def _write_pairs(path: Path, model: str, layer: int, p: dict[str, Shares]) -> None:
    for a, b in itertools.combinations(p, 2):
        same = len(set(best(p[a], 0.5)) & set(best(p[b], 0.5))) / round(0.5 * len(p[a]))
        rank = float(spearmanr(p[a], p[b]).statistic)
        append_row(path, PAIRS, [model, layer, a, b, f"{js_bits(p[a], p[b]):.4f}", f"{rank:.3f}", f"{same:.3f}"])


def _write_dropped(path: Path, model: str, layer: int, p: dict[str, Shares]) -> None:
    mixed = np.mean(list(p.values()), axis=0)
    for domain, own in p.items():
        for share in KEPT:
            others = {d: lost(own, q, share) for d, q in p.items() if d != domain}
            worst = max(others, key=lambda d: others[d])
            row = [effective(own), own.max() * len(own), lost(own, own, share), lost(own, mixed, share)]
            row += [float(np.mean(list(others.values()))), others[worst]]
            cells = [model, layer, domain, share, *(f"{v:.4f}" for v in row), worst, f"{1 - share:.4f}"]
            append_row(path, DROPPED, cells)


def print_summary(file: Path) -> None:
    """Print means over pairs and domains, and what the choice of counts and later training change."""
    with np.load(file, allow_pickle=False) as data:
        for model, k in MODELS.items():
            for slot, layer in enumerate(LAYERS):
                p = {d: frequencies(data[f"{model}|expert_counts|{d}"][slot]) for d in DOMAINS}
                first = {d: frequencies(data[f"{model}|expert_counts_top1|{d}"][slot]) for d in DOMAINS}
                pairs = list(itertools.combinations(DOMAINS, 2))
                mixed = np.mean(list(p.values()), axis=0)
                half = {d: set(best(q, 0.5)) for d, q in p.items()}
                figures = {
                    "JS": np.mean([js_bits(p[a], p[b]) for a, b in pairs]),
                    "rank": np.mean([spearmanr(p[a], p[b]).statistic for a, b in pairs]),
                    "rank to first choice": np.mean([spearmanr(p[d], first[d]).statistic for d in DOMAINS]),
                    "effective": np.mean([effective(q) for q in p.values()]),
                    "effective, mixed": effective(mixed),
                    "busiest k": np.mean([np.sort(q)[-k:].sum() for q in p.values()]),
                    "in every half": len(set.intersection(*half.values())),
                    "in no half": len(mixed) - len(set.union(*half.values())),
                }
                for share in KEPT:
                    figures[f"lost own {share}"] = np.mean([lost(p[d], p[d], share) for d in DOMAINS])
                    figures[f"lost mixed {share}"] = np.mean([lost(p[d], mixed, share) for d in DOMAINS])
                    foreign = [lost(p[a], p[b], share) for a, b in itertools.permutations(DOMAINS, 2)]
                    figures[f"lost other {share}"] = np.mean(foreign)
                print(model, layer, {n: round(float(v), 3) for n, v in figures.items()})
        for later in ("olmoe-sft", "olmoe-dpo"):
            for slot, layer in enumerate(LAYERS):
                p, q = (frequencies(data[f"{m}|expert_counts|tulu"][slot]) for m in ("olmoe", later))
                print(later, layer, f"JS {js_bits(p, q):.4f} rank {spearmanr(p, q).statistic:.3f}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/olmoe_routing.csv"))
    args = parser.parse_args()
    write_tables(args.data / "expert_counts.npz", args.out)
    print_summary(args.data / "expert_counts.npz")


if __name__ == "__main__":
    main()
