"""Images that threads decode before they are asked for."""

import collections
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

from cssegcore.data.batch import Sample
from cssegcore.runtime.threads import decoding_threads

_T = TypeVar("_T")


@runtime_checkable
class Decoder(Protocol):
    """Interface of a decoder of images, such as `ImageStore`."""

    def soon(self, place: int, threads: ThreadPoolExecutor) -> Callable[[], Sample]:
        """Returns a function that gives the image at `place`, which a thread decodes meanwhile."""
        ...


def decode_ahead(
    groups: Iterable[tuple[_T, Sequence[tuple[Decoder, int]]]], ahead: int
) -> Generator[tuple[_T, list[Sample]]]:
    """Yields each group's key and images, in order, and has coming groups decoded meanwhile.

    It holds no image that it has yielded.

    Args:
        groups: The groups' keys and images: for each, what decodes it and its place there.
        ahead: Images that are decoded ahead, or more, as groups stay whole.

    Raises:
        InputError: An image cannot be read, or is not what the index read.
    """
    coming: collections.deque[tuple[_T, list[Callable[[], Sample]]]] = collections.deque()
    threads = ThreadPoolExecutor(decoding_threads())
    try:
        for key, places in groups:
            coming.append((key, [store.soon(at, threads) for store, at in places]))
            if sum(len(images) for _, images in coming) - len(coming[0][1]) >= ahead:
                yield _next(coming)
        while coming:
            yield _next(coming)
    finally:
        threads.shutdown(cancel_futures=True)


def _next(
    coming: collections.deque[tuple[_T, list[Callable[[], Sample]]]],
) -> tuple[_T, list[Sample]]:
    key, images = coming.popleft()
    return key, [image() for image in images]
