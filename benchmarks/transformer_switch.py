"""What it costs that a Transformer is elastic: switching, training steps of the largest subnet, extracted subnets.

A BERT of MiniLM's shape (6 layers, hidden 384, 12 heads, FFN 1536) with random weights. ``activate_us``: one switch to
a random architecture. ``step_ratio``: forward and backward of the largest subnet over those of the unconverted model.
``extracted_ratio``: forward of an extracted subnet over that of a model built natively in its shape. The two of a pair
alternate, so that drift of the machine cancels; medians. With one thread CPU time is measured, which other processes
do not change. One row per seed is appended to results/transformer_switch.csv; a row that is there already is not
measured again.

    python benchmarks/transformer_switch.py --seeds 0 1 2

With ``--onnx`` the last pair alone, both converted, in ONNX Runtime with one thread; rows go to
results/transformer_onnx.csv.

    python benchmarks/transformer_switch.py --onnx --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from rows import append_row, machine, read_rows
from torch import nn

from supernets import convert

COLUMNS = [
    "seed", "threads", "batch", "tokens", "pairs", "activate_us",
    "plain_step_ms", "step_ratio", "native_ms", "extracted_ratio", "machine",
]  # fmt: skip
ONNX_COLUMNS = ["seed", "tokens", "pairs", "onnx_native_ms", "onnx_extracted_ratio", "machine"]
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def now() -> float:
    """Return the time in ms: of this process where it has one thread."""
    return 1e3 * (time.process_time() if torch.get_num_threads() == 1 else time.perf_counter())


def timed(run: Callable[[], object]) -> float:
    """Return what one call takes, in ms."""
    start = now()
    run()
    return now() - start


def paired(a: Callable[[], object], b: Callable[[], object], pairs: int) -> tuple[float, float]:
    """Return the median of ``b`` in ms and that of the ratios a / b of neighbours in time."""
    a(), b()
    times = []
    for i in range(pairs):
        order = (a, b) if i % 2 == 0 else (b, a)
        first, second = timed(order[0]), timed(order[1])
        times.append((first, second) if i % 2 == 0 else (second, first))
    return median(y for _, y in times), median(x / y for x, y in times)


def step(module: nn.Module, inputs: Any) -> None:
    """Run one forward and backward pass."""
    module.zero_grad(set_to_none=True)
    module(**inputs, labels=torch.zeros(len(inputs["input_ids"]), dtype=torch.long)).loss.backward()


def twins(net: Any) -> tuple[nn.Module, nn.Module]:
    """Return a subnet that is extracted, and a model built natively in its shape."""
    depth, ffn = 4, 1024
    heads = {f"heads.{i}": 12 for i in range(6)}
    small = net.eval().extract({**net.active, "depth": depth, **heads, **{f"ffn.{i}": ffn for i in range(6)}})
    config = transformers.BertConfig(**{**MINILM, "num_hidden_layers": depth, "intermediate_size": ffn})
    return small, transformers.BertForSequenceClassification(config).eval()


def measure_onnx(seed: int, tokens: int, pairs: int) -> list[float]:
    """Return the native model's time in ONNX Runtime, in ms, and the ratio of the extracted one's to it."""
    import onnxruntime

    from predictors.backends.onnx_export import export_onnx

    torch.manual_seed(seed)
    net: Any = convert(transformers.BertForSequenceClassification(transformers.BertConfig(**MINILM)), sequence=tokens)
    inputs = net.example_inputs(batch_size=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    runs = []
    for module in twins(net):
        data = export_onnx(module, inputs).SerializeToString()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        runs.append(session)
    feeds = {name: t.numpy() for name, t in inputs.items()}
    native_ms, ratio = paired(lambda: runs[0].run(None, feeds), lambda: runs[1].run(None, feeds), pairs)
    return [round(native_ms, 4), round(ratio, 4)]


def measure(seed: int, batch: int, tokens: int, pairs: int) -> list[float]:
    """Return the figures of a row."""
    torch.manual_seed(seed)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**MINILM))
    net: Any = convert(model, sequence=tokens)
    inputs = net.example_inputs(batch_size=batch)
    rows = net.space.decode(net.space.sample(200, np.random.default_rng(seed)))
    activate_us = 1e3 * median(timed(lambda arch=arch: net.activate(arch)) for arch in rows)
    net.activate(net.space.decode(net.space.largest[None])[0])
    net.train(), model.train()
    plain, ratio = paired(lambda: step(net, inputs), lambda: step(model, inputs), pairs)
    small, native = twins(net)
    with torch.inference_mode():
        one = net.example_inputs(batch_size=1)
        native_ms, extracted = paired(lambda: small(**one), lambda: native(**one), 10 * pairs)
    return [round(v, 4) for v in (activate_us, plain, ratio, native_ms, extracted)]


def main_onnx(args: argparse.Namespace) -> None:
    """Measure the rows that the table of ONNX Runtime lacks."""
    done = {tuple(row[k] for k in ONNX_COLUMNS[:3]) for row in read_rows(args.out)}
    for seed in args.seeds:
        key = [seed, args.tokens, args.pairs]
        if tuple(map(str, key)) not in done:
            figures = measure_onnx(seed, args.tokens, args.pairs)
            append_row(args.out, ONNX_COLUMNS, [*key, *figures, machine()])
            print(dict(zip(ONNX_COLUMNS, [*key, *figures], strict=False)))


def main() -> None:
    """Measure the rows that the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.out = args.out or Path("results") / ("transformer_onnx.csv" if args.onnx else "transformer_switch.csv")
    torch.set_num_threads(args.threads)
    if args.onnx:
        main_onnx(args)
        return
    done = {tuple(row[k] for k in COLUMNS[:5]) for row in read_rows(args.out)}
    for seed in args.seeds:
        key = [seed, args.threads, args.batch, args.tokens, args.pairs]
        if tuple(map(str, key)) in done:
            continue
        figures = measure(seed, args.batch, args.tokens, args.pairs)
        append_row(args.out, COLUMNS, [*key, *figures, machine()])
        print(dict(zip(COLUMNS, [*key, *figures], strict=False)))


if __name__ == "__main__":
    main()
