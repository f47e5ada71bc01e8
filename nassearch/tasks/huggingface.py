"""Any image classification data set of the Hugging Face hub, by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError
from nassearch.tasks.hub import load_hub
from nassearch.tasks.options import IMAGE_OPTIONS, Option, TaskRequest
from nassearch.tasks.registry import register_task
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from nassearch.tasks.base import Task
    from nassearch.tasks.images import ImageSource

_OPTIONS = (
    *IMAGE_OPTIONS,
    Option("image_column", "str", None, "column of the images; default: the first of type Image"),
    Option("label_column", "str", None, "column of the classes; default: the first of type ClassLabel"),
    Option("revision", "str", None, "commit, tag or branch of the data set"),
)


@register_task("hf", usage="hf:NAME[:CONFIG]", options=_OPTIONS)
def build(request: TaskRequest) -> Task:
    """A data set of the Hugging Face hub, e.g. hf:ylecun/mnist (needs `pip install datasets` and network)."""
    from nassearch.tasks.image_task import LabelledImages, make_image_task, number_classes
    from nassearch.tasks.materialise import materialise

    origin = f"hf:{request.argument}"
    name, _, config = request.argument.partition(":")
    parts = load_hub(name, config, request.options["revision"])
    train_name = "train" if "train" in parts else next(iter(parts))
    test_name = next((n for n in ("test", "validation", "valid", "val") if n in parts and n != train_name), None)
    train = parts[train_name]
    image_column = _column(origin, train, request.options["image_column"], "image_column", "Image")
    label_column = _column(origin, train, request.options["label_column"], "label_column", "ClassLabel")
    labels = _labels(origin, train_name, train, label_column)
    test = None if test_name is None else parts[test_name]
    test_labels = labels[:0] if test is None else _labels(origin, str(test_name), test, label_column)
    if test is not None and (not len(test_labels) or test_labels.min() < 0):
        test, test_labels = None, labels[:0]  # published without labels: it cannot be reported on
    first, second, names = number_classes(labels, test_labels, origin)
    class_names = getattr(train.features[label_column], "names", None)
    if class_names:
        names = [str(class_names[int(value)]) for value in names]

    def select(rows: NDArray[np.int64], size: int | None) -> ImageSource:
        encoded = [None if part is None else _without_decoding(part, image_column) for part in (train, test)]

        def read(row: int) -> Any:
            part, number = (encoded[0], row) if row < len(labels) else (encoded[1], row - len(labels))
            assert part is not None  # noqa: S101 - rows beyond the training set exist with a test set only
            return part[number][image_column]

        return materialise((int(row) for row in rows), read, origin, size, rows)

    images = LabelledImages(np.concatenate([first, second]), names, select, len(test_labels), origin)
    return make_image_task(request, images)


def _column(origin: str, dataset: Any, given: str | None, option: str, kind: str) -> str:
    """Return the column asked for, or the first of a type."""
    features = dataset.features
    if given is not None:
        if given not in features:
            raise DataError(
                f"{origin} has no column {given!r}{did_you_mean(given, features)}; its columns: {', '.join(features)}"
            )
        return given
    for name, feature in features.items():
        if type(feature).__name__ == kind:
            return str(name)
    raise DataError(
        f"{origin} has no column of type {kind}; its columns: {', '.join(features)}; say which with {option}=NAME"
    )


def _labels(origin: str, part: str, dataset: Any, column: str) -> NDArray[np.int64]:
    values = np.asarray(list(dataset[column]))
    if not len(values):
        raise DataError(
            f"{origin}: {part} is empty; fill it, or save the data set without it (save_to_disk) and give that folder"
        )
    if values.dtype.kind not in "iu":
        raise DataError(f"{origin}: column {column!r} holds {values.dtype}, not class numbers; give label_column=NAME")
    return values.astype(np.int64)


def _without_decoding(dataset: Any, column: str) -> Any:
    """Return the data set with images as bytes, so that JPEG stays JPEG."""
    if type(dataset.features[column]).__name__ != "Image":
        return dataset
    return dataset.cast_column(column, import_module("datasets").Image(decode=False))
