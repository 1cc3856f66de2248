"""SSUL-M's and DKD-M's memory: photographs of earlier steps, every class seen as often as possible.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
from jaxtyping import Bool, Int, UInt8

from cssegcore.core.files import write_manifest
from cssegcore.core.ranges import at_least, fraction
from cssegcore.core.types import BACKGROUND, Scores
from cssegcore.data.image_list import ImageList
from cssegcore.method.replay._base import ExemplarRequest, Replay
from cssegcore.runtime.threads import decoding_threads


def contains(labels: UInt8[np.ndarray, "h w"], known: int) -> Bool[np.ndarray, " c"]:
    """Returns a mask of the `known` classes that labels show; background (0) counts as none."""
    found = np.bincount(labels.ravel(), minlength=known)[:known] > 0
    found[BACKGROUND] = False
    return found


def orders(
    candidates: int, known: int, seed: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Shuffles candidates and classes 1.., with the generator and in the order of the release."""
    rng = np.random.RandomState(seed % 2**32)  # takes no larger one
    shuffled, class_order = np.arange(candidates), np.arange(1, known)
    rng.shuffle(shuffled)
    rng.shuffle(class_order)
    return shuffled, class_order


def choose(
    shown: Bool[np.ndarray, "n c"],
    size: int,
    shuffled: Int[np.ndarray, " n"],
    class_order: Int[np.ndarray, " m"],
) -> dict[int, list[int]]:
    """Chooses candidates in rounds, each class in turn taking the first left that shows it.

    Deviation: it stops when no class finds another candidate; the released loop never ends then.

    Args:
        shown: Whether a candidate shows a class.
        size: Number of candidates wanted.
        shuffled: Order in which candidates are tried.
        class_order: Order of the classes in a round.

    Returns:
        The candidates taken for each class, in the order of being taken; none twice.
    """
    waiting = {int(c): iter(shuffled[shown[shuffled, c]].tolist()) for c in class_order}
    image_list: dict[int, list[int]] = {c: [] for c in sorted(waiting)}
    taken, before = set[int](), -1
    while before < len(taken) < size:
        before = len(taken)
        for c, candidates in waiting.items():
            free = next((at for at in candidates if at not in taken), None)
            if free is not None and len(taken) < size:
                taken.add(free)
                image_list[c].append(free)
    return image_list


