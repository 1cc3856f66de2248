"""Training views of photographs: one module a rule, found by name."""

from cssegcore.data.augmentation._base import Augmentation as Augmentation
from cssegcore.data.augmentation._base import Crops as Crops

AUGMENTATIONS = "cssegcore.data.augmentation"
"""The slot of the section `augmentation`."""
