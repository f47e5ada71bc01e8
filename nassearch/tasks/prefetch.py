"""Preparing batches while the network works on earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield items in order, with up to ``depth`` of them made in a background thread beforehand."""
    finished = object()
    waiting: deque[Future[object]] = deque()
    with ThreadPoolExecutor(1) as worker:
        while True:
            while len(waiting) < depth:
                waiting.append(worker.submit(next, items, finished))
            item = waiting.popleft().result()
            if item is finished:
                return
            yield item  # type: ignore[misc]
