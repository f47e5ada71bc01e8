"""Quality of the largest and the smallest subnet while training, and the supernet's own statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from supernets.base import Architecture, Inputs, Supernet, call
from supernets.training.data import TrainingData, batch_to, first_inputs
from supernets.training.distillation import logits_of

Score = Callable[[Any, Tensor], tuple[float, int]]


def top1_score(outputs: Any, targets: Tensor) -> tuple[float, int]:
    """Return the summed top-1 accuracy (0 or 100 each) and the number of targets; negative ones do not count.

    Args:
        outputs: Outputs with logits ``[..., classes]``.
        targets: Class numbers, int64 ``[...]``.
    """
    counted = targets >= 0
    right = (logits_of(outputs).argmax(-1) == targets) & counted
    return 100.0 * float(right.sum()), int(counted.sum())


def evaluate_subnet(
    net: Supernet,
    arch: Architecture,
    data: TrainingData,
    score: Score,
    *,
    device: torch.device,
    batches: int,
    calibration_batches: int,
) -> float:
    """Return the mean score of a subnet, with its own normalisation statistics; the supernet stays as it is.

    Args:
        net: The supernet.
        arch: The subnet's architecture.
        data: Where calibration and evaluation batches come from.
        score: Outputs and targets -> sum of scores and their number.
        device: Where the supernet is.
        batches: Most evaluation batches.
        calibration_batches: Most calibration batches.
    """
    modes = [(m, m.training) for m in net.modules()]
    total, count = 0.0, 0
    try:
        with net.activated(arch), torch.no_grad():
            net.recalibrate(net.fit_inputs(x, arch) for x in first_inputs(data, calibration_batches, device))
            net.eval()
            for raw in islice(data.evaluation(), batches):
                batch = batch_to(raw, device)
                value, n = score(call(net, net.fit_inputs(batch.inputs, arch)), batch.targets)
                total, count = total + value, count + n
    finally:
        for module, training in modes:
            module.training = training
    return total / count if count else float("nan")


def settle_statistics(net: Supernet, batches: Iterable[Inputs]) -> None:
    """Give the supernet itself the normalisation statistics of its largest subnet, the mean over batches.

    While training, every subnet that ran has left its traces in them.
    """
    (largest,) = net.space.decode(net.space.largest[None])
    norms = [m for m in net.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]
    net.activate(largest)
    if not norms:
        return
    modes = [(m, m.training) for m in net.modules()]
    momenta = [getattr(m, "momentum", None) for m in norms]
    try:
        net.eval()  # dropout must not shift the statistics
        for module in norms:
            module.train()
        with torch.no_grad():
            for i, inputs in enumerate(batches):
                _set_momenta(norms, [1 / (i + 1)] * len(norms))  # a running mean of equal weights
                call(net, net.fit_inputs(inputs, largest))
    finally:
        _set_momenta(norms, momenta)
        for m, training in modes:
            m.training = training


def _set_momenta(norms: list[nn.Module], momenta: Iterable[Any]) -> None:
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
