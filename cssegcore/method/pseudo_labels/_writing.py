"""Shared by all rules: the previous model's logits, label images and counts for the manifest."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.core.files import replacing, write_manifest
from cssegcore.core.palette import save_labels
from cssegcore.core.types import BACKGROUND
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.method.pseudo_labels._base import LabelRequest
from cssegcore.models.checkpoint import load_model
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.distributed import all_reduce_sum, world


@dataclasses.dataclass(frozen=True)
class Ruling:
    """A rule's result for a batch.

    Attributes:
        labels: Training labels: 0 background, 1.. the classes seen, 255 ignored.
        predicted: The previous model's class in the same numbers; other numbers (an unknown class)
            are not counted.
        accepted: Mask of the predictions that the rule accepts. Only pixels annotated as background
            are counted; other pixels may have any value here and in `predicted`.
    """

    labels: Int[Tensor, "b h w"]
    predicted: Int[Tensor, "b h w"]
    accepted: Bool[Tensor, "b h w"]


PixelRule = Callable[[Float[Tensor, "b k h w"], Int[Tensor, "b h w"]], Ruling]
"""Maps the previous model's logits and the annotated labels (255 void) to a result."""


@final
class Writer:
    """Runs the previous model on whole photographs and writes a rule's results.

    The processes of `process_group` share the photographs, whole batches each.

    Attributes:
        known: Names of the previous steps' classes, background first: a label from the previous
            model is one of them.
        total: Number of classes, those of this step included.
    """

    def __init__(self, out: Path, request: LabelRequest, batch_size: int) -> None:
        """Loads the previous model and finds the photographs of all lists.

        Args:
            out: Folder of the label images and the manifest.
            request: The photographs, their lists and the model.
            batch_size: Most photographs of a batch; all photographs of a batch have one size.

        Raises:
            InputError: The model or a photograph cannot be read.
        """
        classes = request.lists["train"].classes
        self.known, self.total = classes.old.names, len(classes.names)
        self._out, self._task, self._batch_size = out, request, batch_size
        self._device = choose_device()
        self._segmenter = load_model(request.model, self._device).segmenter
        self._images = {
            k: ImageStore(request.dataset, image_list) for k, image_list in request.lists.items()
        }

    def predictions(
        self, which: str
    ) -> Iterator[tuple[list[str], Float[Tensor, "b k h w"], Int[Tensor, "b h w"]]]:
        """Yields names, the previous model's logits and annotated labels of this process's images.

        Raises:
            InputError: A photograph or label image cannot be read, or is not what the index read.
        """
        images = self._images[which]
        normalization = self._segmenter.normalization
        batches = evaluation_batches(images, self._batch_size, self._device, normalization, world())
        for names, batch in self._task.progress(batches, len(images)):
            with torch.inference_mode():
                logits = self._segmenter.decisive(self._segmenter(batch.images).logits)
            yield names, logits, batch.labels

    def total_of(self, counts: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Returns the sum of all processes' counts, on the host."""
        return all_reduce_sum(counts.to(self._device)).cpu()

    def write(
        self, rule: PixelRule, thresholds: Sequence[float | None]
    ) -> list[tuple[str, int, int]]:
        """Writes the label images of all lists, and the manifest in the first process.

        Args:
            rule: Labels a batch.
            thresholds: Threshold of each class in `known`, for the manifest; None for infinity,
                which JSON lacks.

        Returns:
            Each class in `known`, the number of background pixels that the model predicts to be of
            it, and of those that the rule accepts.

        Raises:
            InputError: A file cannot be read or written.
        """
        counts = torch.zeros(2, len(self.known), dtype=torch.int64)
        background = torch.zeros((), dtype=torch.int64)
        for which in self._images:
            for names, logits, labels in self.predictions(which):
                ruling = rule(logits, labels)
                open_to_rule = labels == BACKGROUND
                background += open_to_rule.sum().cpu()
                counts += self._count(ruling, open_to_rule)
                for name, image in zip(names, ruling.labels.cpu().numpy(), strict=True):
                    with replacing(self._out / which / f"{name}.png", durable=False) as temporary:
                        save_labels(temporary, image)
        counts, background = self.total_of(counts), self.total_of(background)  # all are done
        predicted, accepted = counts.tolist()
        told = list(zip(self.known, predicted, accepted, strict=True))
        if not world().is_main:
            return told
        rows = zip(self.known, thresholds, predicted, accepted, strict=True)
        keys = ("class", "threshold", "predicted", "accepted")
        manifest = {
            "images": {key: images.names for key, images in self._images.items()},
            "background": int(background),
            "classes": [dict(zip(keys, row, strict=True)) for row in rows],
        }
        write_manifest(self._out, manifest)
        return told

    def _count(self, ruling: Ruling, background: Bool[Tensor, "b h w"]) -> Int[Tensor, "2 k"]:
        """Counts background pixels predicted to be of each class, and accepted ones."""
        size = len(self.known)
        counted = background & (ruling.predicted >= 0) & (ruling.predicted < size)
        each = [ruling.predicted[where] for where in (counted, counted & ruling.accepted)]
        return torch.stack([torch.bincount(values, minlength=size) for values in each]).cpu()
