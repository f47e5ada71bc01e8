"""Where images are: in an array, encoded in memory, or in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError
from nassearch.tasks.decoding import Header, decode, in_threads, read_header

CACHE_BYTES = 200_000_000
"""Decoded images are kept in memory up to this size; larger sets are decoded batch by batch."""

DECODE_ALL = 5_000
"""Sets up to this size are decoded once at start, so that a damaged image is found before any work."""

DIGEST = 1_000
"""Of the files of larger sets so many, evenly spaced, are read for the fingerprint; of the others name and size."""

READ_HEADERS = 20_000
"""Of larger sets at most this many headers, evenly spaced, are read at start."""


class ImageSource(ABC):
    """Numbered images, delivered as ``[n, size, size, channels]`` arrays."""

    kind: str
    streams = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def load(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the images ``rows``: uint8 (float32 where the source holds that) ``[n, size, size, channels]``."""

    @abstractmethod
    def subset(self, rows: NDArray[np.int64]) -> ImageSource:
        """Return a source of these images only, renumbered from 0."""

    @abstractmethod
    def verify(self) -> None:
        """Read the images once, where they are few, or else their headers.

        Raises:
            DataError: Some cannot be read; they are named.
        """

    @abstractmethod
    def update_digest(self, digest: Any) -> None:
        """Feed the content of all images to a hashlib object."""

    @abstractmethod
    def to_payload(self, transport: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings (JSON) and arrays; with ``transport="path"`` files stay where they are."""


class ArrayImages(ImageSource):
    """Images in memory.

    Args:
        array: uint8 or float32 ``[n, size, size, channels]``.
    """

    kind = "array"

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def load(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the images ``rows``."""
        return self.array[rows]

    def subset(self, rows: NDArray[np.int64]) -> ArrayImages:
        """Return a source of these images only."""
        return ArrayImages(self.array[rows])

    def verify(self) -> None:
        """Do nothing: arrays are checked where they are read."""

    def update_digest(self, digest: Any) -> None:
        """Feed dtype, shape and values."""
        digest.update(f"{self.array.dtype.str}{self.array.shape}".encode())
        digest.update(np.ascontiguousarray(self.array).data)

    def to_payload(self, transport: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the array."""
        return {"kind": self.kind}, {"images": self.array}


class DecodedImages(ImageSource):
    """Images that are decoded when they are asked for, and kept while they fit in memory.

    Args:
        size: Width and height delivered, in pixels.
        channels: 1 for grey, 3 for RGB.
    """

    def __init__(self, size: int, channels: int) -> None:
        self.size = size
        self.channels = channels
        self._cache: NDArray[np.uint8] | None = None
        self._cached: NDArray[np.bool_] | None = None
        self._lock = Lock()

    @property
    def streams(self) -> bool:  # type: ignore[override]
        """Whether images are decoded anew each time because together they are too large to keep."""
        return len(self) * self.size**2 * self.channels > CACHE_BYTES

    @abstractmethod
    def encoded(self, row: int) -> bytes | Path:
        """Return the encoded image, or its file."""

    @abstractmethod
    def label_of(self, row: int) -> str:
        """Return what to call the image in an error."""

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images ``rows``, decoding those that are not in memory."""
        if self.streams:
            return self._decode(rows)
        with self._lock:
            if self._cache is None or self._cached is None:
                self._cache = np.empty((len(self), self.size, self.size, self.channels), dtype=np.uint8)
                self._cached = np.zeros(len(self), dtype=bool)
        missing = np.unique(rows[~self._cached[rows]])
        if len(missing):
            self._cache[missing] = self._decode(missing)
            self._cached[missing] = True
        return self._cache[rows]

    def _decode(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        def one(row: int) -> NDArray[np.uint8]:
            return decode(self.encoded(row), self.size, self.channels, self.label_of(row))

        images = in_threads(one, [int(row) for row in rows])
        shape = (len(rows), self.size, self.size, self.channels)
        return np.stack(images) if images else np.empty(shape, dtype=np.uint8)

    def headers(self) -> list[Header]:
        """Return the headers of all images, or of `READ_HEADERS` evenly spaced ones.

        Raises:
            DataError: Some cannot be read; they are named.
        """
        every = max(1, -(-len(self) // READ_HEADERS))
        return self._try_all(lambda row: read_header(self.encoded(row), self.label_of(row)), range(0, len(self), every))

    def verify(self) -> None:
        """Decode every image where they are few; `headers` has looked at the others."""
        if len(self) <= DECODE_ALL and not self.streams:
            self._try_all(lambda row: self.load(np.array([row])) is None, range(len(self)))

    def _try_all(self, work: Any, rows: Sequence[int]) -> list[Any]:
        def attempt(row: int) -> Any:
            try:
                return work(row)
            except DataError as error:
                return error

        results = in_threads(attempt, rows)
        faults = [str(result) for result in results if isinstance(result, DataError)]
        if faults:
            more = len(faults) - 10
            raise DataError(faults[:10] + ([f"… and {more} more images cannot be read"] if more > 0 else []))
        return results


class EncodedImages(DecodedImages):
    """Encoded images (JPEG, PNG, …) in one array of bytes.

    Args:
        blob: uint8; image i is ``blob[offset[i]:offset[i + 1]]``.
        offset: int64 ``[n + 1]``.
        size: Width and height delivered, in pixels.
        channels: 1 for grey, 3 for RGB.
        origin: What holds them, for errors.
        numbers: Their numbers in the origin, for errors.
    """

    kind = "encoded"

    def __init__(
        self,
        blob: NDArray[np.uint8],
        offset: NDArray[np.int64],
        size: int,
        channels: int,
        origin: str,
        numbers: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(size, channels)
        self.blob = blob
        self.offset = offset
        self.origin = origin
        self.numbers = np.arange(len(offset) - 1) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.offset) - 1

    def encoded(self, row: int) -> bytes:
        """Return the encoded image."""
        return self.blob[self.offset[row] : self.offset[row + 1]].tobytes()

    def label_of(self, row: int) -> str:
        """Return the origin and the image's number there."""
        return f"image {self.numbers[row]} of {self.origin}"

    def subset(self, rows: NDArray[np.int64]) -> EncodedImages:
        """Return a source of these images only; they stay encoded."""
        blob, offset = pack([self.encoded(int(row)) for row in rows])
        return EncodedImages(blob, offset, self.size, self.channels, self.origin, self.numbers[rows])

    def update_digest(self, digest: Any) -> None:
        """Feed the encoded bytes."""
        digest.update(self.offset.astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(self.blob).data)

    def to_payload(self, transport: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the encoded bytes as they are."""
        settings = {"kind": self.kind, "size": self.size, "channels": self.channels, "origin": self.origin}
        return settings, {"blob": self.blob, "offset": self.offset, "numbers": self.numbers}


class FileImages(DecodedImages):
    """Image files.

    Args:
        root: Folder that holds them.
        paths: Their paths below the folder, with ``/``.
        size: Width and height delivered, in pixels.
        channels: 1 for grey, 3 for RGB.
    """

    kind = "files"

    def __init__(self, root: Path, paths: Sequence[str], size: int, channels: int) -> None:
        super().__init__(size, channels)
        self.root = root
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self, row: int) -> Path:
        """Return the file."""
        return self.root / self.paths[row]

    def label_of(self, row: int) -> str:
        """Return the file's path."""
        return str(self.root / self.paths[row])

    def subset(self, rows: NDArray[np.int64]) -> FileImages:
        """Return a source of these files only."""
        return FileImages(self.root, [self.paths[row] for row in rows], self.size, self.channels)

    def update_digest(self, digest: Any) -> None:
        """Feed names and sizes, and the contents of all files or, beyond `DECODE_ALL`, of 1,000 spread evenly."""
        step = 1 if len(self) <= DECODE_ALL else len(self) // DIGEST
        for i, path in enumerate(self.paths):
            file = self.root / path
            digest.update(f"{path}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
            if i % step == 0:
                digest.update(file.read_bytes())

    def to_payload(self, transport: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the folder and names, or (``transport="object"``) the files' contents."""
        if transport == "path":
            settings: dict[str, Any] = {"kind": self.kind, "size": self.size, "channels": self.channels}
            return {**settings, "root": str(self.root.resolve()), "paths": self.paths}, {}
        blob, offset = pack([(self.root / path).read_bytes() for path in self.paths])
        return EncodedImages(blob, offset, self.size, self.channels, str(self.root)).to_payload(transport)


def pack(encoded: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Join encoded images; return the bytes and the ``[n + 1]`` offsets."""
    offset = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(item) for item in encoded], out=offset[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offset


def restore_source(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ImageSource:
    """Make a source from what its ``to_payload`` returned.

    Raises:
        DataError: Images on a shared path are not there.
    """
    if settings["kind"] == ArrayImages.kind:
        return ArrayImages(arrays["images"])
    size, channels = int(settings["size"]), int(settings["channels"])
    if settings["kind"] == EncodedImages.kind:
        origin = str(settings["origin"])
        return EncodedImages(arrays["blob"], arrays["offset"], size, channels, origin, arrays["numbers"])
    root = Path(settings["root"])
    if not root.is_dir():
        raise DataError(
            f"the data folder {root} does not exist on this machine; share it under that path, "
            "or send the images with transport=object"
        )
    return FileImages(root, settings["paths"], size, channels)
