"""torchvision's ResNets without their classifier, and where their first weights come from."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.errors import InputError
from cssegcore.files import UNREADABLE

PLAIN = (False, False, False)


class ResNet(nn.Sequential):
    """The stem's layers and the four stages; gives the residual sum that ends each stage.

    torchvision's stages end with an activation; here the next stage begins with it, so `relu` of
    the last sum is what torchvision's network pools.
    """

    def forward(self, input: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        features, taps = input, []
        for part in self:
            features = part(F.relu(taps[-1]) if taps else features)
            if isinstance(part, _Stage):
                taps.append(features)
        return tuple(taps)


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


def resnet(backbone: str, weights: str, dilate: Sequence[bool] = PLAIN) -> ResNet:
    """Builds a ResNet with its starting weights.

    Args:
        backbone: torchvision's name of it.
        weights: `none` (from scratch), `imagenet` (torchvision's, downloaded or cached), or the
            path of a state dict of that torchvision network.
        dilate: For each stage but the first, whether its stride becomes a dilation; bottlenecks
            only, so not those of ResNet-18.

    Raises:
        InputError: The weights cannot be had or do not fit.
    """
    from torchvision import models  # slow to import; only real backbones pay for it

    network = models.get_model(backbone, weights=None, replace_stride_with_dilation=list(dilate))
    if weights == "imagenet":
        _fill(network, _imagenet(backbone), backbone)
    elif weights != "none":
        _fill(network, Path(weights), backbone)
    parts = [m for n, m in network.named_children() if n not in ("avgpool", "fc")]
    return ResNet(*(_Stage(*p) if isinstance(p, nn.Sequential) else p for p in parts))


def check_weights(backbone: str, weights: str) -> None:
    """Makes sure that `resnet` will get its weights; raises what it raises."""
    if weights != "none":
        resnet(backbone, weights)


def check_name(backbone: str, weights: str) -> None:
    """Makes sure that `weights` names something.

    Raises:
        ValueError: It is neither a known word nor a file.
    """
    if weights not in ("none", "imagenet") and not Path(weights).is_file():
        raise ValueError(
            f"`weights` is {weights!r}, and there is no such file: give the path of a"
            f" torchvision {backbone} state dict, `imagenet` or `none`"
        )


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
