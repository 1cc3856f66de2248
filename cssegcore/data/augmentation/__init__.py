"""Training views of photographs: one module a rule, found by name.

The section `augmentation` names a rule that crops, and may list transforms of the crops:

    augmentation:
      part: random_resized_crop
      size: 512
      transforms:
        - {part: color_jitter, brightness: 0.4, contrast: 0.4}
        - {part: gaussian_blur, sigma: [0.1, 2.0], probability: 0.5}
"""

from cssegcore.data.augmentation._base import CropRule as CropRule
from cssegcore.data.augmentation._base import Crops as Crops
from cssegcore.data.augmentation._base import Transform as Transform
from cssegcore.data.augmentation._composed import Augmentation as Augmentation
from cssegcore.data.augmentation._composed import Drawn as Drawn
from cssegcore.data.augmentation._composed import augmentation_modules as augmentation_modules
