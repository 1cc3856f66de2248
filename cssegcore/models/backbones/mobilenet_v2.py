"""torchvision's MobileNetV2 without its classifier, for the output strides 32, 16 and 8.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018,
https://arxiv.org/abs/1801.04381. As its section 6.3 has it for DeepLabV3, the last features are the
320 channels of the last bottleneck, not the 1280 that the classifier reads.
"""

import dataclasses
from typing import Any, final

from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.backbones._base import Backbone, BackboneKind
from cssegcore.models.backbones._torchvision import imagenet_weights

STAGES = (4, 7, 14, 18)
"""Number of layers up to the end of stride 4, 8, 16 and 32."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV2(BackboneKind):
    """MobileNetV2 of width 1."""

    UNUSED = ("features.18.", "classifier.")

    @property
    def title(self) -> str:
        return "torchvision's mobilenet_v2"

    def fresh(self, output_stride: int) -> Backbone:
        from torchvision import models  # slow to import; only real backbones pay for it

        layers = list(models.mobilenet_v2(weights=None).features)[: STAGES[-1]]
        stride = dilation = 1
        strides = []
        for layer in layers:
            convolution = _spatial(layer)
            (step, _) = convolution.stride
            convolution.dilation = convolution.padding = (dilation, dilation)
            if stride * step > output_stride:  # the next layers are the first with the new dilation
                convolution.stride, dilation = (1, 1), dilation * step
            else:
                stride *= step
            strides.append(stride)
        return _MobileNetV2(layers, tuple(strides[end - 1] for end in STAGES))

    def download(self) -> dict[str, Tensor]:
        return imagenet_weights("mobilenet_v2")


def _spatial(layer: nn.Module) -> nn.Conv2d:
    """Returns the one convolution of a layer that is larger than 1x1."""
    convolutions = (m for m in layer.modules() if isinstance(m, nn.Conv2d))
    return next(c for c in convolutions if c.kernel_size != (1, 1))


class _MobileNetV2(Backbone):
    """The first 18 of torchvision's layers, under its keys; bottlenecks end without activation."""

    def __init__(self, layers: list[Any], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.features = nn.Sequential(*layers)
        self.channels = tuple(layers[end - 1].out_channels for end in STAGES)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        features, kept = images, []
        for count, layer in enumerate(self.features, 1):
            features = layer(features)
            if count in STAGES:
                kept.append(features)
        return tuple(kept)
