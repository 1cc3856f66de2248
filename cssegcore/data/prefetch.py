"""The next batch, made while the device works on the last one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


def prefetch(items: Iterator[_T]) -> Generator[_T]:
    """Yields the items in order, and has a thread make each one while its reader has the last.

    For readers that wait for a GPU, or that have given it work. On a CPU the thread and the reader
    would take each other's cores.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
