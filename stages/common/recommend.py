"""What a dataset of one's own asks for: network, crop and schedule by its photographs."""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

from cssegcore.core.errors import InputError

LOOKED_AT = 100
"""Photographs whose sizes are read."""

TINY, LARGE = 160, 800
"""Shorter sides in pixels: up to the first, details are a few pixels wide; from the second on, a
photograph is shown smaller than it is."""

MANY = 4000
"""Training photographs from which on the field's large network pays."""

ITERATIONS = 1500
"""Of the base step: what the embedded dataset and the animals are trained for."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What a scenario chooses, and why.

    Attributes:
        overrides: Of other groups, as in a scenario's `defaults`.
        numbers: Further values, section by section.
        reason: The sizes and numbers that it follows from.
    """

    overrides: Mapping[str, str]
    numbers: Mapping[str, Any]
    reason: str


def recommend(
    dataset: str, root: str, layout: Mapping[str, Any], classes: list[str]
) -> Recommendation:
    """Looks at the training photographs of a dataset.

    Args:
        dataset: Its name in conf/dataset/.
        root: Its folder.
        layout: The section `dataset.layout`.
        classes: Names of raw labels, background first.

    Raises:
        InputError: The dataset cannot be read.
    """
    from cssegcore.data.dataset import open_dataset

    settings = {"name": dataset, "root": root, "layout": dict(layout), "classes": classes}
    opened = open_dataset(settings)
    names = opened.names("train")
    if not names:
        raise InputError(f"the dataset {dataset} has no training image to go by: name --like one.")
    some = names[:: -(-len(names) // LOOKED_AT)]
    side = int(statistics.median(min(opened.image_size(name)) for name in some))
    return choose(len(names), side)


def choose(count: int, side: int) -> Recommendation:
    """Chooses by the number of training photographs and the median of their shorter sides.

    - up to `TINY` pixels, the small network from scratch on whole photographs;
    - above, MobileNetV2 trained on ImageNet under the light decoder, on crops of 320 pixels;
    - from `MANY` photographs on, DeepLabV3 on ResNet-101 with the field's crops and schedule.

    Photographs of more than `LARGE` pixels are tested at the size of the crops, which are cut out
    of half a photograph or more; `predict --size` shows them so, too.
    """
    if side <= TINY:
        kind, batch, crop = "shapes", 8, max(16, side // 16 * 16)
        overrides = {"model": "small", "optimizer": "sgd"}
        rates = (0.05, 0.02)
    elif count < MANY:
        kind, batch, crop = "animals", 16, min(320, side // 32 * 32)
        overrides = {"model": "small_mobilenet", "optimizer": "animals"}
        rates = (0.03, 0.005)
    else:
        kind, batch, crop = "published", 24, min(512, side // 32 * 32)
        overrides = {"model": "deeplabv3_r101", "optimizer": "published"}
        rates = (0.01, 0.001)
    schedule = {"published": "voc"}.get(kind, kind)
    epochs = 30 if kind == "published" else min(60, max(8, round(ITERATIONS * batch / count)))
    later = 30 if kind == "published" else max(6, epochs // 2)
    numbers: dict[str, Any] = {
        "augmentation": {"size": crop},
        "schedule": {
            "base": {"epochs": epochs, "lr": rates[0]},
            "increment": {"epochs": later, "lr": rates[1]},
        },
    }
    if kind == "animals":
        # torchvision's own weights, which are fetched, instead of a file that is not
        backbone = {"weights": "imagenet", "sha256": "", "normalization": None}
        numbers["model"] = {"backbone": backbone}
    if side > LARGE:
        numbers["evaluation"] = {"view": "crop", "size": crop}
    overrides |= {"augmentation": kind, "schedule": schedule}
    reason = f"{count} training photographs, shorter side {side} pixels"
    return Recommendation({f"override /{k}": v for k, v in overrides.items()}, numbers, reason)
