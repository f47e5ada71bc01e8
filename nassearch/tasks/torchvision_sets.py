"""Any image classification data set of torchvision, by name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError, DataError
from nassearch.tasks.options import IMAGE_OPTIONS, Option, TaskRequest
from nassearch.tasks.registry import register_task
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from nassearch.tasks.base import Task
    from nassearch.tasks.images import ImageSource

_DEFAULT_ROOT = "~/.cache/nassearch/torchvision"
_UNPICKLES_CACHES = ("LSUN", "LSUNClass")
_TEST_SPLITS = ("test", "val", "valid")
_OPTIONS = (*IMAGE_OPTIONS, Option("download", "bool", True, "download the data set where it is not in ROOT"))


@register_task("torchvision", usage="torchvision:NAME[:ROOT]", options=_OPTIONS)
def build(request: TaskRequest) -> Task:
    """A data set of torchvision.datasets by its class name, e.g. torchvision:FashionMNIST; downloaded if absent."""
    from nassearch.tasks.image_task import LabelledImages, make_image_task, number_classes
    from nassearch.tasks.materialise import materialise

    name, _, root = request.argument.partition(":")
    kind = _find(name)
    name = kind.__name__
    if name in _UNPICKLES_CACHES:
        raise ConfigError(
            f"torchvision's {name} unpickles a cache file that nothing checks; use imagefolder:DIR instead"
        )
    folder = request.path(root or _DEFAULT_ROOT)
    sets = _open(name, kind, folder, request.options["download"])
    labels = [_labels(name, dataset) for dataset in sets]
    n_train = len(labels[0])
    test = labels[1] if len(sets) > 1 else labels[0][:0]
    first, second, names = number_classes(labels[0], test, f"torchvision:{name}")
    classes = getattr(sets[0], "classes", None)
    if isinstance(classes, list | tuple) and len(classes) == len(names):
        names = [" ".join(c) if isinstance(c, tuple) else str(c) for c in classes]

    def select(rows: NDArray[np.int64], size: int | None) -> ImageSource:
        def read(row: int) -> Any:
            item = sets[0][row] if row < n_train else sets[1][row - n_train]
            return item[0]

        return materialise((int(row) for row in rows), read, f"torchvision:{name}", size, rows)

    origin = f"torchvision:{name}" + (f" in {folder}" if _takes(kind, "root") else "")
    images = LabelledImages(np.concatenate([first, second]), names, select, len(test), origin)
    return make_image_task(request, images)


def _find(name: str) -> Any:
    from torchvision import datasets

    known = {
        entry: getattr(datasets, entry)
        for entry in datasets.__all__
        if inspect.isclass(getattr(datasets, entry)) and entry not in ("VisionDataset", "DatasetFolder", "ImageFolder")
    }
    by_lower = {entry.lower(): entry for entry in known}
    if name.lower() not in by_lower:
        raise ConfigError(
            f"torchvision has no data set {name!r}{did_you_mean(name, known)}; "
            "see https://docs.pytorch.org/vision/stable/datasets.html for the names"
        )
    return known[by_lower[name.lower()]]


def _takes(kind: Any, parameter: str) -> bool:
    """Return whether a class has an argument, its own or one that it hands on to its parents by ``**kwargs``."""
    for ancestor in kind.__mro__[:-1]:
        parameters = inspect.signature(ancestor.__init__).parameters
        if parameter in parameters:
            return True
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return False
    return False


def _open(name: str, kind: Any, folder: Path, download: bool) -> list[Any]:
    """Return the training set and, where there is one, the test set."""
    if name == "EMNIST":  # its own "split" is a choice of classes
        return [_make(name, kind, folder, download, split="balanced", train=value) for value in (True, False)]
    if _takes(kind, "train"):
        return [_make(name, kind, folder, download, train=value) for value in (True, False)]
    if not _takes(kind, "split"):
        return [_make(name, kind, folder, download)]
    try:
        train = _make(name, kind, folder, download, split="trainval" if name == "OxfordIIITPet" else "train")
    except ValueError as error:
        raise DataError(
            f"torchvision:{name} has no split 'train' ({error}); save its images as files and use imagefolder:DIR"
        ) from error
    for split in _TEST_SPLITS:
        try:
            test = _make(name, kind, folder, download, split=split)
        except ValueError:  # not a split of this data set
            continue
        # Some test sets are published without labels (all -1, or None): they cannot be reported on.
        labels = _labels(name, test)
        if len(labels) and labels.min() >= 0:
            return [train, test]
    return [train]


def _make(name: str, kind: Any, folder: Path, download: bool, **split: Any) -> Any:
    given = dict(split)
    if _takes(kind, "root"):
        given["root"] = str(folder)
    if not _takes(kind, "download"):
        return _attempt(name, kind, folder, given)
    try:
        return kind(**given, download=False)
    except (RuntimeError, FileNotFoundError) as absent:
        if not download:
            raise DataError(
                f"torchvision:{name} is not in {folder} ({absent}); put it there, or leave out download=false"
            ) from absent
    return _attempt(name, kind, folder, {**given, "download": True})


def _attempt(name: str, kind: Any, folder: Path, given: dict[str, Any]) -> Any:
    try:
        if given.get("download"):
            folder.mkdir(parents=True, exist_ok=True)
        return kind(**given)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors
        raise DataError(
            f"torchvision:{name} could not be fetched: {error}. It needs network, or the files in {folder} "
            f"(give another folder as torchvision:{name}:ROOT); without network use digits, imagefolder:DIR or npz:FILE"
        ) from error
    except (TypeError, ImportError) as error:
        raise DataError(
            f"torchvision:{name} cannot be opened here: {error}; save its images as files and use imagefolder:DIR"
        ) from error


def _labels(name: str, dataset: Any) -> NDArray[np.int64]:
    """Return the class of every item, from the attribute that holds them or else from the items."""
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            break
    else:
        samples = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
        if samples is not None and len(samples) == len(dataset):
            values = [sample[1] for sample in samples]
        else:
            values = [dataset[index][1] for index in range(len(dataset))]
    if any(value is None for value in values):
        return np.full(len(dataset), -1)
    array = np.asarray([int(v) if getattr(v, "ndim", 0) == 0 and _is_number(v) else -2 for v in values])
    if (array == -2).any():
        raise DataError(
            f"torchvision:{name} does not give one class for each image; use an image classification data set"
        )
    return array.astype(np.int64)


def _is_number(value: Any) -> bool:
    try:
        return float(value).is_integer()
    except (TypeError, ValueError):
        return False
