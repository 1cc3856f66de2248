"""One bit that flips in a file that was right: by a disk, a cable, a memory cell."""

import dataclasses
import warnings

from bench.torture import _mutate, _readers
from bench.torture._ledger import DIFFERS, OTHER, Ledger
from bench.torture._tree import Tree, import_once
from bench.torture.mutations import try_all

UNKNOWN = ("photograph (JPEG): `index`", "published weights, without", "a photograph (JPEG, PNG")
"""Read before anybody noted what is in them, so that another picture is nobody's fault."""

BY_HAND = ("list of images", "class names", "`params.yaml`", "`conf/`", "journal")
"""Text of the user's, or a journal's: every character may be meant."""


def run(ledger: Ledger) -> None:
    """Flips bits in every kind of file that any stage reads."""
    import_once()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees = {kind: Tree.walked(ledger.trees, kind) for kind in _readers.NEEDED}
        found = [rotten(target) for target in _readers.targets(trees)]
        known = [each for each in found if not each.fault.startswith((*UNKNOWN, *BY_HAND))]
        try_all(ledger, trees, known)


def rotten(target: _readers.Target) -> _readers.Target:
    """Returns the target with bits to flip; nobody may take another value for the right one."""
    otherwise = DIFFERS if target.otherwise == OTHER else target.otherwise
    usual = max(10, target.usual // 8)
    return dataclasses.replace(target, mutate=_mutate.flip_bit, usual=usual, otherwise=otherwise)
