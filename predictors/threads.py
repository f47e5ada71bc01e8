"""One BLAS/OpenMP thread: sums in one order on any machine, and faster on small matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController, threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit the numeric libraries that are loaded to one thread, and restore their settings afterwards.

    For fits: the libraries are looked for at each call, which takes milliseconds.
    """
    with threadpool_limits(limits=1):
        yield


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """As `one_thread`, for the libraries that were loaded at the first call; NumPy's always are.

    For predictions, which use no other library's pool and may be asked for thousands of times.
    """
    with _first_found().limit(limits=1):
        yield


@cache
def _first_found() -> ThreadpoolController:
    import numpy as np  # noqa: F401  (brings its BLAS)

    return ThreadpoolController()
