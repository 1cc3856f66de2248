"""A model from its file, and its predictions for arrays."""

import dataclasses
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from cssegcore.data.arrays import ArrayStream, check_rgb_array
from cssegcore.evaluation.score import score_photograph
from cssegcore.models import checkpoint
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import choose_device


@final
@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A step's model, ready to predict.

    Attributes:
        step: Name of the step that trained it.
        classes: Name of each label, background first.
        segmenter: The network, in evaluation mode on `device`.
        device: Device of the network.
    """

    step: str
    classes: tuple[str, ...]
    segmenter: Segmenter
    device: torch.device


@final
@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's prediction for one photograph.

    Attributes:
        labels: The class of each pixel, an index of `LoadedModel.classes`.
        confidences: Score of that class, 0 to 1: of a softmax, or of a sigmoid if the model has an
            unknown class that was trained so. With an unknown class, whose score is added to the
            background's, that sum may exceed 1. A model without a background output has sigmoids,
            and the background's score is 1 minus the highest one.
    """

    labels: UInt8[np.ndarray, "h w"]
    confidences: Float32[np.ndarray, "h w"]


def load(path: str | Path, device: str | torch.device | None = None) -> LoadedModel:
    """Loads a model that a step wrote.

    Args:
        path: File of the model, such as `work/step2/model.safetensors`.
        device: Device of the network; None for `CSSEGCORE_DEVICE`, else the GPU if there is one.

    Raises:
        InputError: The file is missing, damaged, or no model of this library.
    """
    chosen = choose_device() if device is None else torch.device(device)
    loaded = checkpoint.load_model(Path(path), chosen)
    return LoadedModel(loaded.model.step, loaded.model.classes.names, loaded.segmenter, chosen)


def predict(model: LoadedModel, images: ArrayStream) -> list[Prediction]:
    """Labels photographs of any size, one at a time.

    Args:
        model: The model.
        images: RGB photographs, uint8: an array (n, h, w, 3) or a list of arrays (h, w, 3).

    Raises:
        InputError: An array is no photograph.
    """
    images = list(images)
    for at, image in enumerate(images):
        check_rgb_array(image, f"image {at}")
    return [_score(model, image) for image in images]


def _score(model: LoadedModel, image: UInt8[np.ndarray, "h w 3"]) -> Prediction:
    scored = score_photograph(model.segmenter, image, model.device)
    return Prediction(scored.labels, scored.confidences)
