"""torchvision's ResNets without their classifier, and those that MiB and PLOP were published on."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.backbones.pretrained import PretrainedWeights, Style

PLAIN = (False, False, False)


@dataclasses.dataclass(frozen=True)
class _Ways:
    """What one family of ResNets does otherwise than another.

    Attributes:
        leak: Slope of its activations below 0.
        dilates_first: Whether a stage's dilation holds from its first block on; else that block
            has the dilation of the stage before.
    """

    leak: float
    dilates_first: bool


WAYS: dict[Style, _Ways] = {
    "torchvision": _Ways(leak=0.0, dilates_first=False),
    "mapillary": _Ways(leak=0.01, dilates_first=True),
}


class ResNet(nn.Sequential):
    """The stem's layers and the four stages; gives the residual sum that ends each stage.

    Published stages end with an activation; here the next stage begins with it, so `activation` of
    the last sum is what the published network pools.

    Attributes:
        activation: What follows a residual sum; not in place.
    """

    def __init__(self, parts: Iterable[nn.Module], leak: float) -> None:
        super().__init__(*parts)
        self.activation: Callable[[Tensor], Tensor] = (
            functools.partial(F.leaky_relu, negative_slope=leak) if leak else F.relu
        )

    def forward(self, input: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        features, stages = input, []
        for part in self:
            features = part(self.activation(stages[-1]) if stages else features)
            if isinstance(part, _Stage):
                stages.append(features)
        return tuple(stages)


class _Stage(nn.Sequential):
    """A stage of torchvision's ResNet that stops before its last activation.

    Same children and so the same keys in a state dict. The sum of the last block is kept for losses
    that compare it, so its activation must not happen in place.
    """

    def forward(self, input: Float[Tensor, "b n h w"]) -> Float[Tensor, "b m hs ws"]:
        blocks: list[Any] = list(self)
        features, last = input, blocks.pop()
        for block in blocks:
            features = block(features)
        path = last.bn2(last.conv2(last.relu(last.bn1(last.conv1(features)))))
        if hasattr(last, "conv3"):  # a bottleneck; the blocks of ResNet-18 have two convolutions
            path = last.bn3(last.conv3(last.relu(path)))
        shortcut = features if last.downsample is None else last.downsample(features)
        return path + shortcut


def resnet(weights: PretrainedWeights, dilate: Sequence[bool] = PLAIN) -> ResNet:
    """Builds a ResNet with its starting weights.

    The style `mapillary` is the network of https://github.com/fcdl94/MiB (models/resnet.py,
    modules/residual.py): leaky activations, and a dilated stage is dilated from its first block
    on. There, in-place ABN is trained with |gamma| + eps for a scale; here it is a plain
    normalisation and an activation.

    Args:
        weights: Which network, and what it begins with.
        dilate: For each stage but the first, whether its stride becomes a dilation; bottlenecks
            only, so not those of ResNet-18.

    Raises:
        InputError: The weights cannot be had or do not fit.
    """
    from torchvision import models  # slow to import; only real backbones pay for it

    network: Any = models.get_model(
        weights.backbone, weights=None, replace_stride_with_dilation=list(dilate)
    )
    del network.fc, network.avgpool
    weights.fill(network)
    ways = WAYS[weights.style]
    if ways.leak:
        for module in [m for m in network.modules() if hasattr(m, "relu")]:
            module.relu = nn.LeakyReLU(ways.leak, inplace=True)
    if ways.dilates_first:
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            first, second = stage[0].conv2, stage[1].conv2
            first.dilation, first.padding = second.dilation, second.padding
    parts = (_Stage(*p) if isinstance(p, nn.Sequential) else p for p in network.children())
    return ResNet(parts, ways.leak)


def check_weights(weights: PretrainedWeights) -> None:
    """Makes sure that `resnet` will get its weights, and that they are those that are meant.

    Raises:
        InputError: They cannot be had, do not fit, or have another digest.
    """
    weights.check()
    if weights.source != "none":
        resnet(weights)
