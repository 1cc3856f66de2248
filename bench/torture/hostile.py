"""Inputs that somebody made to do harm, or that do harm by themselves."""

import shutil
import tempfile
from pathlib import Path

from bench.torture import _hostile_inputs as inputs
from bench.torture._ledger import DIFFERS, OUTSIDE, REFUSED, SAME, Ledger
from bench.torture._place import Place
from bench.torture._tree import Tree, digests, import_once


def run(ledger: Ledger) -> None:
    """Gives each input to the stages, in a fresh project, until one of them refuses it."""
    import_once()
    with tempfile.TemporaryDirectory() as name:
        calm = Tree.walked(ledger.trees, "plain")
        for hostile in inputs.every():
            for number in range(ledger.times(1) if hostile.varies else 1):
                if ledger.wants(hostile.fault, number):
                    _try(ledger, Path(name, "tree"), calm, hostile, number)


def _try(ledger: Ledger, place: Path, calm: Tree, hostile: "inputs.Hostile", number: int) -> None:
    tree = Tree(place)
    marker = place / "executed"
    shutil.copytree(calm.folder / "work", tree.folder / "work")
    for path in (place / "mine.png", place / "mine.jpg"):
        path.write_bytes((tree.root / "SegmentationClass/t0.png").read_bytes())
    hostile.make(Place(tree, marker, ledger.rng(hostile.fault, number)))
    before = outside(place)
    what, said = SAME, ""
    for command in hostile.commands(tree):
        ended = tree.call(command, seconds=300)
        said = ended.said[-900:]
        what = ledger.judge(ended, None)
        if what != SAME:
            break
    if marker.exists() or outside(place) != before:
        what = OUTSIDE
    elif (
        (what == REFUSED and hostile.wanted == SAME)
        or (what == SAME and hostile.wanted == REFUSED)
        or (what in (SAME, REFUSED) and hostile.right and not hostile.right(tree))
    ):
        what = DIFFERS
    ledger.count(hostile.fault, what, {"trial": number, "said": said})
    shutil.rmtree(place)


def outside(place: Path) -> dict[str, str]:
    """Returns a digest of everything that no stage may touch."""
    ours = tuple(f"project/{name}/" for name in ("work", ".cssegcore", "labelled"))
    found = {str(p.relative_to(place)): p for p in place.rglob("*")}
    plain = {k: p for k, p in found.items() if p.is_file() and not p.is_symlink()}
    return {k: digests(p, p.parent)[p.name] for k, p in plain.items() if not k.startswith(ours)}
