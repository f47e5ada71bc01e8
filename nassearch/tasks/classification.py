"""Image classification on any source of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nassearch.errors import ConfigError
from nassearch.tasks.augmentation import Augmentation, restore_augmentation
from nassearch.tasks.base import Batch, Direction, Inputs, Split, Task
from nassearch.tasks.images import ImageSource, restore_source
from nassearch.tasks.metrics import counts, rates
from nassearch.tasks.prefetch import ahead
from nassearch.tasks.splits import SPLITS, Splits
from nassearch.tasks.training_set import ImageTrainingSet

_MOST_FOR_STATISTICS = 5_000


class ImageClassification(Task):
    """Images with one class each.

    Args:
        name: Registered name of the task.
        spec: The specification it was made from.
        source: The images of all splits.
        labels: int64 ``[n]`` class of each image.
        splits: Split name -> indices into the source.
        class_names: Name of each class.
        seed: Seed of the splits.
        augmentation: What training does to images; None for nothing.
        label_smoothing: Of the training loss.
        transport: How `to_payload` carries files: ``"object"`` (their bytes) or ``"path"``.
        details: More for `describe`.
        training_defaults: Settings of supernet training. Default: by the size of the train split.
        fingerprint: Where it is known already.
        statistics: Mean and standard deviation of each channel, where they are known already.
    """

    auto_model = "AutoModelForImageClassification"

    def __init__(
        self,
        *,
        name: str,
        spec: str,
        source: ImageSource,
        labels: NDArray[np.int64],
        splits: Splits,
        class_names: list[str],
        seed: int,
        augmentation: Augmentation | None,
        label_smoothing: float = 0.0,
        transport: str = "object",
        details: Mapping[str, Any] | None = None,
        training_defaults: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
        statistics: tuple[list[float], list[float]] | None = None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.seed = seed
        self.source = source
        self.labels = labels
        self.splits = splits
        self.class_names = class_names
        self.augmentation = augmentation
        self.label_smoothing = label_smoothing
        self.transport = transport
        self.details = dict(details or {})
        mean, std = statistics or self._statistics()
        self._mean = torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
        first = source.load(splits["train"][:1])
        self.input_shape = (int(first.shape[3]), int(first.shape[1]), int(first.shape[2]))
        self.model_options = {"num_classes": len(class_names), "in_channels": self.input_shape[0]}
        self.training_defaults = dict(training_defaults or _training_defaults(len(splits["train"])))
        self.metrics: Mapping[str, Direction] = {"top1": "max", "loss": "min"}
        if len(class_names) > 5:
            self.metrics = {"top1": "max", "top5": "max", "loss": "min"}
        self.fingerprint = fingerprint or self._hash()

    def _statistics(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of each channel of the train split (of evenly spaced images)."""
        train = self.splits["train"]
        every = -(-len(train) // _MOST_FOR_STATISTICS)
        channels = self.source.load(train[:1]).shape[-1]
        n, total, squares = 0, np.zeros(channels), np.zeros(channels)
        for rows in _chunks(train[::every], 500):
            values = self.source.load(rows).reshape(-1, channels).astype(np.float64)
            n, total, squares = n + len(values), total + values.sum(0), squares + (values**2).sum(0)
        mean = total / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 0))
        # A channel that never varies is only centred.
        std = np.where(std > 1e-6, std, 1.0)
        return mean.tolist(), std.tolist()

    def _hash(self) -> str:
        digest = hashlib.sha256()
        settings, arrays = (None, {}) if self.augmentation is None else self.augmentation.to_payload()
        facts = [self.class_names, self.input_shape, self.seed, settings, self._mean.tolist(), self._std.tolist()]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for array in (self.labels, *(self.splits[name] for name in SPLITS), *arrays.values()):
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        self.source.update_digest(digest)
        return digest.hexdigest()[:32]

    def size(self, split: Split) -> int:
        """Return the number of images in a split."""
        return len(self._rows(split))

    def _rows(self, split: str) -> NDArray[np.int64]:
        if split not in self.splits:
            raise ConfigError(f"unknown split {split!r}; allowed are {', '.join(SPLITS)}")
        return self.splits[split]

    def describe(self) -> dict[str, Any]:
        """Return source, sizes, classes, normalisation and augmentation as JSON values."""
        return {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "splits": {name: len(self.splits[name]) for name in SPLITS},
            "n_classes": len(self.class_names),
            "classes": self.class_names[:1000],
            "input_shape": list(self.input_shape),
            "metrics": dict(self.metrics),
            "preprocessing": f"pixels 0-255 as float32, less {_listed(self._mean)}, divided by {_listed(self._std)}",
            "mean": self._mean.flatten().tolist(),
            "std": self._std.flatten().tolist(),
            "augmentation": None if self.augmentation is None else self.augmentation.to_payload()[0],
            "label_smoothing": self.label_smoothing,
            **self.details,
        }

    def to_inputs(self, images: NDArray[Any]) -> Tensor:
        """Return stored images ``[n, h, w, c]`` as normalised float32 ``[n, c, h, w]``."""
        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
        return tensor.sub_(self._mean).div_(self._std)

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split in its fixed order, without augmentation; the last batch may be smaller."""
        chunks = _chunks(self._rows(split), _at_least_one(batch_size))
        made: Iterator[Batch] = map(self._batch, chunks)
        return ahead(made) if self.source.streams else made

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        return Batch((self.to_inputs(self.source.load(rows)),), torch.from_numpy(self.labels[rows]))

    def training_data(self, batch_size: int, seed: int = 0) -> ImageTrainingSet:
        """Return the train split, shuffled and augmented anew in each epoch by (seed, epoch) alone."""
        return ImageTrainingSet(self, _at_least_one(batch_size), seed)

    def calibration_inputs(self, batch_size: int, n_images: int | None = None) -> list[Inputs]:
        """Return inputs of the first ``n_images`` of the calibration split (default and at most: all of it)."""
        rows = self.splits["calibration"][:n_images]
        return [self._batch(chunk).inputs for chunk in _chunks(rows, _at_least_one(batch_size))]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, with label smoothing if asked for."""
        return nn.functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return top1, top5 (0-100) and loss of one batch."""
        return rates(counts(outputs, targets), len(targets), len(self.class_names))

    def evaluate(
        self,
        forward: Callable[[Inputs], Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return top1, top5 (0-100) and loss of a whole split, see the base class."""
        total: Tensor | None = None
        with torch.inference_mode():
            for batch in self.batches(split, batch_size):
                outputs = forward(batch.inputs if adapt is None else adapt(batch.inputs))
                counted = counts(outputs, batch.targets)
                total = counted if total is None else total + counted
        assert total is not None  # noqa: S101 - every split has an image of each class
        return rates(total, self.size(split), len(self.class_names))

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        source, arrays = self.source.to_payload(self.transport)
        augmentation = None
        if self.augmentation is not None:
            augmentation, more = self.augmentation.to_payload()
            arrays.update({f"augmentation.{key}": array for key, array in more.items()})
        arrays["labels"] = self.labels
        arrays.update({f"split.{name}": self.splits[name] for name in SPLITS})
        settings = {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "source": source,
            "augmentation": augmentation,
            "class_names": self.class_names,
            "label_smoothing": self.label_smoothing,
            "transport": self.transport,
            "details": self.details,
            "training_defaults": self.training_defaults,
            "fingerprint": self.fingerprint,
            "mean": self._mean.flatten().tolist(),
            "std": self._std.flatten().tolist(),
        }
        return settings, arrays

    @classmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ImageClassification:
        """Make the task that `to_payload` described.

        Raises:
            DataError: Images on a shared path are not there.
        """
        prefix = "augmentation."
        more = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        return cls(
            name=settings["task"],
            spec=settings["spec"],
            source=restore_source(settings["source"], arrays),
            labels=arrays["labels"],
            splits={name: arrays[f"split.{name}"] for name in SPLITS},
            class_names=list(settings["class_names"]),
            seed=settings["seed"],
            augmentation=restore_augmentation(settings["augmentation"], more),
            label_smoothing=settings["label_smoothing"],
            transport=settings["transport"],
            details=settings["details"],
            training_defaults=settings["training_defaults"],
            fingerprint=settings["fingerprint"],
            statistics=(settings["mean"], settings["std"]),
        )


def _listed(channels: Tensor) -> str:
    return " / ".join(f"{x:.4f}" for x in channels.flatten().tolist())


def _chunks(rows: NDArray[np.int64], size: int) -> Iterable[NDArray[np.int64]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _training_defaults(n: int) -> dict[str, Any]:
    """Return settings for ``n`` training images: about three million images seen, in 20 to 300 epochs."""
    return {"epochs": min(300, max(20, -(-3_000_000 // n))), "batch_size": 64 if n < 5_000 else 128, "lr": 0.1}


def _at_least_one(batch_size: int) -> int:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; give at least 1")
    return batch_size
