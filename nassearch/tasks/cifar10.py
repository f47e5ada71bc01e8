"""CIFAR-10 on disk: the binary version, class folders, or .npz files."""

from __future__ import annotations

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

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_RECORD = 1 + 3 * 32 * 32
_BINARY = (
    "download https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, unpack it with "
    "'tar xzf cifar-10-binary.tar.gz' and give the folder cifar-10-batches-bin"
)


@register_task("cifar10", usage="cifar10:DIR", options=IMAGE_OPTIONS)
def build(request: TaskRequest) -> Task:
    """CIFAR-10 in a folder: data_batch_*.bin + test_batch.bin, train.npz + test.npz, or class sub-folders."""
    from nassearch.tasks.image_task import make_image_task
    from nassearch.tasks.imagefolder import existing_folder

    return make_image_task(request, _find(existing_folder(request.path(request.argument))))


def _find(folder: Path) -> LabelledImages:
    from nassearch.tasks.imagefolder import read_folder
    from nassearch.tasks.npz import read_npz

    for place in (folder, folder / "cifar-10-batches-bin"):
        if any(place.glob("data_batch_*.bin")):
            return _read_binary(place)
    if (folder / "train.npz").is_file():
        test = folder / "test.npz"
        return read_npz(folder / "train.npz", test if test.is_file() else None)
    for place in (folder, folder / "cifar-10-batches-py"):
        if (place / "data_batch_1").is_file():
            raise DataError(
                f"{place} holds the python version of CIFAR-10, which is pickled and not read, for safety; {_BINARY}"
            )
    try:
        return read_folder(folder)
    except DataError as error:
        raise DataError([*error.faults, f"{folder} has no data_batch_1.bin either; {_BINARY}"]) from None


def _read_binary(folder: Path) -> LabelledImages:
    from nassearch.tasks.image_task import LabelledImages
    from nassearch.tasks.images import ArrayImages

    train = sorted(folder.glob("data_batch_*.bin"))
    test = [folder / "test_batch.bin"] if (folder / "test_batch.bin").is_file() else []
    faults, records = [], []
    for file in train + test:
        data = np.fromfile(file, dtype=np.uint8)
        if not len(data) or len(data) % _RECORD:
            faults.append(
                f"{file} has {len(data):,} bytes, not a multiple of {_RECORD:,} (label and 32x32 RGB): it is "
                f"damaged or another format; {_BINARY}"
            )
            continue
        records.append(data.reshape(-1, _RECORD))
        if records[-1][:, 0].max() >= len(CLASSES):
            faults.append(f"{file} has class {records[-1][:, 0].max()}; CIFAR-10 has 0 to 9; {_BINARY}")
    if faults:
        raise DataError(faults)
    everything = np.concatenate(records)
    n_test = len(records[-1]) if test else 0

    def select(rows: NDArray[np.int64], size: int | None) -> ImageSource:
        from nassearch.tasks.arrays import square

        pixels = everything[rows, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return ArrayImages(square(np.ascontiguousarray(pixels), size))

    return LabelledImages(everything[:, 0].astype(np.int64), CLASSES, select, n_test, str(folder))
