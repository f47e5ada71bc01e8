"""Cost of Mixture-of-Supernets: a sandwich step with mixtures over one without, and latency after collapse.

``ratio``: a step of the mixture over one of the plain supernet, of the same subnets on the same batch, optimiser
included; the two alternate, so that drift of the machine cancels. ``collapsed``: latency of the smallest extracted
subnet of the one over the other's, likewise. Medians over steps. Rows are appended to results/mixture_overhead.csv;
a row that is there already is not measured again.

    python benchmarks/mixture_overhead.py --models hat-multi30k --batch 64 --tokens 16
    python benchmarks/mixture_overhead.py --models hat-tiny --batch 32 --tokens 16
    python benchmarks/mixture_overhead.py --models bert-mini mobilenetv3-tiny --batch 16
    python benchmarks/mixture_overhead.py --models mobilenetv3-tiny --batch 64
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rows import append_row, machine, read_rows
from torch import Tensor
from torch.nn.functional import cross_entropy

from supernets import Supernet, build, call, convert
from supernets.training import Batch, Passes, TrainSettings, make_method
from supernets.training.optimisation import make_optimizer

KEY = ["model", "mixture", "experts", "batch", "tokens", "threads", "machine"]
COLUMNS = [
    *KEY,
    "steps",
    "plain_ms",
    "mixture_ms",
    "ratio",
    "collapsed",
    "experts_m",
    "routers_m",
    "clock",
    "load_1min",
]


def bert(layers: int, width: int, mixture: dict[str, Any], sequence: int) -> Supernet:
    """Return a BERT with random weights as a supernet."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=1000,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
    )
    return convert(transformers.BertForSequenceClassification(config), sequence=sequence, **mixture)


def make(model: str, mixture: dict[str, Any], sequence: int) -> Supernet:
    """Return a supernet by name of the benchmark."""
    sizes = {"bert-mini": (4, 256), "bert-small": (4, 512), "bert-base": (12, 768)}
    if model in sizes:
        return bert(*sizes[model], mixture, sequence)
    if model == "hat-tiny":
        import tiny_translation  # noqa: F401 - which registers it
    torch.manual_seed(0)
    return build(model, **mixture)


def loss(outputs: Any, targets: Tensor) -> Tensor:
    """Return the cross-entropy of logits, ``[…, classes]``."""
    logits = getattr(outputs, "logits", outputs)
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


class Stepper:
    """One supernet and what a sandwich step of it needs."""

    def __init__(self, net: Supernet, batch: Batch) -> None:
        self.net, self.batch = net.train(), batch
        self.passes = Passes(net, loss, torch.device("cpu"))
        self.optimizer = make_optimizer(net, TrainSettings(steps=10, optimizer="adamw", lr=1e-4))

    def step(self, method: Any, subnets: list[dict[str, Any]]) -> float:
        """Run one step; return its milliseconds."""
        began = time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        self.passes.start()
        method.backward(self.batch, subnets, self.passes)
        self.optimizer.step()
        return 1e3 * (time.process_time() - began)


def collapsed_ratio(plain: Supernet, mixed: Supernet, steps: int) -> float:
    """Return the latency of an extracted subnet of the mixture over that of the plain supernet, batch 1."""
    (arch,) = plain.space.decode(plain.space.smallest[None])
    modules = [net.extract(arch).eval() for net in (plain, mixed)]
    inputs = plain.example_inputs(arch)
    ratios = []
    with torch.inference_mode():
        for number in range(max(20, 4 * steps) + 3):
            times = []
            for module in modules if number % 2 else modules[::-1]:
                began = time.process_time()
                for _ in range(5):
                    call(module, inputs)
                times.append(time.process_time() - began)
            plain_s, mixed_s = times if number % 2 else times[::-1]
            if number >= 3:
                ratios.append(mixed_s / plain_s)
    return median(ratios)


def measure(model: str, kind: str, experts: int, batch: int, tokens: int, steps: int) -> list[Any]:
    """Return the figures of one row."""
    plain, mixed = (make(model, m, tokens) for m in ({}, {"mixture": kind, "experts": experts}))
    sized: dict[str, Any] = {"sequence": tokens} if model.startswith("hat") else {}
    inputs = plain.example_inputs(batch_size=batch, **sized)
    with torch.no_grad():
        outputs = call(plain, inputs)
    *places, classes = getattr(outputs, "logits", outputs).shape
    data = Batch(inputs, torch.arange(math.prod(places)).view(places) % classes)
    method = make_method("sandwich", plain.space, total_steps=steps + 2, seed=0)
    steppers = [Stepper(net, data) for net in (plain, mixed)]
    times: list[list[float]] = [[], []]
    for number in range(steps + 2):
        subnets = method.subnets(number)
        for which in (0, 1) if number % 2 else (1, 0):
            elapsed = steppers[which].step(method, subnets)
            if number >= 2:
                times[which].append(elapsed)
    ratio = median(m / p for p, m in zip(*times, strict=True))
    extra = dict(mixed.mixture.named_parameters()) if mixed.mixture is not None else {}
    routers = sum(p.numel() for n, p in extra.items() if ".experts." not in n) / 1e6
    further = sum(p.numel() for n, p in extra.items() if ".experts." in n) / 1e6
    figures = [f"{median(t):.1f}" for t in times]
    collapsed = collapsed_ratio(plain, mixed, steps)
    return [steps, *figures, f"{ratio:.3f}", f"{collapsed:.3f}", f"{further:.3f}", f"{routers:.3f}", "process"]


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["bert-mini", "mobilenetv3-tiny"])
    parser.add_argument("--kinds", nargs="+", default=["layer", "neuron"])
    parser.add_argument("--experts", nargs="+", type=int, default=[2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--table", type=Path, default=Path("results/mixture_overhead.csv"))
    args = parser.parse_args()
    torch.set_num_threads(1)  # process time then is what the step takes
    done = {tuple(row[name] for name in KEY) for row in read_rows(args.table)}
    for model in args.models:
        for kind in args.kinds:
            for experts in args.experts:
                key = [model, kind, experts, args.batch, args.tokens, 1, machine()]
                if tuple(map(str, key)) in done:
                    continue
                figures = measure(model, kind, experts, args.batch, args.tokens, args.steps)
                append_row(args.table, COLUMNS, [*key, *figures, f"{os.getloadavg()[0]:.1f}"])
                print(model, kind, experts, *figures)


if __name__ == "__main__":
    main()
