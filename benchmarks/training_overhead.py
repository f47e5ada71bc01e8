"""Cost of elastic training: a sandwich step over plain steps of the same networks, and of switching subnets.

``ratio``: over a plain step, which runs the very subnets of the sandwich step, extracted as ordinary modules,
forward and backward with labels, and one optimiser step. ``ratio_same_net``: over the same passes on the
supernet, switched and fed outside the measured time. The kinds alternate, so that drift of the machine cancels;
medians over steps. Rows are appended to results/training_overhead.csv; a row that is there already is not
measured again.

    python benchmarks/training_overhead.py --threads 1 2 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supernets import Supernet, build
from supernets.base import Inputs, call
from supernets.training import Batch, Passes, TrainSettings, make_method
from supernets.training.loop import seed_step
from supernets.training.optimisation import make_optimizer

KEY = ["model", "device", "threads", "batch", "seed", "cpu", "torch"]
FIGURES = ["steps", "sandwich_ms", "plain_ms", "ratio", "supernet_passes_ms", "ratio_same_net", "activate_us"]
COLUMNS = [*KEY, *FIGURES, "activate_percent", "clock", "load_1min"]


def cpu_name() -> str:
    """Return the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.processor())


def clock_name(device: torch.device) -> str:
    """Return which clock measures: one busy thread is measured in CPU time, which other processes do not change."""
    return "process" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def clock(device: torch.device) -> float:
    """Return the time in milliseconds, when the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.process_time() if clock_name(device) == "process" else time.perf_counter())


class Bench:
    """One supernet, one batch, and the three ways to run a step's subnets that are compared."""

    def __init__(self, net: Supernet, batch: Batch, steps: int, seed: int, device: torch.device) -> None:
        self.net, self.batch, self.seed, self.device = net, batch, seed, device
        settings = TrainSettings(steps=steps, seed=seed)
        self.method = make_method("sandwich", net.space, total_steps=steps, seed=seed)
        self.passes = Passes(net, cross_entropy, device)
        self.optimizer = make_optimizer(net, settings)
        self.plain_net = net.extract(self.method.largest).train()
        self.plain_optimizer = make_optimizer(self.plain_net, settings)
        self.subnets: list[dict[str, Any]] = []
        self.modules: list[nn.Module] = []

    def prepare(self, step: int) -> None:
        """Extract the subnets of a step and run each once: kernels for new shapes are made only once."""
        self.subnets = self.method.subnets(step)
        self.modules = [self.plain_net, *(self.net.extract(a).train() for a in self.subnets[1:])]
        self.plain(step)

    def sandwich(self, step: int) -> float:
        """Time a whole step of the method, in ms."""
        began = clock(self.device)
        seed_step(self.seed, step, self.device)
        subnets = self.method.subnets(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.passes.start()
        self.method.backward(self.batch, subnets, self.passes)
        self.optimizer.step()
        return clock(self.device) - began

    def same_net(self, step: int) -> float:
        """Time the passes on the supernet with labels, without switching and resizing, in ms."""
        began = clock(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        elapsed = clock(self.device) - began
        for arch in self.subnets:
            self.net.activate(arch)
            elapsed += self._pass(self.net, self.net.fit_inputs(self.batch.inputs, arch))
        began = clock(self.device)
        self.optimizer.step()
        return elapsed + clock(self.device) - began

    def plain(self, step: int) -> float:
        """Time the passes of the subnets as ordinary modules, and one step of the largest's optimiser, in ms."""
        elapsed = 0.0
        for arch, module in zip(self.subnets, self.modules, strict=True):
            began = clock(self.device)
            module.zero_grad(set_to_none=True)
            elapsed += clock(self.device) - began
            elapsed += self._pass(module, self.net.fit_inputs(self.batch.inputs, arch))
        began = clock(self.device)
        self.plain_optimizer.step()
        return elapsed + clock(self.device) - began

    def _pass(self, module: nn.Module, inputs: Inputs) -> float:
        began = clock(self.device)
        cross_entropy(call(module, inputs), self.batch.targets).backward()
        return clock(self.device) - began

    def switching(self) -> list[float]:
        """Time each switch of the step, in microseconds."""
        times = []
        for arch in self.subnets:
            began = clock(self.device)
            self.net.activate(arch)
            times.append(1e3 * (clock(self.device) - began))
        return times


def measure(net: Supernet, batch: Batch, steps: int, seed: int, device: torch.device) -> dict[str, Any]:
    """Return the figures of one row."""
    bench = Bench(net.train(), batch, steps, seed, device)
    kinds = [bench.sandwich, bench.same_net, bench.plain]
    times: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
    switch: list[float] = []
    for step in range(steps + 2):
        bench.prepare(step)
        for kind in kinds:
            kind(step)  # not counted: caches and allocator are as the kind itself leaves them
            times[kind.__name__].append(kind(step))
        switch += bench.switching()
    sandwich, same_net, plain = (values[2:] for values in times.values())  # without the warm-up
    return {
        "steps": steps,
        "sandwich_ms": round(median(sandwich), 3),
        "plain_ms": round(median(plain), 3),
        "ratio": round(median(s / p for s, p in zip(sandwich, plain, strict=True)), 4),
        "supernet_passes_ms": round(median(same_net), 3),
        "ratio_same_net": round(median(s / p for s, p in zip(sandwich, same_net, strict=True)), 4),
        "activate_us": round(median(switch), 1),
        "activate_percent": round(100 * len(bench.subnets) * median(switch) / (1e3 * median(sandwich)), 3),
    }


def main() -> None:
    """Measure what is missing and print all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv3-tiny", help="named supernet")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="batch sizes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="PyTorch threads")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=30, help="measured steps of each kind")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    results = Path(__file__).resolve().parent.parent / "results" / "training_overhead.csv"
    parser.add_argument("--out", type=Path, default=results, help="table to append to")
    args = parser.parse_args()
    device = torch.device(args.device)
    known = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    for threads, batch_size, seed in [(t, b, s) for t in args.threads for b in args.batch for s in args.seeds]:
        name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        key = dict(
            zip(
                KEY, map(str, (args.model, name, threads, batch_size, seed, cpu_name(), torch.__version__)), strict=True
            )
        )
        if any(all(row[k] == v for k, v in key.items()) for row in known):
            continue
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        net = build(args.model, in_channels=1, num_classes=10).to(device)
        (largest,) = net.space.decode(net.space.largest[None])
        inputs = net.example_inputs(largest, batch_size)
        assert isinstance(inputs, tuple)
        batch = Batch(tuple(x.to(device) for x in inputs), torch.randint(10, (batch_size,)).to(device))
        load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else ""
        row = {**key, **measure(net, batch, args.steps, seed, device), "clock": clock_name(device)}
        row["load_1min"] = load
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        known.append({k: str(v) for k, v in row.items()})
    for row in known:
        print("  ".join(f"{c}={row[c]}" for c in COLUMNS if c not in ("cpu", "torch")))
    for figure in ("ratio", "ratio_same_net", "activate_us", "activate_percent"):
        print(f"median {figure}: {median(float(row[figure]) for row in known):.4g}")


if __name__ == "__main__":
    main()
