"""The descent: a batch of images drawn out of a segmentation network.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795, for classifiers. A segmentation network is asked for a layout
here, pixel by pixel, which shifts and flips along with the image: so image and labels come out
together, and nothing is learned that only holds at one place.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cssegcore.inversion.competition import competition
from cssegcore.inversion.feature_statistics import batch_norms, record_feature_statistics
from cssegcore.inversion.objective import Objective, objective
from cssegcore.inversion.settings import Settings
from cssegcore.inversion.targets import (
    bordered,
    class_weights,
    layout_objective,
    presence_objective,
)
from cssegcore.models.segmenter import Segmenter

Row = dict[str, float]
"""One iteration: `iteration` (from 1, over all phases), `lr`, and each term before its weight."""


@dataclass(frozen=True)
class Wanted:
    """What a batch shall show.

    Attributes:
        primaries: The class that each image is made for.
        layouts: The class of each pixel.
    """

    primaries: Int[np.ndarray, " n"]
    layouts: UInt8[np.ndarray, "n s s"]


@dataclass(frozen=True)
class Inverted:
    """Images drawn out of a network (photograph values 0 to 255), and how the terms fell."""

    images: UInt8[np.ndarray, "n s s 3"]
    rows: list[Row]


def factors(segmenter: Segmenter, stem_factor: float) -> dict[str, float]:
    """Returns what the feature statistics of each described normalisation are multiplied by.

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
    wanted: Wanted,
    settings: Settings,
    rng: np.random.Generator,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
) -> Inverted:
    """Descends on the pixels of a batch.

    On a GPU convolutions run in bfloat16; images, statistics and terms stay in float32.

    Args:
        segmenter: The network to invert, in evaluation mode; left as it was.
        student: A network of the same outputs, for the competition; needed if that has a weight.
        wanted: What to show, in the network's classes.
        settings: How.
        rng: Draws the first images, shifts and flips.
        progress: Wraps the iterable of a phase's iterations (second argument: how many).

    Raises:
        InputError: The network has no running statistics to draw from.
        ValueError: See `record_feature_statistics`.
    """
    descent = _Descent(segmenter, student, wanted, settings, rng)
    rows: list[tuple[float, dict[str, Tensor]]] = []
    with record_feature_statistics(segmenter, factors(segmenter, settings.stem_factor)) as features:
        for reduction, iterations in settings.phases:
            adam = descent.adam()  # afresh: moments of another resolution mislead
            for at in progress(range(iterations), iterations):
                rate = settings.rate(at, iterations)
                rows.append((rate, descent.step(adam, rate, reduction, features.total).terms))
    names = list(rows[0][1])
    values = torch.stack([torch.stack(list(terms.values())) for _, terms in rows]).tolist()
    table = [
        {"iteration": at + 1.0, "lr": rate, **dict(zip(names, row, strict=True))}
        for at, ((rate, _), row) in enumerate(zip(rows, values, strict=True))
    ]
    return Inverted(descent.photographs(), table)


class _Descent:
    """The images on their way down."""

    def __init__(
        self,
        segmenter: Segmenter,
        student: Segmenter | None,
        wanted: Wanted,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        self._segmenter, self._student = segmenter, student
        self._settings, self._rng = settings, rng
        self._device = next(segmenter.parameters()).device
        layouts = torch.from_numpy(wanted.layouts).long().to(self._device)
        self._asked = bordered(layouts, settings.border)
        self._primaries = torch.from_numpy(wanted.primaries).long().to(self._device)
        self._weights = class_weights(self._asked, segmenter.outputs)
        n, h, w = wanted.layouts.shape
        fresh = torch.from_numpy(rng.standard_normal((n, 3, h, w), np.float32))
        values = (segmenter.normalization.mean, segmenter.normalization.std)
        self._mean, self._std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in values
        )
        self._least, self._most = ((v - self._mean) / self._std for v in (0.0, 1.0))
        self.images = fresh.to(self._device, memory_format=torch.channels_last).requires_grad_()

    def adam(self) -> torch.optim.Adam:
        """Returns a fresh optimiser of the images."""
        fused = self._device.type == "cuda"
        return torch.optim.Adam([self.images], betas=self._settings.betas, fused=fused)

    def step(
        self,
        adam: torch.optim.Adam,
        rate: float,
        reduction: int,
        features: Callable[[], Float[Tensor, ""]],
    ) -> Objective:
        """Moves the images once."""
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
        with torch.no_grad():  # a photograph has no other values
            self.images.copy_(torch.maximum(torch.minimum(self.images, self._most), self._least))
        return result

    def photographs(self) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the images as they are stored."""
        values = ((self.images.detach() * self._std + self._mean) * 255).round().clamp(0, 255)
        return values.permute(0, 2, 3, 1).byte().contiguous().cpu().numpy()

    def _scores(self, network: Segmenter, view: Tensor) -> Float[Tensor, "n c h w"]:
        kind = self._device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            return network(view).logits

    def _view(self, reduction: int) -> tuple[Float[Tensor, "n 3 h w"], Int[Tensor, "n h w"]]:
        """Reduces, shifts and flips images and layouts alike."""
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
            return layout_objective(logits, asked, self._weights)
        return presence_objective(logits, self._primaries, math.exp(self._rng.random()))

    def _competition(self, view: Tensor, logits: Tensor) -> Float[Tensor, ""]:
        assert self._student is not None, "a competition needs a student"
        return competition(logits, self._scores(self._student, view))
