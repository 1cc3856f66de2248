"""The stage's work: computes saliency maps into a folder, or checks the published maps."""

import collections
import dataclasses
import functools
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, replacing, write_manifest
from cssegcore.core.types import Progress
from cssegcore.data.dataset import Dataset
from cssegcore.runtime.threads import decoding_threads
from cssegcore.saliency import Origin
from cssegcore.saliency.detector import saliency_maps, salient, shrink
from cssegcore.saliency.reading import MapSource, read_published

CHUNK: Final = 256
"""Number of photographs decoded ahead; photographs of one size are computed together."""

BATCH: Final = 32
"""Number of photographs computed at once, which takes some 20 MB."""


@dataclasses.dataclass(frozen=True)
class _Made:
    """Numbers of salient pixels and of all pixels of one map, and the digest of its file."""

    name: str
    salient: int
    pixels: int
    digest: str


def write_maps(
    out: Path,
    dataset: Dataset,
    names: Sequence[str],
    maps: Origin,
    progress: Progress,
    processes: int = 1,
) -> dict[str, Any]:
    """Computes maps, or checks the published maps, which are not copied.

    Args:
        out: Folder of the computed `NAME.png` (0, and 255 where salient) and of `manifest.json`.
        dataset: The photographs and published maps.
        names: Names of the images.
        maps: `auto` takes published maps where their folder exists.
        progress: Wraps an iterable with one item an image (second argument: their number).
        processes: Processes that compute maps at the same time. Each map is the same by any.

    Returns:
        The manifest: `source`, `images`, `salient` (share of all pixels) and `digests` of the
        maps' files by name. A changed file changes the manifest, so the stages that read the maps
        run again.

    Raises:
        InputError: A photograph cannot be read, a published map is missing or unfit, or a file
            cannot be written.
    """
    source = _choose(dataset, names) if maps == "auto" else maps
    if source == "published":
        stream = _check_all(dataset, names)
    elif processes > 1:
        stream = _compute_apart(out, dataset, names, processes)
    else:
        stream = _compute(out, dataset, names)
    made: list[_Made] = list(progress(stream, len(names)))
    share = sum(m.salient for m in made) / max(1, sum(m.pixels for m in made))
    digests = {m.name: m.digest for m in made}
    manifest: dict[str, Any] = {
        "source": source,
        "images": list(names),
        "salient": share,
        "digests": {name: digests[name] for name in names},
    }
    write_manifest(out, manifest)
    return manifest


def _choose(dataset: Dataset, names: Sequence[str]) -> MapSource:
    """Chooses by the folders, not the files: a map missing in a folder is reported as an error."""
    folders = {dataset.layout.saliency(dataset.root, name).parent for name in names}
    return "published" if any(folder.is_dir() for folder in folders) else "computed"


def _check_all(dataset: Dataset, names: Sequence[str]) -> Iterator[_Made]:
    with ThreadPoolExecutor(decoding_threads()) as pool:
        yield from pool.map(functools.partial(_check, dataset), names)


def _check(dataset: Dataset, name: str) -> _Made:
    mask = read_published(dataset, name)
    content = dataset.layout.saliency(dataset.root, name).read_bytes()
    return _Made(name, int(mask.sum()), mask.size, digest(content))


def _compute_apart(
    out: Path, dataset: Dataset, names: Sequence[str], processes: int
) -> Iterator[_Made]:
    """Shares photographs among processes of its own, some at a time.

    They are no processes of torchrun's: those would load torch, and wait for each other.
    """
    length = max(1, min(CHUNK, -(-len(names) // processes)))
    parts = [names[start : start + length] for start in range(0, len(names), length)]
    compute = functools.partial(_computed, out, dataset, processes)
    start = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    with ProcessPoolExecutor(processes, start, _leave_interrupts) as pool:
        try:
            for made in pool.map(compute, parts):
                yield from made
        except BrokenProcessPool:
            raise InputError(
                "a process that computed saliency maps was killed, as systems do when memory is"
                " short: set CSSEGCORE_PROCESSES to fewer, and run the same command again."
            ) from None


def _leave_interrupts() -> None:
    """Has Ctrl-C end the process that started this one, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _computed(out: Path, dataset: Dataset, processes: int, names: Sequence[str]) -> list[_Made]:
    return list(_compute(out, dataset, names, processes))


def _compute(
    out: Path, dataset: Dataset, names: Sequence[str], processes: int = 0
) -> Iterator[_Made]:
    """Computes maps batch by batch, not in the order of `names`; threads decode and encode."""

    def load(name: str) -> tuple[str, tuple[int, int], UInt8[np.ndarray, "h w 3"]]:
        photograph = dataset.photograph(name)
        height, width, _ = photograph.shape
        return name, (height, width), shrink(photograph)

    def save(name: str, shape: tuple[int, int], saliency: UInt8[np.ndarray, "h w"]) -> _Made:
        mask = salient(saliency, shape)
        with replacing(out / f"{name}.png", durable=False) as temporary:
            Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(temporary, "PNG")
            content = temporary.read_bytes()
        return _Made(name, int(mask.sum()), mask.size, digest(content))

    with ThreadPoolExecutor(decoding_threads(processes)) as pool:
        for start in range(0, len(names), CHUNK):
            alike = collections.defaultdict(list)
            for name, shape, small in pool.map(load, names[start : start + CHUNK]):
                alike[small.shape].append((name, shape, small))
            for group in alike.values():
                for first in range(0, len(group), BATCH):
                    some, shapes, small = zip(*group[first : first + BATCH], strict=True)
                    yield from pool.map(save, some, shapes, saliency_maps(np.stack(small)))
