"""What it changes to make PLOP's pseudo-labels once, on the whole photograph.

    python -m bench.pseudo_labels step1 [--epochs 5]

The released code has the previous model label every augmented view; here a stage labels the whole
photograph, and views are cut out of that label image. This draws the views of some epochs and
labels them both ways with the same thresholds. Needs the split and the model of the step before
(`dvc repro`), made by any method without an unknown class, which PLOP's rule has no place for. The
truth is what the list `seen` has annotated: classes to come are background there, as everywhere in
the field.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from cssegcore.core.files import read_manifest
from cssegcore.core.normalization import IMAGENET
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batch import Batch
from cssegcore.data.batches import training_batches
from cssegcore.data.dataset import open_dataset, read_labels
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore, Labels
from cssegcore.method.pseudo_labels import LabelRequest
from cssegcore.method.pseudo_labels.entropy import (
    BINS,
    Entropy,
    accept,
    entropy_unit,
    relabel,
    scores,
)
from cssegcore.models import checkpoint
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.memory import MemoryBudget
from stages.common.params import Params, read_params

WORK = Path("work")


@dataclass(frozen=True)
class Setup:
    """One step of params.yaml, its two lists, and the model of the step before."""

    params: Params
    train: ImageList
    seen: ImageList
    model: Path

    @classmethod
    def of(cls, step: str) -> "Setup":
        """Reads what the pipeline left."""
        params = read_params()
        train, seen = (
            ImageList.read(WORK / "split" / step / f"{k}.json") for k in ("train", "seen")
        )
        return cls(params, train, seen, WORK / params.step(step).previous / "model.safetensors")


def cut_views(setup: Setup, labels: Path, epochs: int, device: torch.device) -> Iterator[Batch]:
    """Yields augmented views: `labels` from the label images, `annotated` the truth."""
    dataset, table = open_dataset(setup.params.dataset), setup.seen.label_table()

    def make_labels(name: str, annotated: Labels) -> tuple[Labels, Labels]:
        return read_labels(labels / f"{name}.png", annotated.shape), table[dataset.label(name)]

    images = ImageStore(dataset, setup.train, make_labels)
    images.keep(MemoryBudget.of_environment())
    views = Augmentation.of(setup.params.augmentation)
    rng, size = np.random.default_rng(setup.params.seed), setup.params.optimizer["batch_size"]
    for _ in range(epochs):
        yield from training_batches(images, views, size, rng, device, IMAGENET)


class Counts:
    """Pixels that the step does not annotate, by truth (row) and label given (last: refused)."""

    def __init__(self, known: int) -> None:
        self.known = known
        self._cells = torch.zeros(known, known + 1, dtype=torch.int64)

    def add(self, truth: Int[Tensor, " n"], given: Int[Tensor, " n"]) -> None:
        """Counts pixels whose true class is known to the previous model."""
        column = torch.where(given == IGNORE, self.known, given)
        cells = torch.bincount(truth * (self.known + 1) + column, minlength=self._cells.numel())
        self._cells += cells.reshape(self._cells.shape).cpu()

    def row(self) -> list[float]:
        """Returns the share accepted and the accuracy of those, of background and old classes."""
        parts = (slice(None), slice(BACKGROUND, BACKGROUND + 1), slice(BACKGROUND + 1, None))
        values = []
        for part in parts:
            cells = self._cells[part]
            accepted = int(cells[:, :-1].sum())
            right = int(self._cells.diagonal()[part].sum())
            values += [accepted / max(1, int(cells.sum())), right / max(1, accepted)]
        return values


@torch.inference_mode()
def measure(
    setup: Setup, segmenter: Segmenter, rule: Entropy, epochs: int, device: torch.device
) -> None:
    """Prints a line for each way, and how far they agree."""
    known = segmenter.outputs
    unit = entropy_unit(known, len(setup.train.classes.names), rule.rule)
    whole, view = Counts(known), Counts(known)
    same = same_class = both = pixels = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = open_dataset(setup.params.dataset)
        task = LabelRequest(dataset, {"train": setup.train}, setup.model, lambda items, _: items)
        rule.write(folder, task)
        rows = read_manifest(folder)["classes"]
        thresholds = torch.tensor([row["threshold"] for row in rows], device=device)
        for batch in cut_views(setup, folder / "train", epochs, device):
            uncertainty, predicted = scores(segmenter(batch.images).logits, unit)
            accepted = accept(uncertainty, predicted, thresholds)
            open_to_rule = batch.annotated < known
            online = relabel(batch.annotated, open_to_rule, predicted, accepted)
            truth, a, b = (y[open_to_rule] for y in (batch.annotated, batch.labels, online))
            whole.add(truth, a)
            view.add(truth, b)
            pixels, same = pixels + len(a), same + int((a == b).sum())
            kept = (a != IGNORE) & (b != IGNORE)
            both, same_class = both + int(kept.sum()), same_class + int((kept & (a == b)).sum())
    print(f"\n{rule.rule}: thresholds {', '.join(f'{t:.4f}' for t in thresholds.tolist())}")
    for what, counts in (("whole photograph", whole), ("augmented view", view)):
        print(f"{what:18}", *(f"{100 * value:9.1f}" for value in counts.row()))
    print(f"same outcome at {100 * same / pixels:.1f} % of {pixels} pixels; where both accept,")
    print(f"the same class at {100 * same_class / max(1, both):.1f} %")


def main() -> None:
    """Measures both rules of thresholds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", help="a step with one before it")
    parser.add_argument("--epochs", type=int, default=5, help="views of each photograph")
    given = parser.parse_args()
    setup, device = Setup.of(given.step), choose_device()
    segmenter = checkpoint.load_model(setup.model, device).segmenter
    if segmenter.unknown is not None:
        raise SystemExit(
            f"error: {setup.model} has an unknown class, which PLOP's rule would take for the"
            " background: train a method without one, such as `method=plop`."
        )
    print(f"{setup.params.scenario.name}, {given.step}: {len(setup.train.images)} photographs,")
    print(f"{given.epochs} views of each; percent of the pixels that the step does not annotate\n")
    print(f"{'':18}   --- all ---        - background -      - old classes -")
    print(f"{'':18}", *[f"{'accepted':>9}", f"{'right':>9}"] * 3)
    for rule in BINS:
        measure(setup, segmenter, Entropy(rule=rule), given.epochs, device)


if __name__ == "__main__":
    main()
