"""Images and labels in NumPy's .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError
from nassearch.tasks.options import IMAGE_OPTIONS, TaskRequest
from nassearch.tasks.registry import register_task

if TYPE_CHECKING:
    from nassearch.tasks.base import Task
    from nassearch.tasks.image_task import LabelledImages
    from nassearch.tasks.images import ImageSource

_NEEDED = (
    "needed are 'images' ([n, h, w], [n, h, w, c] or [n, c, h, w], uint8 or float) and 'labels' ([n], integers), "
    "or 'blob' (uint8, encoded images), 'offset' ([n + 1]) and 'label' ([n])"
)


@register_task("npz", usage="npz:TRAIN.npz[,TEST.npz]", options=IMAGE_OPTIONS)
def build(request: TaskRequest) -> Task:
    """A .npz file with images + labels, or blob + offset + label (encoded images); a second one is for the report."""
    from nassearch.tasks.image_task import make_image_task

    files = [request.path(part.strip()) for part in request.argument.split(",") if part.strip()]
    if not 1 <= len(files) <= 2:
        raise DataError(f"npz:{request.argument} names {len(files)} files; give one, or one and a test set")
    return make_image_task(request, read_npz(files[0], files[1] if len(files) == 2 else None))


def read_npz(train: Path, test: Path | None = None) -> LabelledImages:
    """Read labelled images from one file, or from a training and a test file.

    Raises:
        DataError: A file is missing or damaged, or its arrays are not what is needed; all faults together.
    """
    from nassearch.tasks.image_task import LabelledImages, number_classes

    files = [train] if test is None else [train, test]
    faults: list[str] = []
    parts = []
    for file in files:
        try:
            parts.append(_read(file))
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(faults)
    encoded = ["blob" in part for part in parts]
    if len(set(encoded)) > 1:
        raise DataError(f"{train} and {test} are of different kinds (images, blob); use two files of the same kind")
    labels = [part["labels"] for part in parts]
    n_test = 0 if test is None else len(labels[1])
    first, second, names = number_classes(labels[0], labels[1] if n_test else labels[0][:0], str(test or train))
    source = _encoded_source(parts, files) if encoded[0] else _array_source(parts, files)
    origin = " and ".join(str(file) for file in files)
    return LabelledImages(np.concatenate([first, second]), names, source, n_test, origin)


def _array_source(parts: list[dict[str, NDArray[Any]]], files: list[Path]) -> Any:
    from nassearch.tasks.arrays import square
    from nassearch.tasks.images import ArrayImages

    shapes = {part["images"].shape[1:] for part in parts}
    kinds = {part["images"].dtype for part in parts}
    if len(shapes) > 1 or len(kinds) > 1:
        raise DataError(
            f"{files[0]} has {_shape(parts[0])} and {files[1]} {_shape(parts[1])}; use images of one size and type"
        )
    bounds = len(parts[0]["images"])

    def select(rows: NDArray[np.int64], size: int | None) -> ImageSource:
        chosen = [parts[0]["images"][rows[rows < bounds]]]
        if len(parts) > 1:
            chosen.append(parts[1]["images"][rows[rows >= bounds] - bounds])
        return ArrayImages(square(np.concatenate(chosen), size))

    return select


def _encoded_source(parts: list[dict[str, NDArray[Any]]], files: list[Path]) -> Any:
    from nassearch.tasks.image_task import fit_decoded
    from nassearch.tasks.images import EncodedImages, pack

    bounds = len(parts[0]["offset"]) - 1

    def select(rows: NDArray[np.int64], size: int | None) -> ImageSource:
        sources = []
        for number, (part, file) in enumerate(zip(parts, files, strict=True)):
            own = rows[rows < bounds] if number == 0 else rows[rows >= bounds] - bounds
            sources.append(EncodedImages(part["blob"], part["offset"], 0, 0, str(file)).subset(own))
            # Headers are read file by file, so that an unreadable image is named with its own file.
            fit_decoded(sources[-1], size)
        if len(sources) == 1:
            return sources[0]
        both = [source.encoded(row) for source in sources for row in range(len(source))]
        blob, offset = pack(both)
        numbers = np.concatenate([source.numbers for source in sources])
        origin = " and ".join(str(file) for file in files)
        channels = max(source.channels for source in sources)
        return EncodedImages(blob, offset, sources[0].size, channels, origin, numbers)

    return select


def _shape(part: Mapping[str, NDArray[Any]]) -> str:
    images = part["images"]
    return f"{images.dtype} images {list(images.shape[1:])}"


def _read(file: Path) -> dict[str, NDArray[Any]]:
    """Return ``images`` and ``labels``, or ``blob``, ``offset`` and ``labels``, of one file, checked."""
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(f"the data file {file} {what}; give a .npz file, {_NEEDED}")
    try:
        opened = np.load(file, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{file} holds a single array; save a .npz with numpy.savez: {_NEEDED}")
        with opened:
            return _arrays(file, opened)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise DataError(
                f"{file} is not a .npz file of plain arrays (pickled data are not read, for safety); {_NEEDED}"
            ) from error
        raise DataError(f"{file} cannot be read as a .npz file: {error}; save it again with numpy.savez") from error


def _arrays(file: Path, opened: Any) -> dict[str, NDArray[Any]]:
    keys = set(opened.files)
    for wanted in (("images", "labels"), ("blob", "offset", "label")):
        if keys.issuperset(wanted):
            break
    else:
        raise DataError(f"{file} has {', '.join(sorted(keys)) or 'no arrays'}; {_NEEDED}")
    arrays = {}
    for key in wanted:
        try:
            arrays[key] = opened[key]
        except ValueError as error:
            raise DataError(
                f"{file}: array {key!r} is pickled (it holds Python objects), which is not read, for safety; "
                "save it as numbers"
            ) from error
    labels = _labels(file, wanted[-1], arrays.pop(wanted[-1]))
    if "images" in arrays:
        return {"images": _images(file, arrays["images"], len(labels)), "labels": labels}
    _check_offset(file, arrays["blob"], arrays["offset"], len(labels))
    return {"blob": arrays["blob"], "offset": arrays["offset"].astype(np.int64), "labels": labels}


def _labels(file: Path, key: str, labels: NDArray[Any]) -> NDArray[Any]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{file}: array {key!r} is {labels.dtype} {list(labels.shape)}; integers, one for each image, are needed"
        )
    if not len(labels):
        raise DataError(f"{file} has no images; {_NEEDED}")
    return labels


def _images(file: Path, images: NDArray[Any], n: int) -> NDArray[Any]:
    from nassearch.tasks.arrays import channels_last

    if len(images) != n:
        raise DataError(f"{file}: {len(images)} images but {n} labels; there must be as many")
    try:
        return channels_last(images)
    except ValueError as error:
        raise DataError(f"{file}: {error}; {_NEEDED}") from None


def _check_offset(file: Path, blob: NDArray[Any], offset: NDArray[Any], n: int) -> None:
    if blob.dtype != np.uint8 or blob.ndim != 1:
        raise DataError(f"{file}: array 'blob' is {blob.dtype} {list(blob.shape)}; one row of uint8 is needed")
    if offset.ndim != 1 or offset.dtype.kind not in "iu" or len(offset) != n + 1:
        raise DataError(
            f"{file}: array 'offset' is {offset.dtype} {list(offset.shape)} for {n} labels; {n + 1} integers are needed"
        )
    bounds = offset.astype(np.int64)
    if bounds[0] < 0 or bounds[-1] > len(blob) or (np.diff(bounds) <= 0).any():
        raise DataError(f"{file}: array 'offset' must rise from image to image and end within {len(blob)} bytes")
