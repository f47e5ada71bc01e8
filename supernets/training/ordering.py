"""Order of a supernet's units by importance, before its training."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from supernets.base import Inputs, Supernet
from supernets.training.data import Batch, TrainingData, batch_to
from supernets.training.loop import train
from supernets.training.passes import Loss
from supernets.training.progress import ProgressCallback
from supernets.training.settings import TrainSettings

_PLAIN = {"alpha": 1.0, "random_subnets": 0}  # of "instatune": the largest subnet learns from labels alone


@dataclass(frozen=True)
class Rehearsal:
    """A short fine-tuning of a copy, whose units are then scored in place of the supernet's own.

    The head of a pre-trained model is new, and its gradients order units badly: on SST-2 what was cut from MiniLM lost
    .8 to 2.4 points by that against a rehearsal of 100 steps (results/README.md, InstaTune). The copy is thrown away.

    Attributes:
        data: The training data.
        steps: Optimiser steps, > 0.
        settings: Of the training that follows; its number of steps, method options and checkpoints do not count.
        progress: Called after every step.
    """

    data: TrainingData
    steps: int
    settings: TrainSettings
    progress: ProgressCallback | None = None

    def copy_of(self, net: Supernet, loss: Loss, device: torch.device) -> Supernet:
        """Return a copy of a supernet, its largest subnet fine-tuned."""
        copied = copy.deepcopy(net)
        settings = replace(self.settings, epochs=None, steps=self.steps, options=_PLAIN, evaluate_every=0)
        train(
            copied,
            self.data,
            loss,
            method="instatune",
            settings=settings,
            score=None,
            progress=self.progress,
            device=device,
        )
        copied.zero_grad(set_to_none=True)
        return copied


def rehearsal_steps(total_steps: int) -> int:
    """Return how long a rehearsal is by default: a sixth of the training, at most 200 steps."""
    return max(1, min(200, total_steps // 6))


def sort_units(
    net: Supernet,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    layers: bool = False,
    rehearsal: Rehearsal | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Reorder the units of a supernet by what a loss on labelled batches says of them; see `sort_by_importance`.

    The largest subnet keeps its function. The same supernet, batches, rehearsal and device give the same order.

    Args:
        net: The supernet; its weights are permuted in place.
        batches: Inputs and targets.
        loss: Outputs and targets -> scalar.
        layers: Whether shallow subnets keep the layers that matter most, where a family can choose them.
        rehearsal: How a copy is fine-tuned first, whose units are scored. Default: the supernet's own are, as it is.
        device: Where gradients are computed. Default: CUDA where there is some.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    net.to(target)
    (largest,) = net.space.decode(net.space.largest[None])
    with torch.random.fork_rng(devices=[]):
        judge = None if rehearsal is None else rehearsal.copy_of(net, loss, target)
        placed = [batch_to(batch, target) for batch in batches]
        inputs = [net.fit_inputs(batch.inputs, largest) for batch in placed]
        targets = {id(given): batch.targets for given, batch in zip(inputs, placed, strict=True)}

        def measure(output: Any, given: Inputs) -> Tensor:
            return loss(output, targets[id(given)])

        net.sort_by_importance(inputs, measure, layers=layers, judge=judge)
