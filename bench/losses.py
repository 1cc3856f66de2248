"""The dear formulas against plain loops over windows, classes and bins (`bench._loops`).

    OMP_NUM_THREADS=1 python -m bench.losses [--size 512] [--batch 2] [--out figures.json]

Forward and backward where there is one, on tensors of the shapes and the layouts in memory that
DeepLabV3 leaves for 512 x 512 photographs with 21 outputs, 16 of them old. Both must give the same
value, and the same gradients, before the clock starts; they take turns.
"""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench import _loops
from bench._device import Clock, quartiles
from cssegcore.core.types import IGNORE
from cssegcore.method.losses.attraction import attraction
from cssegcore.method.losses.bce import binary_cross_entropy
from cssegcore.method.losses.kd import distillation
from cssegcore.method.losses.local_pod import local_pod
from cssegcore.method.losses.prototype_matching import prototype_matching
from cssegcore.method.losses.repulsion import repulsion
from cssegcore.method.losses.sparsification import sparsification
from cssegcore.method.losses.unbiased_ce import unbiased_cross_entropy
from cssegcore.method.losses.unbiased_kd import unbiased_distillation
from cssegcore.method.pseudo_labels.entropy import (
    BINS,
    entropy_unit,
    histogram,
    released_thresholds,
    scores,
)

OLD, ALL = 16, 21
LAYERS = ((256, 4), (512, 8), (1024, 16), (2048, 16), (256, 16))
"""Channels, and how many times smaller than a photograph: ResNet's stages at output stride 16, and
what the classifiers read."""
FACTORS = (*(0.01 for _ in LAYERS), 0.0005)
BASE = 0.001


