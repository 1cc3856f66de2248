"""Segmenter's mask transformer on a ViT: classes are tokens, whose cosine with patches is a mask.

Strudel et al., Segmenter: Transformer for Semantic Segmentation, ICCV 2021,
https://arxiv.org/abs/2105.05633, with the class tokens of each step apart, cosines and their
normalisation as in MBS: Park et al., Mitigating Background Shift in Class-Incremental Semantic
Segmentation, ECCV 2024; RoadoneP/ECCV2024_MBS, core/Segmenter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import at_least
from cssegcore.core.types import BackgroundOutput
from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.backbones import Backbone
from cssegcore.models.backbones.vit import ViT, transformer_block
from cssegcore.models.heads import Head, HeadKind
from cssegcore.models.outputs import Features

_DEVIATION = 0.02
"""Standard deviation of fresh tokens and linear layers."""


@final
@dataclasses.dataclass(frozen=True)
class MaskTransformer(Architecture):
    """A ViT and the decoder's numbers; its output stride is the ViT's patch.

    Attributes:
        backbone: The section of its ViT.
        blocks: Number of the decoder's blocks.
        heads: Number of heads of the decoder's attention.
        drop_path: Probability that training leaves out a branch of the last block; it rises
            linearly from 0 at the first block.
    """

    MOVED: ClassVar[Mapping[str, str]] = {"output_stride": "model.backbone.patch"}

    backbone: object
    blocks: int = 2
    heads: int = 12
    drop_path: float = 0.1

    fewest_outputs: ClassVar[int] = 3  # the normalised scores of two are constants
    has_stages: ClassVar[bool] = False
    has_class_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, blocks=self.blocks, heads=self.heads)
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"`drop_path` must lie in [0, 1), got {self.drop_path}")
        if self.drop_path and self.blocks == 1:
            raise ValueError(
                f"`drop_path` is {self.drop_path}, but rises from 0 at the first block, which is"
                " the only one: set it to 0, or `blocks` to at least 2"
            )
        width = self._vit().width
        if width % self.heads:
            raise ValueError(f"`heads` must divide `backbone.width`, got {self.heads} for {width}")

    @property
    def backbone_stride(self) -> int:
        return self._vit().patch

    def extractor(self) -> FeatureExtractor:
        backbone = self.backbone_kind().build(self.backbone_stride)
        rates = torch.linspace(0, self.drop_path, self.blocks).tolist()
        return _MaskExtractor(backbone, _Decoder(backbone.channels[-1], self.heads, rates))

    def _vit(self) -> ViT:
        kind = self.backbone_kind()
        if not isinstance(kind, ViT):
            raise InputError(
                f"`model.part` is mask_transformer, which reads the patches of a ViT, and"
                f" `model.backbone` is {kind.title}: choose `model=segmenter_vit_b16` (or"
                " `segmenter_vit_tiny`), or a network such as deeplabv3 for this backbone."
            )
        return kind


@final
@dataclasses.dataclass(frozen=True)
class ClassTokens(HeadKind):
    """Builds the tokens of a step's classes."""

    def build(self, channels: int, outputs: int) -> "TokenHead":
        return TokenHead(channels, outputs)


@final
class TokenHead(Head):
    """A token for each class, and factor and offset of its normalised mask.

    Attributes:
        token: Tokens that the decoder's blocks read beside the patches.
        scale: Factor of each mask.
        shift: Offset of each mask.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(outputs, channels))
        nn.init.trunc_normal_(self.token, std=_DEVIATION)
        self.scale = nn.Parameter(torch.ones(outputs))
        self.shift = nn.Parameter(torch.zeros(outputs))

    @property
    def weight(self) -> Tensor:
        return self.token

    @property
    def bias(self) -> Tensor:
        return self.shift

    @property
    def rows(self) -> tuple[Tensor, ...]:
        return self.token, self.scale, self.shift


class _MaskExtractor(FeatureExtractor):
    """`Features.decoder_out` are the patches that masks are made of, before their lengths are 1."""

    head_kind = ClassTokens()

    def __init__(self, backbone: Backbone, decoder: "_Decoder") -> None:
        super().__init__()
        self.channels = self.last_stage_channels = backbone.channels[-1]
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        (patches,) = self.backbone(images)
        return Features((), patches, patches)  # to be decoded with the heads

    def score(
        self, features: Features, heads: Sequence[Head], background: BackgroundOutput
    ) -> tuple[Features, Float[Tensor, "b c hs ws"]]:
        assert background == "argmax", "refused when parameters are checked"
        groups = [head for head in heads if isinstance(head, TokenHead)]
        size = features.last_stage.shape[-2:]
        tokens = torch.cat([head.token for head in groups])
        patches, classes = self.decoder(features.last_stage.flatten(2).mT, tokens)
        scale = torch.cat([head.scale for head in groups])
        shift = torch.cat([head.shift for head in groups])
        masks = normalize_masks(cosine_masks(patches, classes), scale, shift)
        decoder_out = patches.mT.unflatten(-1, size)
        decoded = dataclasses.replace(features, decoder_out=decoder_out, classes=classes)
        return decoded, masks.mT.unflatten(-1, size).contiguous()

    def enlarge(
        self, logits_lowres: Float[Tensor, "b c hs ws"], size: Sequence[int]
    ) -> Float[Tensor, "b c h w"]:
        """Enlarges to whole patches and cuts off the padding of the photographs."""
        whole = [side * self.backbone.strides[-1] for side in logits_lowres.shape[-2:]]
        enlarged = super().enlarge(logits_lowres, whole)
        h, w = size
        if torch.compiler.is_exporting():  # a slice asks whether it is all, so for one kind of size
            rows, columns = (torch.arange(side, device=enlarged.device) for side in (h, w))
            return enlarged.index_select(2, rows).index_select(3, columns)
        return enlarged[..., :h, :w]


class _Decoder(nn.Module):
    """Patches and class tokens in blocks that attend to all of both."""

    def __init__(self, width: int, heads: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.blocks = nn.ModuleList(transformer_block(width, heads, rate) for rate in drop_paths)
        self.norm = nn.LayerNorm(width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_DEVIATION)
                nn.init.zeros_(layer.bias)
        self.patches, self.classes = (
            nn.Parameter(torch.randn(width, width) * width**-0.5) for _ in range(2)
        )

    def forward(
        self, patches: Float[Tensor, "b p d"], tokens: Float[Tensor, "c d"]
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b c d"]]:
        count = patches.shape[1]
        patches = self.project(patches)
        seen = torch.cat([patches, tokens.to(patches).expand(patches.shape[0], -1, -1)], 1)
        for block in self.blocks:
            seen = block(seen)
        seen = self.norm(seen)
        return seen[:, :count] @ self.patches, seen[:, count:] @ self.classes


def cosine_masks(
    patches: Float[Tensor, "b p d"], classes: Float[Tensor, "b c d"]
) -> Float[Tensor, "b p c"]:
    """Computes the cosine of each patch with each class, in float32."""
    with torch.autocast(patches.device.type, enabled=False):
        directions = (F.normalize(at_least_float32(seen), dim=-1) for seen in (patches, classes))
        of_patches, of_classes = directions
        return of_patches @ of_classes.mT


def normalize_masks(
    masks: Float[Tensor, "b p c"], scale: Float[Tensor, " c"], shift: Float[Tensor, " c"]
) -> Float[Tensor, "b p c"]:
    """Normalises each patch's cosines over the classes (the unbiased deviation plus 1e-5)."""
    centred = masks - masks.mean(-1, keepdim=True)
    return centred / (masks.std(-1, keepdim=True) + 1e-5) * scale + shift
