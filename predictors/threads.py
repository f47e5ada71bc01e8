"""One BLAS/OpenMP thread while fitting: sums in one order on any machine, and faster on small matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit the numeric libraries that are loaded to one thread, and restore their settings afterwards."""
    with threadpool_limits(limits=1):
        yield
