"""Processes that are killed at any moment, and started again."""

import signal

from bench.torture._ledger import BLOCKED, OUTSIDE, Ledger
from bench.torture._tree import Tree, import_once
from bench.torture._trial import Kill
from tests.helpers import tiny_dataset as scenes

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def run(ledger: Ledger) -> None:
    """Kills every stage of three recipes, at a random moment or at a random write."""
    import_once()
    for kind in ("plain", "exemplars", "images"):
        tree = Tree.walked(ledger.trees, kind)
        for number in range(ledger.times(2 if kind == "plain" else 1)):
            for stage in scenes.EVERY_STAGE:
                if kind == "plain" or _works(tree, stage):
                    for sent in SIGNALS:
                        _kill(ledger, tree, stage, sent, number)


def _works(tree: Tree, stage: str) -> bool:
    """Whether the recipe's own parts act in a stage."""
    kinds = {"exemplars": ("saliency", "pseudo_label", "memory", "train", "evaluate")}
    return stage.startswith(kinds.get(tree.kind, ("synthesize", "train")))


def _kill(ledger: Ledger, tree: Tree, stage: str, sent: signal.Signals, number: int) -> None:
    about = (tree.kind, stage, sent.name, number)
    rng = ledger.rng(*about)
    tracking = rng.choice(("off", "later"))
    before = tree.ended[stage]
    if rng.random() < 0.5:
        kill = Kill(sent, at_write=rng.randint(1, max(1, before.writes)))
    else:
        kill = Kill(sent, after=rng.uniform(0, before.seconds))
    tree.anew(stage)
    killed = tree.run(stage, kill=kill, CSSEGCORE_TRACKING=tracking)
    if rng.random() < 0.5:  # as DVC does; by hand, what is there stays there
        tree.clear(stage)
    again = tree.run(stage, CSSEGCORE_TRACKING=tracking)
    what = ledger.judge(again, lambda: tree.same(stage))
    if again.refused:
        what = BLOCKED
    elif killed.outside or not tree.pristine():
        what = OUTSIDE
    fault = f"`{stage.partition('@')[0]}` gets {sent.name}, then runs again"
    ledger.count(fault, what, {"trial": about, "kill": str(kill), "said": again.said[-600:]})
    if again.status or not tree.same(stage):
        tree.clear(stage)
        if tree.run(stage).status:
            raise SystemExit(f"{stage} does not run any more")
