"""Turns annotations into training labels, before training starts: pseudo-labels, unknown class.

A rule sees the labels of one image, as the step's label table maps them: 0 background, 1.. the
classes seen so far, 255 void. It returns network outputs.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from cssegcore.core.errors import InputError
from cssegcore.core.files import read_manifest
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.dataset import Dataset, read_labels
from cssegcore.data.image_store import LabelRule, Labels
from cssegcore.method.method import Method
from cssegcore.method.unknown_class import Unknown
from cssegcore.saliency.reading import Maps

ListKind = Literal["train", "memory"]
"""The list that an image is of: the step's own images, or the exemplars of earlier steps."""


def label_rule(
    dataset: Dataset,
    method: Method,
    kind: ListKind,
    *,
    pseudo_labels: Path | None = None,
    saliency: Path | None = None,
) -> LabelRule | None:
    """Returns the rule that makes training labels: first pseudo-labels, then the unknown class.

    Args:
        dataset: The dataset of the images.
        method: The parts that act in the step.
        kind: The list of the images.
        pseudo_labels: Folder of the step's pseudo-labels and their manifest, if there are any.
        saliency: Folder of the saliency maps and their manifest, if there are any.

    Returns:
        A function of an image's name and its mapped annotation (h, w), which returns the labels to
        train on and the annotation, in network outputs; None if both are the mapped annotation.

    Raises:
        InputError: The unknown class needs saliency maps and there are none, or a manifest cannot
            be read. The rule itself raises it if a label image or a map is missing or unreadable.
    """
    predicted = _pseudo_labels(pseudo_labels, kind)
    maps = _saliency_maps(dataset, method.unknown, saliency)
    if _keeps_outputs(method, kind):
        add = functools.partial(_add_to_unshifted, method.unknown)
    else:
        add = functools.partial(_relabel_both, method.unknown, maps)
    if not predicted and not method.unknown.present:
        return None

    def make_labels(name: str, annotated: Labels) -> tuple[Labels, Labels]:
        labels = read_labels(predicted[name], annotated.shape) if name in predicted else annotated
        return add(name, labels, annotated)

    return make_labels


def padding(method: Method, kind: ListKind) -> int:
    """Returns the network output that the black padding of an image is labelled with.

    Padding counts as background that is not salient, as in the released code of SSUL
    (clovaai/SSUL, utils/ext_transforms.py pads label and saliency with 0). So it becomes unknown
    where all background does, and stays background in exemplars that keep their labels.
    """
    if _keeps_outputs(method, kind):
        return BACKGROUND
    background = np.full((1, 1), BACKGROUND, np.uint8)
    return int(method.unknown.relabel(background, background != BACKGROUND).item())


def _keeps_outputs(method: Method, kind: ListKind) -> bool:
    """Whether annotations make no room for the unknown class: exemplars of SSUL as released."""
    return kind == "memory" and not method.replay.uses_unknown_class


def _relabel_both(
    unknown: Unknown, maps: Maps | None, name: str, labels: Labels, annotated: Labels
) -> tuple[Labels, Labels]:
    salient = maps.of(name) if maps else None
    return unknown.relabel(labels, salient), unknown.relabel(annotated, salient)


def _add_to_unshifted(
    unknown: Unknown, name: str, labels: Labels, annotated: Labels
) -> tuple[Labels, Labels]:
    """Adds pseudo-labels as network outputs to an annotation that stays below the unknown class."""
    del name
    predicted = (annotated == BACKGROUND) & (labels != BACKGROUND) & (labels != IGNORE)
    return np.where(predicted, labels + unknown.present, annotated), annotated


def _pseudo_labels(folder: Path | None, kind: ListKind) -> Mapping[str, Path]:
    if folder is None:
        return {}
    names = read_manifest(folder, "images")["images"].get(kind, [])
    return {name: folder / kind / f"{name}.png" for name in names}


def _saliency_maps(dataset: Dataset, unknown: Unknown, folder: Path | None) -> Maps | None:
    if not unknown.by_saliency:
        return None
    if folder is None:
        raise InputError("the unknown class needs saliency maps: run `dvc repro saliency`.")
    return Maps.open(folder, dataset)
