"""What classification tasks share, whatever it is that they classify."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nassearch.errors import ConfigError
from nassearch.tasks.base import Batch, Inputs, Split, Task
from nassearch.tasks.metrics import Tally
from nassearch.tasks.splits import SPLITS, Splits, part_of


class Classification(Task):
    """Items with one class each. A subclass sets the attributes and says what the inputs of items are.

    Attributes:
        labels: int64 ``[n]`` class of each item.
        splits: Split name -> numbers of items.
        class_names: Name of each class.
        label_smoothing: Of the training loss.
        details: More for `describe`.
        tally: Makes what counts right answers: the metrics are what it returns.
        shared_inputs: Names of inputs that all items of a batch have together.
    """

    labels: NDArray[np.int64]
    splits: Splits
    class_names: list[str]
    label_smoothing: float
    details: dict[str, Any]
    tally: Callable[[], Tally]
    shared_inputs: frozenset[str] = frozenset()

    @abstractmethod
    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """Return the inputs of some items."""

    def size(self, split: Split) -> int:
        """Return the number of items in a split."""
        return len(self.rows(split))

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the numbers of a split's items, int64.

        Raises:
            ConfigError: There is no such split.
        """
        return part_of(self.splits, split)

    def describe(self) -> dict[str, Any]:
        """Return source, sizes and classes as JSON values."""
        return {
            **self.identity(),
            "n_classes": len(self.class_names),
            "classes": self.class_names[:1000],
            "metrics": dict(self.metrics),
            "label_smoothing": self.label_smoothing,
        }

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return some items as a batch."""
        return Batch(self.inputs(rows), torch.from_numpy(self.labels[rows]), self.shared_inputs)

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split in its fixed order, without augmentation; the last batch may be smaller."""
        return map(self.batch, chunks(self.rows(split), batch_size))

    def calibration_inputs(self, batch_size: int, n_images: int | None = None) -> list[Inputs]:
        """Return inputs of the first ``n_images`` items of the calibration split (default and at most: all of it)."""
        return [self.inputs(rows) for rows in chunks(self.splits["calibration"][:n_images], batch_size)]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, with label smoothing if asked for."""
        return nn.functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return every metric of one batch."""
        tally = self.tally()
        tally.add(outputs, targets)
        return tally.result()

    def evaluate(
        self,
        forward: Callable[[Inputs], Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return every metric of a whole split, see the base class."""
        tally = self.tally()
        with torch.inference_mode():
            for batch in self.batches(split, batch_size):
                tally.add(forward(batch.inputs if adapt is None else adapt(batch.inputs)), batch.targets)
        return tally.result()

    def shared_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what all classification tasks have in their payload: JSON settings and arrays."""
        settings = {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "class_names": self.class_names,
            "label_smoothing": self.label_smoothing,
            "details": self.details,
        }
        return settings, {"labels": self.labels} | {f"split.{name}": self.splits[name] for name in SPLITS}


def shared_arguments(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the arguments of a task that `Classification.shared_payload` told."""
    keys = ("spec", "seed", "class_names", "label_smoothing", "details")
    splits = {name: arrays[f"split.{name}"] for name in SPLITS}
    return {"name": settings["task"], "labels": arrays["labels"], "splits": splits} | {k: settings[k] for k in keys}


def chunks(rows: NDArray[Any], size: int) -> Iterable[NDArray[Any]]:
    """Return consecutive parts of at most ``size``.

    Raises:
        ConfigError: The size is less than 1.
    """
    size = at_least_one(size)
    return (rows[start : start + size] for start in range(0, len(rows), size))


def at_least_one(batch_size: int) -> int:
    """Return the size.

    Raises:
        ConfigError: It is less than 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; give at least 1")
    return batch_size
