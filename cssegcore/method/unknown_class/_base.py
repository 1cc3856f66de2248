"""Interface of a rule for the unknown class.

With an unknown class the network's outputs are [unknown, background, classes...], without one
[background, classes...]. No torch here: stages ask before they import it.
"""

import abc
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, UInt8

from cssegcore.saliency import Origin


class Unknown(abc.ABC):
    """Turns labels (0 background, 1.. the classes seen, 255 void) into network outputs.

    Attributes:
        present: Whether the network has an output for the unknown class.
        by_saliency: Whether `relabel` reads saliency.
        maps: Source of the saliency maps, if it reads them.
    """

    present: ClassVar[bool]
    by_saliency: ClassVar[bool] = False
    maps: Origin

    @abc.abstractmethod
    def relabel(
        self, labels: UInt8[np.ndarray, "h w"], salient: Bool[np.ndarray, "h w"] | None
    ) -> UInt8[np.ndarray, "h w"]:
        """Returns network outputs; `salient` is given if `by_saliency`."""
