"""A disk that is full in every stage: a small one of its own, with as much room as is wanted."""

import os
import resource
import subprocess
from pathlib import Path

from bench.torture._ledger import BLOCKED, CRASHED, DIFFERS, REFUSED, SAME, Ledger
from bench.torture._tree import Tree, import_once
from tests.helpers import tiny_dataset as scenes

SIZE = "96m"
BLOCK = 4096
ROOM = (0.0, 0.0, 0.2, 0.5, 0.8, 0.97)
"""What a stage finds, as a share of what it needs."""

ACTS: dict[str, str | tuple[str, ...]] = {
    "exemplars": ("saliency", "pseudo_label", "memory", "train", "evaluate", "report"),
    "images": ("synthesize", "train", "evaluate", "report"),
}


def run(ledger: Ledger) -> None:
    """Runs every stage on a disk with too little room, then with enough."""
    import_once()
    for kind in ("plain", "exemplars", "images"):
        mounted = mount(ledger.trees / kind)
        try:
            tree = Tree.walked(ledger.trees, kind)
            for stage in scenes.EVERY_STAGE:
                if stage.startswith(ACTS.get(kind, "")):
                    for number in range(ledger.times(3 if kind == "plain" else 2)):
                        (_full if mounted else _limited)(ledger, tree, stage, number)
            if mounted and kind == "plain":
                _scratch_full(ledger, tree)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(ledger.trees / kind)], check=True)


def mount(folder: Path) -> bool:
    """Puts a small disk there, where this process may do that: in a name space of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if not os.environ.get("CSSEGCORE_TORTURE_MOUNTS"):
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _full(ledger: Ledger, tree: Tree, stage: str, number: int) -> None:
    rng = ledger.rng(tree.kind, stage, number)
    share = rng.choice(ROOM)
    need = sum(_blocks(path) for out in tree.outs(stage) for path in (out, *out.rglob("*")))
    tree.anew(stage)
    ballast = tree.place / "ballast"
    _fill(ballast, int(share * need) // BLOCK * BLOCK)
    full = tree.run(stage, CSSEGCORE_TRACKING=rng.choice(("off", "later")))
    what = ledger.judge(full, lambda: tree.same(stage))
    ballast.unlink()
    if rng.random() < 0.5:
        tree.clear(stage)
    _again(ledger, tree, stage, what, {"trial": (tree.kind, stage, number), "said": full.said})


def _limited(ledger: Ledger, tree: Tree, stage: str, number: int) -> None:
    """Where nothing can be mounted: no file may grow beyond a size."""
    rng = ledger.rng(tree.kind, stage, number)
    largest = max(p.stat().st_size for out in tree.outs(stage) for p in (out, *out.rglob("*")))
    tree.anew(stage)
    limit = int(rng.choice(ROOM) * largest)
    full = tree.run(stage, first=lambda: _limit(limit))
    what = ledger.judge(full, lambda: tree.same(stage))
    _again(ledger, tree, stage, what, {"trial": (tree.kind, stage, number), "said": full.said})


def _limit(size: int) -> None:
    """Lets no file of this process grow beyond `size` bytes, for good."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _again(ledger: Ledger, tree: Tree, stage: str, what: str, example: dict[str, object]) -> None:
    again = tree.run(stage)
    if what in (SAME, REFUSED) and (again.status != 0 or not tree.same(stage)):
        what = BLOCKED if again.status else DIFFERS
        example["again"] = again.said[-800:]
    ledger.count(f"disk full in `{stage.partition('@')[0]}`, then not", what, example)
    if again.status or not tree.same(stage):
        tree.clear(stage)
        tree.run(stage)


def _scratch_full(ledger: Ledger, tree: Tree) -> None:
    """`.cssegcore/` on a disk of its own that has no room: nobody's result depends on it."""
    scratch = tree.folder / ".cssegcore"
    scratch.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={BLOCK}", "tmpfs", str(scratch)]
    subprocess.run(command, check=True)
    try:
        for number in range(ledger.times(4)):
            for stage in ("train@step0", "train@step1", "synthesize@step1", "evaluate@step1"):
                tree.clear(stage)
                ended = tree.run(stage, CSSEGCORE_TRACKING="later")
                what = ledger.judge(ended, lambda stage=stage: tree.same(stage))
                what = CRASHED if what == REFUSED else what
                fault = "disk full under `.cssegcore/` (resume files, journals)"
                example = {"trial": (tree.kind, stage, number), "said": ended.said[-600:]}
                ledger.count(fault, what, example)
    finally:
        subprocess.run(["umount", "-l", str(scratch)], check=True)


def _fill(ballast: Path, left: int) -> None:
    """Takes all room but so many bytes."""
    there = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, there.f_bavail * there.f_frsize - left))


def _blocks(path: Path) -> int:
    return -(-path.stat().st_size // BLOCK) * BLOCK if path.is_file() else 0