@dataclass(frozen=True)
class Case:
    """A formula written twice.

    Attributes:
        name: Name of the formula.
        library: Ours.
        loops: The plain version.
        leaves: What gradients go to; empty where there is no backward pass.
        aim: How many times faster ours is meant to be on a CPU; 0 if no aim was set.
    """

    name: str
    library: Callable[[], Tensor]
    loops: Callable[[], Tensor]
    leaves: Sequence[Tensor] = ()
    aim: float = 0

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Computes the value, and the gradients if there are any."""
        for leaf in self.leaves:
            leaf.grad = None
        value = work()
        if self.leaves:
            value.backward()
        return value.detach()

    def check(self) -> None:
        """Checks that both give the same.

        Raises:
            AssertionError: They do not.
        """
        ours, mine = self.run(self.library), [leaf.grad for leaf in self.leaves]
        plain, theirs = self.run(self.loops), [leaf.grad for leaf in self.leaves]
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6, check_dtype=False)
        for a, b in zip(mine, theirs, strict=True):
            assert a is not None
            assert b is not None
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def cases(size: int, batch: int, device: torch.device) -> list[Case]:
    """Returns all cases for square photographs of `size` pixels, a multiple of 64."""
    torch.manual_seed(0)
    return [
        _pod(size, batch, device),
        *_pixels(size, batch, device),
        *_features(size, batch, device),
    ]


def _pod(size: int, batch: int, device: torch.device) -> Case:
    def maps(outputs: int) -> list[Tensor]:
        last = torch.randn(batch, outputs, size // 16, size // 16, device=device)
        features = [
            torch.randn(batch, n, size // by, size // by, device=device) for n, by in LAYERS
        ]
        return [*(f.to(memory_format=torch.channels_last) for f in features), last]

    old, new = maps(OLD), [m.requires_grad_() for m in maps(ALL)]
    return Case(
        "Local POD, six layers",
        lambda: local_pod(old, new, FACTORS).sum(),
        lambda: _loops.local_pod(old, new, FACTORS),
        new,
        aim=5,
    )


def _pixels(size: int, batch: int, device: torch.device) -> list[Case]:
    old = torch.randn(batch, OLD, size, size, device=device)
    logits = torch.randn(batch, ALL, size, size, device=device).requires_grad_()
    labels = torch.randint(0, ALL, (batch, size, size), device=device)
    labels[torch.rand(labels.shape, device=device) < 0.05] = IGNORE
    predicted, unit = old.argmax(1), entropy_unit(OLD, ALL, "released")
    # from evenly spread, where the search does not stop, to nearly all in the first bin
    uncertainty = torch.rand(labels.shape, device=device) ** (1 + predicted)
    seen, shape = (uncertainty, predicted, labels < OLD), (OLD, BINS["released"])
    return [
        Case(
            "unbiased distillation",
            lambda: unbiased_distillation(logits, old),
            lambda: _loops.unbiased_distillation(logits, old),
            [logits],
            aim=2,
        ),
        Case(
            "unbiased cross-entropy",
            lambda: unbiased_cross_entropy(logits, labels, OLD),
            lambda: _loops.unbiased_cross_entropy(logits, labels, OLD),
            [logits],
        ),
        Case(
            "distillation",
            lambda: distillation(logits, old),
            lambda: _loops.distillation(logits, old),
            [logits],
        ),
        Case(
            "sigmoid cross-entropy",
            lambda: binary_cross_entropy(logits, labels),
            lambda: _loops.binary_cross_entropy(logits, labels),
            [logits],
        ),
        Case(
            "entropy thresholds",
            lambda: released_thresholds(histogram(*seen, shape), BASE),
            lambda: _loops.released_thresholds(*seen, shape, BASE).to(device),
            aim=5,
        ),
        Case(
            "entropies before them",
            lambda: torch.stack(scores(old, unit)),
            lambda: torch.stack(_loops.scores(old, unit)),
        ),
    ]


def _features(size: int, batch: int, device: torch.device) -> list[Case]:
    """Returns SDR's terms, on the deepest features."""
    channels, by = LAYERS[3]
    features = torch.rand(batch, channels, size // by, size // by, device=device)
    features = features.to(memory_format=torch.channels_last).requires_grad_()
    prototypes = torch.rand(ALL, channels, device=device)
    labels = torch.randint(0, ALL, (batch, *features.shape[2:]), device=device)
    labels[torch.rand(labels.shape, device=device) < 0.05] = IGNORE
    both = {
        "prototype matching": (prototype_matching, _loops.prototype_matching, prototypes),
        "attraction": (attraction, _loops.attraction, prototypes),
        "repulsion": (repulsion, _loops.repulsion, ALL),
        "sparsification": (sparsification, _loops.sparsification),
    }
    return [
        Case(
            name,
            functools.partial(ours, features, labels, *more),
            functools.partial(loops, features, labels, *more),
            [features],
        )
        for name, (ours, loops, *more) in both.items()
    ]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="of a photograph, times 64")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7, help="after one to warm up")
    parser.add_argument("--out", type=Path, help="JSON to write")
    Clock.add_to(parser)
    given = parser.parse_args()
    clock = Clock.of(given)
    print(f"{clock.machine}; batch {given.batch}, {given.size} x {given.size}\n")
    print(f"{'ms, quartiles':24}{'library':>24}{'loops':>24}{'faster':>9}{'aim':>6}")
    figures = {}
    for case in cases(given.size, given.batch, clock.device):
        case.check()
        works = {"library": case.library, "loops": case.loops}
        taken = clock.turns(
            {name: functools.partial(case.run, work) for name, work in works.items()}, given.turns
        )
        figures[case.name] = {"seconds": taken, "aim": case.aim}
        print(row(case, taken), flush=True)
    if given.out:
        given.out.write_text(json.dumps({"machine": clock.machine, "cases": figures}, indent=1))


def row(case: Case, taken: dict[str, list[float]]) -> str:
    """Returns a line of the table."""
    cells, medians = [], []
    for seconds in taken.values():
        low, middle, high = (1000 * q for q in quartiles(seconds))
        medians.append(middle)
        cells.append(f"{middle:.1f} ({low:.1f}–{high:.1f})")
    aim = f"{case.aim:.0f}" if case.aim else "–"
    times = medians[1] / medians[0]
    return f"{case.name:24}{cells[0]:>24}{cells[1]:>24}{times:8.1f}x{aim:>6}"


if __name__ == "__main__":
    main()
