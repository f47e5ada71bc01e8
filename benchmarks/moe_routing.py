"""Whether the experts of the model that `moe_train` made specialise: routing by domain on the calibration text.

    python benchmarks/moe_routing.py --model FOLDER/model --data DIR

A row per layer in ``--out``: mean divergence of two domains' routing, the same of two halves of one domain's text (what
chance alone makes), and how many evenly used experts have the same entropy.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from expert_jobs import LENGTH, batches
from moe_texts import DOMAINS, read_domains, token_blocks
from numpy.typing import NDArray
from olmoe_routing import effective, frequencies, js_bits
from rows import append_row

from supernets import convert

COLUMNS = ["layer", "experts", "js_domains", "js_halves", "effective_domain", "effective_all", "dead"]


def shares(model: Any, blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each expert in the routings of each layer, float64 ``[layers, experts]``."""
    net: Any = convert(model, calibration=batches(blocks), operators=["drop"], criteria=["frequency"])
    return np.stack([frequencies(s.counts.numpy().astype(np.int64)) for s in net.statistics])


def main() -> None:
    """Run from the command line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/moe_routing.csv"))
    parser.add_argument("--blocks", type=int, default=60, help="of each domain")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    blocks = token_blocks(read_domains(args.data, 0), tokenizer, "calibration", LENGTH)
    halves = {d: [shares(model, b[i : args.blocks : 2]) for i in (0, 1)] for d, b in blocks.items()}
    whole = {d: (a + b) / 2 for d, (a, b) in halves.items()}
    args.out.unlink(missing_ok=True)
    for layer in range(len(whole[DOMAINS[0]])):
        p = {d: w[layer] for d, w in whole.items()}
        every = np.mean(list(p.values()), axis=0)
        figures = [
            float(np.mean([js_bits(p[a], p[b]) for a, b in itertools.combinations(DOMAINS, 2)])),
            float(np.mean([js_bits(a[layer], b[layer]) for a, b in halves.values()])),
            float(np.mean([effective(q) for q in p.values()])),
            effective(every),
        ]
        row = [layer, len(every), *(f"{f:.4f}" for f in figures), int((every < 0.1 / len(every)).sum())]
        append_row(args.out, COLUMNS, row)
        print(dict(zip(COLUMNS, row, strict=True)))


if __name__ == "__main__":
    main()
