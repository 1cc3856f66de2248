"""DeepLabV3 on torchvision's ResNets.

Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017,
https://arxiv.org/abs/1706.05587. The decoder is the one that the MiB family published its numbers
with: the pooled branch is added to the projected convolutions instead of concatenated, activations
are leaky, and there is no dropout.
"""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.errors import InputError
from cssegcore.files import UNREADABLE
from cssegcore.networks._base import Architecture, Trunk
from cssegcore.outputs import Features

LEAK = 0.01
RATES = {16: (6, 12, 18), 8: (12, 24, 32)}
"""Dilations of the decoder by output stride; 32 (not 36) as the MiB family published it."""


@final
@dataclasses.dataclass(frozen=True)
class DeepLabV3(Architecture):
    """Backbone, output stride and starting weights.

    Attributes:
        backbone: Which of torchvision's ResNets; those whose blocks can be dilated.
        output_stride: 16 or 8.
        weights: `none` (from scratch), `imagenet` (torchvision's, downloaded or cached), or the
            path of a state dict of that torchvision network.
        depth: Channels d of the decoder.
    """

    backbone: Literal["resnet50", "resnet101"] = "resnet101"
    output_stride: Literal[16, 8] = 16
    weights: str = "imagenet"
    depth: int = 256

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"`depth` must be >= 1, got {self.depth}")
        if self.weights not in ("none", "imagenet") and not Path(self.weights).is_file():
            raise ValueError(
                f"`weights` is {self.weights!r}, and there is no such file: give the path of a"
                f" torchvision {self.backbone} state dict, `imagenet` or `none`"
            )

    def check(self) -> None:
        if self.weights != "none":
            _resnet(self)

    def trunk(self) -> Trunk:
        return _DeepLabTrunk(self)


class _DeepLabTrunk(Trunk):
    def __init__(self, numbers: DeepLabV3) -> None:
        super().__init__()
        self.channels, self.body_channels = numbers.depth, 2048
        self.backbone = _resnet(numbers)
        self.decoder = _Decoder(2048, numbers.depth, RATES[numbers.output_stride])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        if self.decoder.pooled_norm[0].training and len(images) == 1:
            raise InputError(
                "deeplabv3 cannot train on one image a batch, whose pooled features have no"
                " variance: set `optimizer.batch_size` to 2 or more and give the step two images."
            )
        features, taps = images, []
        for part in self.backbone.children():
            features = part(features)
            if isinstance(part, _Stage):
                taps.append(features)
                features = F.relu(features)
        return Features(tuple(taps), features, self.decoder(features))


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
        path = last.relu(last.bn1(last.conv1(features)))
        path = last.relu(last.bn2(last.conv2(path)))
        shortcut = features if last.downsample is None else last.downsample(features)
        return last.bn3(last.conv3(path)) + shortcut


def _resnet(numbers: DeepLabV3) -> nn.Sequential:
    from torchvision import models  # slow to import; only real backbones pay for it

    dilate = [False, numbers.output_stride == 8, True]
    network = models.get_model(numbers.backbone, weights=None, replace_stride_with_dilation=dilate)
    if numbers.weights == "imagenet":
        _fill(network, _imagenet(numbers.backbone), numbers.backbone)
    elif numbers.weights != "none":
        _fill(network, Path(numbers.weights), numbers.backbone)
    parts = [m for n, m in network.named_children() if n not in ("avgpool", "fc")]
    return nn.Sequential(*(_Stage(*p) if isinstance(p, nn.Sequential) else p for p in parts))


def _imagenet(backbone: str) -> Path:
    """Returns where torchvision keeps its weights, fetched if they are not there."""
    from torchvision import models

    url = models.get_model_weights(backbone)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not path.exists():
        digest = path.stem.rsplit("-", 1)[-1]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: the digest differs
            raise InputError(
                f"`model.weights` is imagenet, and {path.name} is neither cached nor to be"
                f" downloaded ({error}): put the file into {path.parent}, or set `model.weights` to"
                " its path, or to `none` to train from scratch."
            ) from None
    return path


def _fill(network: nn.Module, path: Path, backbone: str) -> None:
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (*UNREADABLE, TypeError) as error:
        raise InputError(
            f"`model.weights`: {path} cannot be used ({textwrap.shorten(str(error), 160)}): it must"
            f" hold a state dict of torchvision's {backbone}; a damaged download must be deleted."
        ) from None


class _Decoder(nn.Module):
    """Atrous spatial pyramid pooling, summed with a pooled branch."""

    def __init__(self, inputs: int, depth: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [nn.Conv2d(inputs, depth, 1, bias=False)]
            + [nn.Conv2d(inputs, depth, 3, 1, r, r, bias=False) for r in rates]
        )
        self.branches_norm = _activated(4 * depth)
        self.project = nn.Conv2d(4 * depth, depth, 1, bias=False)
        self.pooled = nn.Conv2d(inputs, depth, 1, bias=False)
        self.pooled_norm = _activated(depth)
        self.pooled_project = nn.Conv2d(depth, depth, 1, bias=False)
        self.norm = _activated(depth)
        gain = nn.init.calculate_gain("leaky_relu", LEAK)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)

    def forward(self, body: Float[Tensor, "b n hs ws"]) -> Float[Tensor, "b d hs ws"]:
        spread = self.branches_norm(torch.cat([branch(body) for branch in self.branches], 1))
        pooled = self.pooled_norm(self.pooled(body.mean((2, 3), keepdim=True)))
        return self.norm(self.project(spread) + self.pooled_project(pooled))


def _activated(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(LEAK))
