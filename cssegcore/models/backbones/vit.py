"""The vision transformer, as timm builds it, on photographs of any size.

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, https://arxiv.org/abs/2010.11929. The
stem is that of Xiao et al., Early Convolutions Help Transformers See Better, NeurIPS 2021,
https://arxiv.org/abs/2106.14881.
"""

import dataclasses
import math
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.ranges import at_least
from cssegcore.models.backbones._base import WHERE, Backbone, BackboneKind


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class ViT(BackboneKind):
    """Patches, width and depth of a vision transformer; the defaults are ViT-B/16's.

    Positions are stored for square photographs of `image` pixels and resampled to every other size
    (bicubic, with antialiasing); positions of a file are resampled when it is read. Photographs are
    padded to whole patches, at the right and at the bottom, with the mean colour.

    Attributes:
        patch: Side of a patch in pixels.
        width: Channels d of each patch, a multiple of `heads`.
        depth: Number of blocks.
        heads: Number of heads of the attention.
        image: Side of the photographs that positions are stored for, a multiple of `patch`.
        stem: Channels of 3×3 convolutions that see a photograph before patches are made of it; the
            first log2(patch) of them halve it. Without any, a patch is a linear map of its pixels.
    """

    UNUSED: ClassVar[tuple[str, ...]] = ("head.",)

    weights: str = "none"
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    image: int = 512
    stem: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, patch=self.patch, width=self.width, depth=self.depth, heads=self.heads)
        at_least(self.patch, image=self.image)
        for name, whole, part in (("width", "heads", self.heads), ("image", "patch", self.patch)):
            if getattr(self, name) % part:
                raise ValueError(
                    f"`{name}` must be a multiple of `{whole}`, got {getattr(self, name)} and"
                    f" {part}"
                )
        if self.stem:
            at_least(1, stem=min(self.stem))
            if 2**self._halvings != self.patch or len(self.stem) < self._halvings:
                raise ValueError(
                    "`stem` needs a `patch` that is a power of 2 and a convolution for each"
                    f" halving, got patch {self.patch} and {len(self.stem)} convolutions"
                )

    @property
    def _halvings(self) -> int:
        return self.patch.bit_length() - 1

    @property
    def has_download(self) -> bool:
        return False

    @property
    def title(self) -> str:
        return f"timm's VisionTransformer of patch {self.patch} and width {self.width}"

    def fresh(self, output_stride: int) -> Backbone:
        return _ViT(self)

    def translated(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resamples the positions of a file to photographs of `image` pixels."""
        return {
            key: self._resampled(value) if key.endswith("pos_embed") else value
            for key, value in stored.items()
        }

    def convolutions(self) -> nn.Sequential:
        """Builds the stem: photographs (b, 3, h, w) to patches (b, width, h / patch, w / patch)."""
        layers: list[nn.Module] = []
        before = 3
        for i, channels in enumerate(self.stem):
            stride = 2 if i < self._halvings else 1
            convolution = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        return nn.Sequential(*layers, nn.Conv2d(before, self.width, 1))

    def names(self, backbone: Backbone) -> dict[str, str]:
        return {key.removeprefix("network."): key for key in backbone.state_dict()}

    def _resampled(self, positions: Tensor) -> Tensor:
        """Returns positions (1, 1 + n, d) of a square, the class token's first, for another one."""
        if positions.ndim != 3 or math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
            return positions  # of another network, which will be said
        side = self.image // self.patch
        return _layers().resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=1)


class _ViT(Backbone):
    """Returns the patches after the last normalisation, as a map."""

    def __init__(self, kind: ViT) -> None:
        super().__init__()
        self.strides, self.channels = (kind.patch,), (kind.width,)
        self.network: nn.Module = _transformers().VisionTransformer(
            img_size=kind.image,
            patch_size=kind.patch,
            embed_dim=kind.width,
            depth=kind.depth,
            num_heads=kind.heads,
            num_classes=0,
            global_pool="",
            dynamic_img_size=True,
            dynamic_img_pad=True,
        )
        if kind.stem:
            self.network.patch_embed.proj = kind.convolutions()  # type: ignore[union-attr]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        if torch.compiler.is_exporting():
            return (_exportable_map(self.network, images),)
        patches = self.network.forward_features(images)[:, 1:]  # type: ignore[operator]
        (side,) = self.strides
        h, w = ((length + side - 1) // side for length in images.shape[-2:])
        return (patches.mT.unflatten(-1, (h, w)),)


def _exportable_map(network: Any, images: Float[Tensor, "b 3 h w"]) -> Tensor:  # noqa: ANN401
    """Computes `_ViT.forward` with positions for every size: timm asks whether it is theirs."""
    patches = network.patch_embed(images)
    height, width = patches.shape[1:3]
    positions = network.pos_embed[0]
    side = math.isqrt(len(positions) - 1)
    grid = positions[1:].unflatten(0, (side, side))
    grid = torch.einsum("hy,yxd->hxd", _resampling(height, side, grid), grid)
    grid = torch.einsum("wx,hxd->hwd", _resampling(width, side, grid), grid)
    first = network.cls_token.expand(patches.shape[0], -1, -1)
    seen = torch.cat([first + positions[:1], (patches + grid).flatten(1, 2)], 1)
    tokens = network.norm(network.blocks(network.norm_pre(seen)))
    return tokens[:, 1:].unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _resampling(length: int, side: int, like: Tensor) -> Float[Tensor, "_ _"]:
    """Returns the weights that resize `side` places to `length`: bicubic, with antialiasing."""
    scale = side / torch.arange(1, length + 1, device=like.device)[-1:]  # no guard on the length
    centres = (torch.arange(length, device=like.device) + 0.5) * scale
    away = (torch.arange(side, device=like.device) + 0.5 - centres[:, None]).abs()
    away = away / scale.clamp(min=1)
    near = (1.5 * away - 2.5) * away**2 + 1
    far = ((-0.5 * away + 2.5) * away - 4) * away + 2
    weights = torch.where(away < 1, near, torch.where(away < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def transformer_block(width: int, heads: int, drop_path: float) -> nn.Module:
    """Builds a block of timm's: attention and a perceptron of four times the width.

    Args:
        width: Channels.
        heads: Number of heads of the attention.
        drop_path: Probability of leaving out a branch in training, for each image.

    Raises:
        InputError: timm is not installed.
    """
    return _transformers().Block(width, heads, qkv_bias=True, drop_path=drop_path)


def _transformers() -> Any:  # noqa: ANN401 - a module that may be absent
    _layers()
    from timm.models import vision_transformer

    return vision_transformer


def _layers() -> Any:  # noqa: ANN401 - a module that may be absent
    try:
        import timm.layers
    except ModuleNotFoundError:
        raise InputError(
            f"`{WHERE}.part` is vit, which timm builds, and timm is not installed: `pip install"
            " timm`, which is the extra `timm` of cssegcore as well."
        ) from None
    return timm.layers
