"""What a search over expert configurations costs: switching, calibration, fidelity, memory.

An OLMoE with random weights. ``switch_us``: one switch of one layer, to a random configuration whose plan is known
(``first_switch_us``: made anew, merging included). ``calibration_ratio``: tokens a second of the calibration pass over
those of a plain forward of the unconverted model. ``esap_ratio``: one ESAP and KL evaluation of a random configuration
over one plain forward on the same tokens. ``bank_mb``: memory of the search beside the model, the most seen, and what
was allowed: the banks of the active configuration and ``--bank-mb``. The two of a pair alternate, so that drift of the
machine cancels; medians. With one thread CPU time is measured, which other processes do not change. One row per seed is
appended to results/expert_costs.csv; a row that is there already is not measured again.

    python benchmarks/expert_costs.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from rows import append_row, machine, read_rows
from torch import nn
from transformer_switch import paired, timed

from supernets import convert
from supernets.experts.fidelity import Reference

COLUMNS = [
    "seed", "threads", "layers", "hidden", "experts", "batch", "tokens", "pairs", "switch_us", "first_switch_us",
    "plain_tokens_s", "calibration_ratio", "esap_ratio", "model_mb", "bank_mb", "allowed_mb", "machine",
]  # fmt: skip
KEYS = COLUMNS[:8]


def make_model(layers: int, hidden: int, experts: int, seed: int) -> Any:
    """Return a random OLMoE of a width, with ``experts`` of half the width in each layer, 4 for a token."""
    torch.manual_seed(seed)
    config = transformers.OlmoeConfig(
        vocab_size=2048,
        hidden_size=hidden,
        intermediate_size=hidden // 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_experts=experts,
        num_experts_per_tok=4,
        max_position_embeddings=1024,
        eos_token_id=0,
        pad_token_id=None,
    )
    return transformers.OlmoeForCausalLM(config).eval()


def batches(n: int, batch: int, tokens: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Return batches of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(0, 2048, (batch, tokens), generator=generator)} for _ in range(n)]


def plain(model: nn.Module, batch: Any) -> None:
    """Run one forward pass without gradient."""
    with torch.no_grad():
        model(**batch)


def beside(net: Any) -> float:
    """Return the memory of all plans that the supernet holds, the active ones included, in 1e6 bytes."""
    plans = {id(p): p for p in (*net._planner._plans.values(), *(b.setting.plan for b in net.blocks))}
    return sum(p.n_bytes for p in plans.values()) / 1e6


def measure(args: argparse.Namespace, seed: int) -> list[float]:
    """Return the figures of a row."""
    model = make_model(args.layers, args.hidden, args.experts, seed)
    known = batches(2, args.batch, args.tokens, seed)
    net: Any = convert(model, calibration=known, bank_mb=args.bank_mb)
    archs = net.space.decode(net.space.sample(12, np.random.default_rng(seed)))
    first, again, most, allowed = [], [], 0.0, 0.0
    for arch in archs:
        first.append(timed(lambda arch=arch: net.activate(arch)))
        again += [timed(lambda arch=arch: net.activate(arch)) for _ in range(5)]
        most, allowed = max(most, beside(net)), max(allowed, net.active_bank_mb + args.bank_mb)
    net.activate(net.space.decode(net.space.largest[None])[0])
    one = known[0]
    forward_ms, calibration = paired(lambda: net._gathered([one]), lambda: plain(model, one), args.pairs)
    reference = Reference(net, [one])
    net.activate(archs[0])  # its plan is known: the evaluation is the forward pass and the comparison
    _, esap = paired(lambda: reference.compare(net, archs[0]), lambda: plain(model, one), args.pairs)
    size = sum(t.numel() * t.element_size() for t in model.parameters()) / 1e6
    figures = [
        1e3 * median(again) / args.layers,
        1e3 * median(first) / args.layers,
        1e3 * args.batch * args.tokens / forward_ms,
        1 / calibration,
        esap,
        size,
        most,
        allowed,
    ]
    return [round(v, 3) for v in figures]


def main() -> None:
    """Measure the rows that the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--bank-mb", type=float, default=16.0)
    parser.add_argument("--out", type=Path, default=Path("results/expert_costs.csv"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    done = {tuple(row[k] for k in KEYS) for row in read_rows(args.out)}
    for seed in args.seeds:
        key = [seed, args.threads, args.layers, args.hidden, args.experts, args.batch, args.tokens, args.pairs]
        if tuple(map(str, key)) in done:
            continue
        figures = measure(args, seed)
        append_row(args.out, COLUMNS, [*key, *figures, machine()])
        print(dict(zip(COLUMNS, [*key, *figures], strict=False)))


if __name__ == "__main__":
    main()
