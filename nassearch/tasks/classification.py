"""Image classification on any source of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nassearch.tasks.augmentation import Augmentation, restore_augmentation
from nassearch.tasks.base import Batch, Direction, Inputs, Split, smoothing_facts
from nassearch.tasks.classifier import Classification, at_least_one, chunks, shared_arguments
from nassearch.tasks.images import ImageSource, restore_source
from nassearch.tasks.metrics import RateTally
from nassearch.tasks.prefetch import ahead
from nassearch.tasks.splits import SPLITS, Splits
from nassearch.tasks.training_set import ImageTrainingSet

_MOST_FOR_STATISTICS = 5_000


class ImageClassification(Classification):
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
        training_defaults: Settings of supernet training. Default: by the size of the train split, for random weights.
        fingerprint: Where it is known already.
        statistics: Mean and standard deviation of each channel, where they are known already; three of them make
            three channels of grey images.
        image_size: Width and height delivered, pixels. Default: the stored images' own.
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
        image_size: int | None = None,
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
        self.image_size = image_size
        self.tally = lambda: RateTally(len(class_names))
        mean, std = statistics or self._statistics()
        self._mean = torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
        first = source.load(splits["train"][:1])
        size = (first.shape[1], first.shape[2]) if image_size is None else (image_size, image_size)
        self.input_shape = (int(self._mean.shape[1]), int(size[0]), int(size[1]))
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
        for rows in chunks(train[::every], 500):
            values = self.source.load(rows).reshape(-1, channels).astype(np.float64)
            n, total, squares = n + len(values), total + values.sum(0), squares + (values**2).sum(0)
        mean = total / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 0))
        # A channel that never varies is only centred.
        std = np.where(std > 1e-6, std, 1.0)
        return mean.tolist(), std.tolist()

    def _facts(self) -> list[Any]:
        return [self.class_names, self.input_shape, self.seed, self._mean.tolist(), self._std.tolist()]

    def _hash(self) -> str:
        digest = hashlib.sha256()
        settings, arrays = (None, {}) if self.augmentation is None else self.augmentation.to_payload()
        facts = [*self._facts()[:3], settings, *self._facts()[3:], *smoothing_facts(self.label_smoothing)]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for array in (self.labels, *(self.splits[name] for name in SPLITS), *arrays.values()):
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        self.source.update_digest(digest)
        return digest.hexdigest()[:32]

    def describe(self) -> dict[str, Any]:
        """Return source, sizes, classes, normalisation and augmentation as JSON values."""
        return super().describe() | {
            "input_shape": list(self.input_shape),
            "preprocessing": f"pixels 0-255 as float32, less {_listed(self._mean)}, divided by {_listed(self._std)}",
            "mean": self._mean.flatten().tolist(),
            "std": self._std.flatten().tolist(),
            "augmentation": None if self.augmentation is None else self.augmentation.to_payload()[0],
            **self.details,
        }

    def to_inputs(self, images: NDArray[Any]) -> Inputs:
        """Return stored images ``[n, h, w, c]`` as normalised float32 ``[n, c, h, w]``, the one positional input.

        They are resized and grey ones repeated for three channels, where the model wants that.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
        if self.image_size is not None and tuple(tensor.shape[2:]) != (self.image_size,) * 2:
            tensor = nn.functional.interpolate(tensor, (self.image_size,) * 2, mode="bilinear", antialias=True)
        if tensor.shape[1] == 1 and self._mean.shape[1] > 1:
            tensor = tensor.repeat(1, self._mean.shape[1], 1, 1)
        return (tensor.sub_(self._mean).div_(self._std),)

    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """Return the inputs of some images."""
        return self.to_inputs(self.source.load(rows))

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split in its fixed order, without augmentation; the last batch may be smaller."""
        made = super().batches(split, batch_size)
        return ahead(made) if self.source.streams else made

    def training_data(self, batch_size: int, seed: int = 0) -> ImageTrainingSet:
        """Return the train split, shuffled and augmented anew in each epoch by (seed, epoch) alone."""
        return ImageTrainingSet(self, at_least_one(batch_size), seed)

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        source, arrays = self.source.to_payload(self.transport)
        augmentation = None
        if self.augmentation is not None:
            augmentation, more = self.augmentation.to_payload()
            arrays.update({f"augmentation.{key}": array for key, array in more.items()})
        settings, shared = self.shared_payload()
        settings |= {
            "source": source,
            "augmentation": augmentation,
            "transport": self.transport,
            "image_size": self.image_size,
            "training_defaults": self.training_defaults,
            "fingerprint": self.fingerprint,
            "mean": self._mean.flatten().tolist(),
            "std": self._std.flatten().tolist(),
        }
        return settings, arrays | shared

    @classmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ImageClassification:
        """Make the task that `to_payload` described.

        Raises:
            DataError: Images on a shared path are not there.
        """
        return cls(**cls.restored(settings, arrays))

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Return the arguments that `to_payload` told."""
        prefix = "augmentation."
        more = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        return shared_arguments(settings, arrays) | {
            "source": restore_source(settings["source"], arrays),
            "augmentation": restore_augmentation(settings["augmentation"], more),
            "transport": settings["transport"],
            "training_defaults": settings["training_defaults"],
            "fingerprint": settings["fingerprint"],
            "statistics": (settings["mean"], settings["std"]),
            "image_size": settings["image_size"],
        }


def _listed(channels: Tensor) -> str:
    return " / ".join(f"{x:.4f}" for x in channels.flatten().tolist())


def _training_defaults(n: int) -> dict[str, Any]:
    """Return settings for ``n`` training images: about three million images seen, in 20 to 300 epochs."""
    return {"epochs": min(300, max(20, -(-3_000_000 // n))), "batch_size": 64 if n < 5_000 else 128, "lr": 0.1}
