"""What training needs of a data set, whatever the task is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from supernets.base import Inputs, inputs_to
from supernets.training.errors import TrainingError


class Batch(NamedTuple):
    """Inputs of a model, and what its outputs are compared with.

    Attributes:
        inputs: A tuple is positional, a mapping is by keyword; tensors ``[n, ...]``.
        targets: Tensor ``[n, ...]``.
        shared: Names of inputs that all items have together, e.g. the texts of all classes ``[classes, tokens]``;
            parts of a batch keep them whole.
        counts: How many values each item brings to the mean that the loss is, ``[n]``, on the CPU: of texts the tokens
            that have a target. Default: 1 each.
    """

    inputs: Inputs
    targets: Tensor
    shared: frozenset[str] = frozenset()
    counts: Tensor | None = None

    @property
    def weight(self) -> float:
        """What the batch weighs in a mean over several."""
        return float(len(self.targets) if self.counts is None else self.counts.sum())


class TrainingData(Protocol):
    """Batches for training, for normalisation statistics and for progress reports."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that `batches` yields."""
        ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch: always the same ones for the same epoch number."""
        ...

    def calibration(self) -> Iterable[Inputs]:
        """Return inputs for normalisation statistics: always the same ones."""
        ...

    def evaluation(self) -> Iterable[Batch]:
        """Return batches on which progress is reported; no training batches."""
        ...


def training_stream(data: TrainingData, start: int) -> Iterator[Batch]:
    """Yield training batches without end, epoch after epoch, from batch number ``start`` on.

    Raises:
        TrainingError: An epoch has another number of batches than the data says; resuming would go wrong.
    """
    epoch, skipped = divmod(start, data.steps_per_epoch)
    while True:
        count = 0
        for batch in data.batches(epoch):
            if count >= skipped:
                yield batch
            count += 1
        if count != data.steps_per_epoch:
            raise TrainingError(
                f"epoch {epoch} of the training data has {count} batches but steps_per_epoch is "
                f"{data.steps_per_epoch}; they must agree"
            )
        epoch, skipped = epoch + 1, 0


def batch_to(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    return batch._replace(inputs=inputs_to(batch.inputs, device), targets=batch.targets.to(device, non_blocking=True))


def first_inputs(data: TrainingData, count: int, device: torch.device) -> Iterator[Inputs]:
    """Yield at most ``count`` calibration inputs on a device."""
    for inputs in islice(data.calibration(), count):
        yield inputs_to(inputs, device)