@final
@dataclasses.dataclass(frozen=True)
class Exemplars(Replay):
    """A memory of fixed size, chosen anew before each step, from itself and the last list.

    The classes of a candidate come from its annotation: of all classes seen then, if it was kept
    before; else of the step's own classes, completed by confident labels of the previous model.

    Deviations: whole photographs are read, where the release looks at a crop of the centre; a
    photograph that is kept and stands in the previous step's list too is one candidate, not two;
    what a kept photograph shows is read again, so that the classes of the previous step count.

    Attributes:
        size: Photographs kept; 100 (VOC) and 300 (ADE20K) are published.
        share: Share of a batch that is replaced by exemplars; 0 if they are concatenated.
        mix: Whether exemplars take places of the step's images in every batch (`replaced`, SSUL),
            or join them in one list, so that their share is that of their number (`concatenated`,
            DKD and STAR).
        threshold: Least score of a previous model's class that is believed.
        batch_size: Photographs at a time.
        labels: `shifted` makes room for the unknown class, as the network expects. `released` does
            not, as the released code: background is trained as unknown, the first class as
            background, a class as the one before it, and only pseudo-labels are where they belong.
            (There, pseudo-labels may replace the first class as well, as it passes for background.)
            `step`: as the step's own images, with the classes of the step alone (DKD and STAR).
    """

    size: int = 100
    share: float = 0.5
    threshold: float = 0.7
    batch_size: int = 4
    labels: Literal["shifted", "released", "step"] = "shifted"
    mix: Literal["replaced", "concatenated"] = "replaced"
    uses_unknown_class: bool = dataclasses.field(init=False)
    concatenated: bool = dataclasses.field(init=False)
    labelled_as_own: bool = dataclasses.field(init=False)

    selects_exemplars: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("share", "labels", "mix")
    scores: ClassVar[Scores | None] = "sigmoid"

    def __post_init__(self) -> None:
        at_least(1, size=self.size, batch_size=self.batch_size)
        if self.mix == "concatenated" and self.share:
            raise ValueError(
                f"`share` is {self.share}, and exemplars that are concatenated have the share of"
                " their number: set `share` to 0, or `mix` to replaced"
            )
        if self.mix == "replaced" and not 0 < self.share < 1:
            raise ValueError(f"`share` must lie in (0, 1), got {self.share}")
        fraction(threshold=self.threshold)
        object.__setattr__(self, "uses_unknown_class", self.labels != "released")
        object.__setattr__(self, "concatenated", self.mix == "concatenated")
        object.__setattr__(self, "labelled_as_own", self.labels == "step")

    def select_exemplars(self, out: Path, request: ExemplarRequest) -> None:
        kept = request.previous_memory or dataclasses.replace(request.previous_images, images=[])
        there = set(kept.names)
        new = [image for image in request.previous_images.images if image[0] not in there]
        previous = dataclasses.replace(request.previous_images, images=new)
        classes = previous.classes.names

        look = self._completed if previous.index else _annotated
        rows = [*_annotated(request, kept, len(classes)), *look(request, previous, len(classes))]
        shown, candidates = np.stack(rows), kept.images + new
        image_list = choose(shown, self.size, *orders(len(candidates), len(classes), request.seed))
        images = [
            candidates[at] for at in sorted(at for group in image_list.values() for at in group)
        ]
        memory = dataclasses.replace(
            request.current,
            visible=sorted(request.current.classes.foreground),
            images=images,
            ignored=_ignored(request.current, previous, kept),
        )
        memory.write(out / "list.json")
        counts = [
            {"class": classes[c], "chosen": len(group), "candidates": int(shown[:, c].sum())}
            for c, group in image_list.items()
        ]
        manifest = {"images": memory.names, "wanted": self.size, "classes": counts}
        write_manifest(out, manifest)

    def _completed(
        self, request: ExemplarRequest, image_list: ImageList, known: int
    ) -> Iterator[Bool[np.ndarray, " c"]]:
        # here, not above: all else reads no model and pays for no torch
        import torch

        from cssegcore.data.batches import evaluation_batches
        from cssegcore.data.image_store import ImageStore
        from cssegcore.method._confident_labels import complete_labels
        from cssegcore.models.checkpoint import load_model
        from cssegcore.runtime.device import choose_device

        device = choose_device()
        segmenter = load_model(request.model, device).segmenter
        background = 0 if segmenter.unknown is None else 1
        images = ImageStore(request.dataset, image_list)
        batches = evaluation_batches(images, self.batch_size, device, segmenter.normalization)
        for _, batch in request.progress(batches, len(images)):
            with torch.inference_mode():
                logits = segmenter.decisive(segmenter(batch.images).logits)
                labels = complete_labels(
                    logits, batch.labels, self.threshold, background, "sigmoid"
                )
            yield from (contains(image, known) for image in labels.byte().cpu().numpy())


def _ignored(current: ImageList, *earlier: ImageList) -> list[int]:
    """Returns the raw labels that are void in a list or in those that photographs are kept from.

    Where steps list their images, a list names only those void classes that its own images show.
    """
    return sorted({raw for image_list in (current, *earlier) for raw in image_list.ignored})


def _annotated(
    request: ExemplarRequest, image_list: ImageList, known: int
) -> Iterator[Bool[np.ndarray, " c"]]:
    table, dataset = image_list.label_table(), request.dataset
    with ThreadPoolExecutor(decoding_threads()) as pool:
        rows = pool.map(lambda name: contains(table[dataset.label(name)], known), image_list.names)
        yield from request.progress(rows, len(image_list.names))
