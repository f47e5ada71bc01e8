"""From a user's images to a task: the part that every source shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError
from nassearch.tasks.augmentation import ShiftFlip
from nassearch.tasks.classification import ImageClassification
from nassearch.tasks.decoding import Header
from nassearch.tasks.images import DecodedImages, ImageSource
from nassearch.tasks.options import TaskRequest
from nassearch.tasks.pretrained import ImageFacts, image_facts
from nassearch.tasks.splits import SPLITS, make_splits

LARGEST_DEFAULT_SIZE = 224
PRETRAINED_DEFAULTS = {
    "epochs": 5,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 5e-5,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "decay": "linear",
    "clip_norm": 1.0,
}
"""Settings of the training where the run has a pre-trained model, which is fine-tuned only."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of a source before they are split.

    Attributes:
        labels: int64 ``[n]`` class of each image; those of the source's own test set come last.
        class_names: Name of each class.
        select: Given indices and the size asked for (None: choose), returns a source of these images.
        n_test: Number of images in the source's own test set.
        origin: Where the images are from, for reports and errors.
        details: More for `describe`.
    """

    labels: NDArray[np.int64]
    class_names: list[str]
    select: Callable[[NDArray[np.int64], int | None], ImageSource]
    n_test: int
    origin: str
    details: Mapping[str, Any] = field(default_factory=dict)


def make_image_task(request: TaskRequest, images: LabelledImages) -> ImageClassification:
    """Make the task of classifying images, see `image_arguments`."""
    return ImageClassification(**image_arguments(request, images))


def image_arguments(request: TaskRequest, images: LabelledImages) -> dict[str, Any]:
    """Split images, keep only those that are used, read them once, and return the arguments of the task.

    Raises:
        DataError: Too few images, or some that cannot be read.
    """
    options = request.options
    try:
        splits = make_splits(
            images.labels,
            images.class_names,
            {name: options[name] for name in SPLITS},
            n_test=images.n_test,
            seed=request.seed,
        )
    except DataError as error:
        raise DataError([f"{images.origin}: {fault}" for fault in error.faults]) from None
    # The train split comes last: the rows of `used` are in the order of the source, so files are read in turn.
    used = np.unique(np.concatenate([splits[name] for name in SPLITS]))
    facts = image_facts(request)
    source = images.select(used, options["image_size"] or facts.size)
    source.verify()
    size = int(source.load(np.array([0])).shape[1])
    shift = size // 8 if options["shift"] is None else options["shift"]
    return dict(  # noqa: C408 - named as the task's arguments are
        name=request.name,
        spec=request.spec,
        source=source,
        labels=images.labels[used],
        splits={name: np.searchsorted(used, rows) for name, rows in splits.items()},
        class_names=images.class_names,
        seed=request.seed,
        augmentation=ShiftFlip(shift, options["flip"]) if shift or options["flip"] else None,
        label_smoothing=options["label_smoothing"],
        transport=options["transport"],
        training_defaults=PRETRAINED_DEFAULTS if request.model else None,
        statistics=statistics_of(facts, int(source.load(np.array([0])).shape[3]), request),
        details={
            "source": images.origin,
            "images": (
                f"shorter side resized to {size} pixels, central square kept; training shifts by up to {shift} "
                f"pixels{' and mirrors at random' if options['flip'] else ''}, anew in each epoch"
            ),
            **images.details,
        },
    )


def statistics_of(facts: ImageFacts, channels: int, request: TaskRequest) -> tuple[list[float], list[float]] | None:
    """Return the normalisation that the run's model was trained with; None for that of the data.

    Raises:
        DataError: The model takes grey images and these are in colour.
    """
    wanted = facts.channels or channels
    if wanted < channels:
        raise DataError(f"the model {request.model} takes images of {wanted} channel, these have {channels}")
    if facts.mean is not None and facts.std is not None:
        return ([*facts.mean] * wanted)[:wanted], ([*facts.std] * wanted)[:wanted]
    # Grey images of a model that wants colours, and does not say how they are normalised: pixels become -1 to 1.
    return ([127.5] * wanted, [127.5] * wanted) if wanted != channels else None


def fit_decoded(source: DecodedImages, size: int | None) -> DecodedImages:
    """Give a source the size asked for, or that of its images, and their number of channels.

    Raises:
        DataError: A header cannot be read.
    """
    headers = source.headers()
    source.size = natural_size(headers) if size is None else size
    source.channels = 1 if all(header.gray for header in headers) else 3
    return source


def natural_size(headers: list[Header]) -> int:
    """Return the median shorter side of images, at most 224 and at least 8 pixels."""
    sides = sorted(min(header.width, header.height) for header in headers)
    return max(8, min(sides[len(sides) // 2], LARGEST_DEFAULT_SIZE))


def number_classes(
    train: NDArray[Any], test: NDArray[Any], origin: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Number the distinct labels of the training set 0, 1, … in sorted order.

    Returns:
        Training classes, test classes, and the labels as text.

    Raises:
        DataError: The test set has a label that the training set lacks.
    """
    values, classes = np.unique(train, return_inverse=True)
    unseen = np.setdiff1d(test, values)
    if len(unseen):
        raise DataError(
            f"{origin}: the test set has labels that the training set lacks "
            f"({', '.join(str(value) for value in unseen[:10])}); use sets of the same classes"
        )
    return classes.astype(np.int64), np.searchsorted(values, test).astype(np.int64), [str(v) for v in values]
