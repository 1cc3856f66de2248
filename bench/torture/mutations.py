"""Every file that a stage reads, changed at random, read as the stage reads it."""

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from bench.torture import _readers
from bench.torture._batch import Trials, batched, once
from bench.torture._ledger import BAD, SAME, Ledger
from bench.torture._tree import Tree, import_once
from bench.torture._trial import at

ROUNDS = 4


def run(ledger: Ledger) -> None:
    """Changes a file of each kind as often as its reader says."""
    import_once()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees = {kind: Tree.walked(ledger.trees, kind) for kind in _readers.NEEDED}
        try_all(ledger, trees, list(_readers.targets(trees)))


def try_all(ledger: Ledger, trees: dict[str, Tree], found: list[_readers.Target]) -> None:
    """Changes all files a few times, then all once more: whenever it ends, each had its share."""
    contents = [target.path.read_bytes() for target in found]
    for turn in range(ROUNDS):
        for target, content in zip(found, contents, strict=True):
            total = ledger.times(target.usual)
            turns = range(total * turn // ROUNDS, total * (turn + 1) // ROUNDS)
            if numbers := [n for n in turns if ledger.wants(target.fault, n)]:
                try_target(ledger, trees[target.kind], target, content, numbers)


def try_target(
    ledger: Ledger, tree: Tree, target: _readers.Target, content: bytes, numbers: list[int]
) -> None:
    """Changes one file, again and again, and puts it back."""
    before = _processor()
    rng_of = lambda number: ledger.rng(target.fault, number)  # noqa: E731 - a name for one thing

    def prepare(number: int) -> bool:
        spoilt = target.mutate(rng_of(number), content)
        write(target.path, spoilt)
        return spoilt != content

    inside = (tree.folder / "work", tree.folder / ".cssegcore", tree.folder / "labelled")
    environment = {"CSSEGCORE_TRACKING": "off", "CSSEGCORE_DEVICE": "cpu", "DVC_ROOT": None}
    with at(tree.folder, **environment), scratch(tree.folder) as own:
        write(target.path, content)
        wanted = once(target.read)
        trials = Trials(prepare, target.read, wanted, target.otherwise, (*inside, own))
        told = batched(trials, numbers)
        for number, outcome in zip(numbers, told, strict=True):
            example = {"trial": number, "said": outcome.said}
            keep = None
            if outcome.what in BAD:
                prepare(number)
                keep = lambda place: shutil.copy(target.path, place)  # noqa: E731
            ledger.count(target.fault, outcome.what, example, keep)
        write(target.path, content)
        if {each.what for each in told} != {SAME}:
            once(target.read)  # so that all it makes is there again
        write(target.path, content)
    print(f"{target.fault}: {len(told)} in {_processor() - before:.1f} s", flush=True)


def _processor() -> float:
    """Returns the processor time that this process and its ended children took."""
    return sum(os.times()[:4])


def write(path: Path, content: bytes) -> None:
    """Writes a file that may be read-only, a link, or gone together with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Gives a folder for temporary files, where readers may write."""
    own = folder.parent / "tmp"
    own.mkdir(exist_ok=True)
    before, tempfile.tempdir, os.environ["TMPDIR"] = tempfile.tempdir, str(own), str(own)
    try:
        yield own
    finally:
        tempfile.tempdir = before
        os.environ.pop("TMPDIR")
