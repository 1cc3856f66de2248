"""What an architecture gives: a extractor that turns photographs into features."""

import abc
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.outputs import Features


class FeatureExtractor(nn.Module, abc.ABC):
    """Backbone and decoder: everything below the classifiers.

    Attributes:
        channels: Depth d of the features that the classifiers read.
        last_stage_channels: Depth n of the backbone's last stage.
        backbone: The part that pretrained weights fill; the rest of a extractor is its decoder.
        auxiliary_channels: Depth of each of `Features.auxiliary`, which classifiers of their own
            read in training.
        auxiliary_weight: What their losses are multiplied by.
    """

    channels: int
    last_stage_channels: int
    backbone: nn.Module
    auxiliary_channels: tuple[int, ...] = ()
    auxiliary_weight: float = 0.0

    @abc.abstractmethod
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """Computes features; those that classifiers read have the network's output stride."""

    def input_norms(self) -> list[nn.BatchNorm2d]:
        """Returns the normalisations that see the photograph first, one a path.

        Their statistics are those of colours and edges, so DeepInversion weighs them more.
        """
        return [next(m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d))]

    def norms_with_image_statistics(self) -> list[nn.BatchNorm2d]:
        """Returns the normalisations whose statistics describe photographs, input norms included.

        Not those of decoders: theirs depend on which classes are shown, and where.
        """
        return [m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d)]


class Architecture(abc.ABC):
    """A network's numbers, and how to build it; the dataclass of a part.

    Attributes:
        fewest_images: That its extractor can be trained on at a time.
    """

    fewest_images: ClassVar[int] = 1

    def check(self) -> None:
        """Makes sure that what `extractor` needs is at hand; by default it needs nothing.

        Raises:
            InputError: Pretrained weights are asked for and cannot be had.
        """
        return

    @abc.abstractmethod
    def extractor(self) -> FeatureExtractor:
        """Builds the extractor with fresh (or pretrained) weights; raises what `check` raises."""
