"""The section `augmentation`: a rule that crops, and any number of transforms of the crops."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part, part_module
from cssegcore.data.augmentation._base import CropRule, Crops, Transform

SLOT = "cssegcore.data.augmentation"
SECTION = "augmentation"
TRANSFORMS = "transforms"


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The random numbers of b images, on the host.

    Attributes:
        views: Their crops.
        acts: Whether each transform changes an image: one array a transform.
        numbers: The numbers of each transform, float32.
    """

    views: Crops
    acts: tuple[Bool[np.ndarray, " b"], ...] = ()
    numbers: tuple[Float[np.ndarray, "b _"], ...] = ()

    def of(self, images: slice) -> "Drawn":
        """Returns the numbers of some of the images."""
        return Drawn(
            Crops(self.views.boxes[images], self.views.flips[images]),
            tuple(one[images] for one in self.acts),
            tuple(one[images] for one in self.numbers),
        )


@final
@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images: a crop and changes of it.

    Attributes:
        crop: The rule that cuts a crop out of each photograph.
        transforms: The changes of the crops, in this order.
    """

    crop: CropRule
    transforms: tuple[Transform, ...] = ()

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> "Augmentation":
        """Builds the parts that the section `augmentation` names.

        Raises:
            InputError: A part is unknown or of the other kind, or refuses a number.
        """
        crop, transforms = _recipes(section)
        return cls(
            build_part(SLOT, CropRule, crop, SECTION),
            tuple(build_part(SLOT, Transform, one, where) for where, one in transforms),
        )

    @property
    def size(self) -> int:
        """Height and width of every view, in pixels."""
        return self.crop.size

    @property
    def pads(self) -> bool:
        """Whether black border is trained on; see `CropRule`."""
        return self.crop.pads

    def draw(self, sizes: NDArray[np.int64], rng: np.random.Generator) -> Drawn:
        """Draws the numbers of images of the given heights and widths, shape (b, 2)."""
        views, count = self.crop.draw(sizes, rng), len(sizes)
        acts, numbers = [], []
        for transform in self.transforms:
            acts.append(rng.random(count) < transform.probability)
            numbers.append(transform.draw(count, rng).astype(np.float32))
        return Drawn(views, tuple(acts), tuple(numbers))

    def transform(
        self,
        images: Float[Tensor, "b 3 s s"],
        labels: Int[Tensor, "m b s s"],
        acts: Sequence[Bool[Tensor, " b"]],
        numbers: Sequence[Float[Tensor, "b _"]],
        padding: Int[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
        """Applies the transforms to a batch of crops; see `Drawn` and `Transform.apply`."""
        for transform, acting, own in zip(self.transforms, acts, numbers, strict=True):
            changed, moved = transform.apply(images, labels, own, padding)
            images = torch.where(acting[:, None, None, None], changed, images)
            if moved is not labels:
                labels = torch.where(acting[:, None, None], moved, labels)
        return images, labels


def augmentation_modules(section: Mapping[str, Any]) -> list[str]:
    """Lists the modules of the parts that the section `augmentation` names.

    Raises:
        InputError: A part is unknown.
    """
    crop, transforms = _recipes(section)
    recipes = [(SECTION, crop), *transforms]
    return [part_module(SLOT, recipe, where) for where, recipe in recipes]


def _recipes(section: object) -> tuple[object, list[tuple[str, object]]]:
    """Returns the recipe of the crop, and key and recipe of each transform."""
    if not isinstance(section, Mapping):
        return section, []
    transforms = section.get(TRANSFORMS, [])
    where = f"{SECTION}.{TRANSFORMS}"
    if not isinstance(transforms, list | tuple):
        raise InputError(f"`{where}` must be a list of mappings, got {transforms!r}.")
    crop = {key: value for key, value in section.items() if key != TRANSFORMS}
    return crop, [(f"{where}[{at}]", one) for at, one in enumerate(transforms)]
