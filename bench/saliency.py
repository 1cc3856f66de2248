"""How well computed saliency maps find what is labelled, and what they cost.

    python -m bench.saliency [--background CLASS …] [-S override …]

Compares the maps of a dataset's photographs (`dataset` in params.yaml; with overrides, that of
conf/) with its labels: objects are all pixels that are neither void nor background. A dataset that
has no background, of road scenes say, needs classes named that shall count as such. For comparison
the detector's two cues alone, unsmoothed, and a box in the centre that is as large as the objects
are on average.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.dataset import Dataset, open_dataset
from cssegcore.saliency.backgroundness import border_contrast, peak_one
from cssegcore.saliency.barrier import barrier_distance
from cssegcore.saliency.detector import salient, shrink
from cssegcore.saliency.maps import write_maps
from cssegcore.saliency.reading import Maps
from stages.common.params import PARAMS, read_raw

Mask = Bool[np.ndarray, "h w"]


def read_dataset(overrides: list[str]) -> Dataset:
    """Opens the dataset of params.yaml, or the one that conf/ and `overrides` name."""
    if not overrides:
        return open_dataset(read_raw(PARAMS)["dataset"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        command = [sys.executable, "-m", "stages.compose", path, *overrides]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(2)  # it has said why
        return open_dataset(read_raw(path)["dataset"])


def cues(photograph: UInt8[np.ndarray, "h w 3"]) -> Iterator[tuple[str, Mask]]:
    """Yields where each cue alone says that a photograph is salient."""
    small = shrink(photograph)
    distance = barrier_distance(small.transpose(2, 0, 1)).sum(0, dtype=np.uint16, keepdims=True)
    for name, cue in (("barrier distance", distance), ("contrast", border_contrast(small[None]))):
        levels = (peak_one(cue)[0] * 255).round().astype(np.uint8)
        yield name, salient(levels, photograph.shape[:2])


def box(shape: tuple[int, int], share: float) -> Mask:
    """Returns a box in the centre that takes `share` of the pixels, and the photograph's form."""
    inside = [np.abs((np.arange(n) + 0.5) / n - 0.5) < share**0.5 / 2 for n in shape]
    return inside[0][:, None] & inside[1]


class Score:
    """Counts of pixels over all images."""

    def __init__(self) -> None:
        self._salient = self._object = self._both = self._all = 0

    def add(self, salient: Mask, objects: Mask, void: Mask) -> None:
        """Counts an image's pixels that are not void."""
        self._salient += int((salient & ~void).sum())
        self._object += int((objects & ~void).sum())
        self._both += int((salient & objects & ~void).sum())
        self._all += int((~void).sum())

    def row(self) -> str:
        """Writes the share of salient pixels, precision, recall, F and IoU in percent."""
        either = self._salient + self._object
        values = (
            self._salient / self._all,
            self._both / max(1, self._salient),
            self._both / max(1, self._object),
            2 * self._both / max(1, either),
            self._both / max(1, either - self._both),
        )
        return " ".join(f"{100 * value:9.1f}" for value in values)


def labelled(dataset: Dataset, name: str, background: list[int]) -> tuple[Mask, Mask]:
    """Reads where an image shows objects, and where it is void."""
    labels = dataset.label(name)
    void = labels == IGNORE
    return ~np.isin(labels, background) & ~void, void


def measure(dataset: Dataset, names: list[str], background: list[int], maps: Maps) -> None:
    """Prints a table: a row for the maps, for each cue, and for the box."""
    sizes = [(o.sum(), (~v).sum()) for o, v in (labelled(dataset, n, background) for n in names)]
    share = float(np.divide(*np.sum(sizes, axis=0)))
    scores: dict[str, Score] = {}
    for name in names:
        objects, void = labelled(dataset, name, background)
        found = {"computed maps": maps.of(name), **dict(cues(dataset.photograph(name)))}
        found["box in the centre"] = box(objects.shape, share)
        for what, mask in found.items():
            scores.setdefault(what, Score()).add(mask, objects, void)
    print(f"objects: {100 * share:.1f} % of the pixels\n")
    print(f"{'percent':18}   salient precision    recall         F       IoU")
    for what, score in scores.items():
        print(f"{what:18} {score.row()}")


def main() -> None:
    """Computes the maps of a part, as the stage does, and measures them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--part", default="train", choices=["train", "val", "test"])
    parser.add_argument("--background", nargs="*", default=[], help="classes that are no objects")
    given = parser.parse_args()
    dataset = read_dataset(given.set)
    unknown = set(given.background) - set(dataset.classes)
    if unknown:
        parser.error(f"no class is called {', '.join(unknown)}: {', '.join(dataset.classes)}")
    background = [BACKGROUND, *(dataset.classes.index(name) for name in given.background)]
    names = dataset.names(given.part)
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), time.process_time()
        write_maps(Path(folder), dataset, names, "computed", lambda items, _: items)
        wall, busy = time.perf_counter() - start, time.process_time() - busy
        print(f"{dataset.name}, {len(names)} images of {given.part}")
        each = 1000 / len(names)
        print(f"write_maps: {each * wall:.1f} s for 1000 photographs, {each * busy:.1f} s of CPU")
        measure(dataset, names, background, Maps.open(Path(folder), dataset))


if __name__ == "__main__":
    main()
