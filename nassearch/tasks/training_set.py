"""The train split of an image task for one training run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from nassearch.tasks.base import Batch, Inputs
from nassearch.tasks.prefetch import ahead

if TYPE_CHECKING:
    from nassearch.tasks.classification import ImageClassification


class ImageTrainingSet:
    """Shuffled, augmented batches; those of an epoch depend on (seed, epoch) alone, so a resumed run sees the same.

    The last, incomplete batch of an epoch is left out: its normalisation statistics would be noisy.

    Args:
        task: Whose train split.
        batch_size: Images of a batch.
        seed: Seed of order and augmentation.
    """

    def __init__(self, task: ImageClassification, batch_size: int, seed: int) -> None:
        self.task = task
        self.batch_size = min(batch_size, task.size("train"))
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return self.task.size("train") // self.batch_size

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, numbered from 0."""
        order = np.argsort(self._rng(epoch, 0).random(self.task.size("train")), kind="stable")
        size = self.batch_size
        made = (
            self._batch(order[step * size : (step + 1) * size], self._rng(epoch, step + 1))
            for step in range(self.steps_per_epoch)
        )
        return ahead(made) if self.task.source.streams else made

    def _rng(self, epoch: int, part: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, epoch, part]))

    def _batch(self, positions: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        task = self.task
        rows = task.splits["train"][positions]
        images = task.source.load(rows)
        if task.augmentation is not None:
            images = task.augmentation(images, positions, rng)
        return Batch(task.to_inputs(images), torch.from_numpy(task.labels[rows]), task.shared_inputs)

    def calibration(self) -> Iterator[Inputs]:
        """Yield the inputs of the calibration split."""
        return (batch.inputs for batch in self.task.batches("calibration", self.batch_size))

    def evaluation(self) -> Iterator[Batch]:
        """Yield the search split, to watch training by; the report split is never seen here."""
        return self.task.batches("search", max(self.batch_size, 256))
