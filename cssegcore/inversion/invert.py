"""Gradient descent on the pixels of a batch of images, so that a network sees given classes.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795, for classifiers. Here a segmentation network is asked for a label
map, pixel by pixel. Each iteration shifts and flips image and label map together, so that both
match at the end and no pattern depends on one position.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cssegcore.core.types import Progress
from cssegcore.inversion.competition import competition
from cssegcore.inversion.feature_statistics import batch_norms, record_feature_statistics
from cssegcore.inversion.label_maps import InversionTargets
from cssegcore.inversion.objective import ObjectiveValue, objective
from cssegcore.inversion.settings import InversionSettings
from cssegcore.inversion.targets import (
    bordered,
    class_weights,
    label_map_objective,
    presence_objective,
)
from cssegcore.models.segmenter import Segmenter


@dataclass(frozen=True)
class InvertedBatch:
    """Images drawn out of a network, and the curves of the objective's terms.

    Attributes:
        images: RGB values from 0 to 255.
        rows: One row an iteration: `iteration` (from 1, over all phases), `lr`, and each term
            before its weight.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    rows: list[dict[str, float]]


def layer_factors(segmenter: Segmenter, stem_factor: float) -> dict[str, float]:
    """Returns the factor on the feature statistics of each normalisation that describes images.

    Args:
        segmenter: The network; its extractor lists these normalisations.
        stem_factor: Factor of the normalisations nearest to the input; all others have 1.

    Raises:
        InputError: See `batch_norms`.
    """
    names = {module: name for name, module in batch_norms(segmenter).items()}
    stems = set(segmenter.extractor.input_norms())
    return {
        names[m]: stem_factor if m in stems else 1.0
        for m in segmenter.extractor.norms_with_image_statistics()
    }


def invert(
    segmenter: Segmenter,
    student: Segmenter | None,
    targets: InversionTargets,
    settings: InversionSettings,
    rng: np.random.Generator,
    progress: Progress,
) -> InvertedBatch:
    """Optimises the pixels of a batch by gradient descent.

    On a GPU convolutions run in bfloat16; images, statistics and terms stay in float32.

    Args:
        segmenter: The network to invert, in evaluation mode; it is not changed.
        student: A network of the same outputs; needed if the term `competition` has a weight.
        targets: Contents to show, in the network's classes.
        settings: Numbers of the inversion.
        rng: Draws the first images, shifts and flips.
        progress: Wraps the iterable of a phase's iterations (second argument: their number).

    Raises:
        InputError: A normalisation of the network keeps no running statistics.
        ValueError: See `record_feature_statistics`.
    """
    descent = _Descent(segmenter, student, targets, settings, rng)
    rows: list[tuple[float, dict[str, Tensor]]] = []
    with record_feature_statistics(
        segmenter, layer_factors(segmenter, settings.stem_factor)
    ) as features:
        for reduction, iterations in settings.phases:
            adam = descent.adam()  # fresh: moments of another resolution are wrong for this one
            for at in progress(range(iterations), iterations):
                rate = settings.rate(at, iterations)
                rows.append((rate, descent.step(adam, rate, reduction, features.total).terms))
    names = list(rows[0][1])
    values = torch.stack([torch.stack(list(terms.values())) for _, terms in rows]).tolist()
    table = [
        {"iteration": at + 1.0, "lr": rate, **dict(zip(names, row, strict=True))}
        for at, ((rate, _), row) in enumerate(zip(rows, values, strict=True))
    ]
    return InvertedBatch(descent.photographs(), table)


class _Descent:
    """The images of a batch while they are optimised."""

    def __init__(
        self,
        segmenter: Segmenter,
        student: Segmenter | None,
        targets: InversionTargets,
        settings: InversionSettings,
        rng: np.random.Generator,
    ) -> None:
        self._segmenter, self._student = segmenter, student
        self._settings, self._rng = settings, rng
        self._device = next(segmenter.parameters()).device
        label_maps = torch.from_numpy(targets.label_maps).long().to(self._device)
        self._asked = bordered(label_maps, settings.border)
        self._primaries = torch.from_numpy(targets.primaries).long().to(self._device)
        self._weights = class_weights(self._asked, segmenter.outputs)
        n, h, w = targets.label_maps.shape
        fresh = torch.from_numpy(rng.standard_normal((n, 3, h, w), np.float32))
        values = (segmenter.normalization.mean, segmenter.normalization.std)
        self._mean, self._std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in values
        )
        self._least, self._most = ((v - self._mean) / self._std for v in (0.0, 1.0))
        self.images = fresh.to(self._device, memory_format=torch.channels_last).requires_grad_()

    def adam(self) -> torch.optim.Adam:
        """Returns a new optimiser of the images."""
        fused = self._device.type == "cuda"
        return torch.optim.Adam([self.images], betas=self._settings.betas, fused=fused)

    def step(
        self,
        adam: torch.optim.Adam,
        rate: float,
        reduction: int,
        features: Callable[[], Float[Tensor, ""]],
    ) -> ObjectiveValue:
        """Updates the images once, and returns the objective before the update."""
        view, asked = self._view(reduction)
        logits = self._scores(self._segmenter, view)
        result = objective(
            self._settings.weights,
            view,
            self._target(logits, asked),
            features,
            lambda: self._competition(view, logits),
        )
        adam.zero_grad()
        result.total.backward()
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
        with torch.no_grad():  # keep the value range of photographs
            self.images.copy_(torch.maximum(torch.minimum(self.images, self._most), self._least))
        return result

    def photographs(self) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the images as RGB values from 0 to 255."""
        values = ((self.images.detach() * self._std + self._mean) * 255).round().clamp(0, 255)
        return values.permute(0, 2, 3, 1).byte().contiguous().cpu().numpy()

    def _scores(self, network: Segmenter, view: Tensor) -> Float[Tensor, "n c h w"]:
        kind = self._device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            return network(view).logits

    def _view(self, reduction: int) -> tuple[Float[Tensor, "n 3 h w"], Int[Tensor, "n h w"]]:
        """Reduces, shifts and flips images and label maps together."""
        view, asked = self.images, self._asked
        if reduction > 1:
            view = F.avg_pool2d(view, reduction)
            h, w = view.shape[-2:]
            asked = asked[:, reduction // 2 :: reduction, reduction // 2 :: reduction][:, :h, :w]
        most = math.floor(self._settings.jitter * view.shape[-1])
        shift = self._rng.integers(-most, most, 2, endpoint=True).tolist()
        view, asked = view.roll(shift, (-2, -1)), asked.roll(shift, (-2, -1))
        if self._rng.random() < self._settings.flip:
            view, asked = view.flip(-1), asked.flip(-1)
        return view, asked

    def _target(
        self, logits: Float[Tensor, "n c h w"], asked: Int[Tensor, "n h w"]
    ) -> Float[Tensor, ""]:
        if self._settings.target == "layout":
            return label_map_objective(logits, asked, self._weights)
        return presence_objective(logits, self._primaries, math.exp(self._rng.random()))

    def _competition(self, view: Tensor, logits: Tensor) -> Float[Tensor, ""]:
        assert self._student is not None, "a competition needs a student"
        return competition(logits, self._scores(self._student, view))
