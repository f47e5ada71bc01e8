"""Order of a supernet's units by importance, before its training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from supernets.base import Inputs, Supernet
from supernets.training.data import Batch, batch_to
from supernets.training.passes import Loss


def sort_units(
    net: Supernet, batches: Iterable[Batch], loss: Loss, *, device: torch.device | str | None = None
) -> None:
    """Reorder the units of a supernet by what a loss on labelled batches says of them; see `sort_by_importance`.

    The largest subnet keeps its function. The same supernet, batches and device give the same order.

    Args:
        net: The supernet; its weights are permuted in place.
        batches: Inputs and targets.
        loss: Outputs and targets -> scalar.
        device: Where gradients are computed. Default: CUDA where there is some.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    net.to(target)
    (largest,) = net.space.decode(net.space.largest[None])
    placed = [batch_to(batch, target) for batch in batches]
    inputs = [net.fit_inputs(batch.inputs, largest) for batch in placed]
    targets = {id(given): batch.targets for given, batch in zip(inputs, placed, strict=True)}

    def measure(output: Any, given: Inputs) -> Tensor:
        return loss(output, targets[id(given)])

    with torch.random.fork_rng(devices=[]):
        net.sort_by_importance(inputs, measure)
