"""Folders of images, one sub-folder per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError
from nassearch.tasks.options import IMAGE_OPTIONS, TaskRequest
from nassearch.tasks.registry import register_task

if TYPE_CHECKING:
    from nassearch.tasks.base import Task
    from nassearch.tasks.image_task import LabelledImages
    from nassearch.tasks.images import ImageSource

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_TEST_NAMES = ("test", "val", "valid", "validation")
_LAYOUT = "one sub-folder per class (cats/, dogs/, …), or train/ and test/ with such sub-folders"


@register_task("imagefolder", usage="imagefolder:DIR", options=IMAGE_OPTIONS)
def build(request: TaskRequest) -> Task:
    """A folder with one sub-folder of images per class, or train/ and test/ (or val/) with such sub-folders."""
    from nassearch.tasks.image_task import make_image_task

    return make_image_task(request, read_folder(existing_folder(request.path(request.argument))))


def existing_folder(folder: Path) -> Path:
    """Return the folder a user named.

    Raises:
        DataError: There is none, or it is empty.
    """
    if not folder.exists():
        raise DataError(f"the data folder {folder} does not exist; give a folder with {_LAYOUT}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder with {_LAYOUT} (for .npz files use npz:FILE)")
    if not any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise DataError(f"the data folder {folder} is empty; it needs {_LAYOUT}")
    return folder


def read_folder(folder: Path) -> LabelledImages:
    """List the images of a folder and their classes.

    Raises:
        DataError: No classes, one only, or classes without images; all faults together.
    """
    from nassearch.tasks.image_task import LabelledImages, fit_decoded
    from nassearch.tasks.images import FileImages

    names = {entry.name.lower(): entry for entry in _folders(folder)}
    test_name = next((name for name in _TEST_NAMES if name in names), None)
    if "train" in names and test_name is not None:
        train, classes = _classes(names["train"])
        test, _ = _classes(names[test_name], classes)
    else:
        train, classes = _classes(names["train"] if set(names) == {"train"} else folder)
        test = []
    paths = [path.relative_to(folder).as_posix() for path, _ in train + test]
    labels = np.array([label for _, label in train + test], dtype=np.int64)

    def select(rows: NDArray[np.int64], size: int | None) -> ImageSource:
        return fit_decoded(FileImages(folder, [paths[row] for row in rows], 0, 0), size)

    return LabelledImages(labels, classes, select, len(test), str(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _classes(folder: Path, known: list[str] | None = None) -> tuple[list[tuple[Path, int]], list[str]]:
    """Return the images below a folder with their classes, and the classes' names."""
    folders = _folders(folder)
    names = known or [entry.name for entry in folders]
    if not folders:
        raise DataError(f"{folder} has no class sub-folders; it needs {_LAYOUT}")
    if len(names) < 2:
        raise DataError(f"{folder} has one class only ({names[0]!r}); classification needs at least two sub-folders")
    faults, found = [], []
    for entry in folders:
        if entry.name not in names:
            faults.append(f"{entry} is a class that the training folder lacks; add it there or remove it here")
            continue
        images = _images(entry)
        if not images:
            faults.append(
                f"class folder {entry} has no images; add some ({', '.join(sorted(EXTENSIONS))}) or remove the folder"
            )
        found += [(path, names.index(entry.name)) for path in images]
    if faults:
        raise DataError(faults)
    return found, names


def _images(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    return found
