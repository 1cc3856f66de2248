"""Interfaces of an architecture and of its extractor, which computes features of photographs."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import Normalization
from cssegcore.core.types import BACKGROUND, BackgroundOutput
from cssegcore.models.backbones import Backbone, BackboneKind, backbone_kind
from cssegcore.models.heads import FeatureHead, Head, HeadKind
from cssegcore.models.outputs import Features


class FeatureExtractor(nn.Module, abc.ABC):
    """Backbone and decoder: everything below the classifiers.

    Attributes:
        channels: Depth d of the features that the classifiers read.
        last_stage_channels: Depth n of the backbone's last stage.
        backbone: Part with pretrained weights; the rest of an extractor is its decoder.
        auxiliary_channels: Depth of each of `Features.auxiliary`, which the auxiliary classifiers
            read in training.
        auxiliary_weight: Factor of the auxiliary classifiers' losses.
        head_kind: Kind of its heads, if it takes no other kind.
    """

    channels: int
    last_stage_channels: int
    backbone: Backbone
    auxiliary_channels: tuple[int, ...] = ()
    auxiliary_weight: float = 0.0
    head_kind: HeadKind | None = None

    @abc.abstractmethod
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """Computes features; `Features.decoder_out` has the network's output stride."""

    def score(
        self, features: Features, heads: Sequence[Head], background: BackgroundOutput
    ) -> tuple[Features, Float[Tensor, "b c hs ws"]]:
        """Scores features by the heads; by default, each head reads `Features.decoder_out`.

        Returns:
            The features, completed by the heads, and the logits of all outputs.
        """
        return features, apply_heads(heads, features.decoder_out, background)

    def enlarge(
        self, logits_lowres: Float[Tensor, "b c hs ws"], size: Sequence[int]
    ) -> Float[Tensor, "b c h w"]:
        """Brings logits to the photographs' size, bilinearly (corners not aligned)."""
        return F.interpolate(logits_lowres, tuple(size), mode="bilinear")

    @property
    def normalization(self) -> Normalization:
        """Normalisation of its images, the same as in its backbone's pretraining."""
        return self.backbone.normalization

    def input_norms(self) -> list[nn.BatchNorm2d]:
        """Returns the first normalisation of each path from the photograph.

        Their statistics describe colours and edges, so DeepInversion weighs them more.
        """
        return self.backbone.input_norms()

    def norms_with_image_statistics(self) -> list[nn.BatchNorm2d]:
        """Returns the normalisations whose statistics describe photographs, input norms included.

        Normalisations of decoders are not among them: their statistics depend on the classes that
        are shown, and on their positions.
        """
        return [m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d)]


def apply_heads(
    heads: Sequence[nn.Module],
    features: Float[Tensor, "b d hs ws"],
    background: BackgroundOutput,
) -> Float[Tensor, "b c hs ws"]:
    """Concatenates the scores of heads, float32 also under autocast.

    Args:
        heads: Heads that read features alone; an auxiliary output is the first.
        features: Features that they read.
        background: Meaning of output 0; a rejected background has no head and scores 0.
    """
    assert all(isinstance(head, FeatureHead) for head in heads)
    first, *rest = heads
    # an auxiliary output would teach the network to be silent
    seen = features.detach() if background == "auxiliary" else features
    each = [first(seen), *(head(features) for head in rest)]
    if background == "rejected":
        each.insert(BACKGROUND, torch.zeros_like(each[0][:, :1]))
    return torch.cat(each, dim=1).float().contiguous()  # upsampling is quicker on planes


class Architecture(abc.ABC):
    """The numbers of a network and the way to build it; the dataclass of a part.

    Attributes:
        smallest_batch: Smallest number of images in a batch that its extractor can be trained on.
        fewest_outputs: Smallest number of outputs, background included, that it can tell apart.
        has_stages: Whether it gives `Features.stages`.
        has_class_tokens: Whether its heads are class tokens, all of which move the score of each.
        auxiliary: Factor of the losses of its auxiliary classifiers; 0 if it has none.
        backbone: The section of its backbone: `part` and that part's numbers.
    """

    smallest_batch: ClassVar[int] = 1
    fewest_outputs: ClassVar[int] = 1
    has_stages: ClassVar[bool] = True
    has_class_tokens: ClassVar[bool] = False
    auxiliary: float = 0.0
    backbone: object

    def __post_init__(self) -> None:
        self.backbone_kind()  # refuses what it cannot be

    @property
    @abc.abstractmethod
    def backbone_stride(self) -> int:
        """Stride that the last features of its backbone must have."""

    def backbone_kind(self) -> BackboneKind:
        """Returns the part that builds its backbone.

        Raises:
            InputError: There is none of that name, or it refuses a number.
        """
        return backbone_kind(self.backbone)

    def check(self) -> None:
        """Makes sure that `extractor` will succeed.

        Raises:
            InputError: The backbone does not fit the decoder, or its weights cannot be had.
        """
        kind = self.backbone_kind()
        kind.check(self.backbone_stride)
        self.check_backbone(kind.outline(self.backbone_stride))

    def check_outputs(self, outputs: int) -> None:
        """Makes sure that so many outputs in the base step are enough.

        Raises:
            InputError: They are not.
        """
        if outputs < self.fewest_outputs:
            raise InputError(
                f"`model.part`: this network tells {self.fewest_outputs} or more classes apart,"
                f" background included, and the first step has {outputs}: give it"
                f" {self.fewest_outputs - outputs} more (`scenario.classes`), or choose another"
                " network."
            )

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuses a backbone whose features the decoder cannot use; by default it can use any.

        Args:
            backbone: Its last features have the stride `backbone_stride`.

        Raises:
            InputError: The decoder needs other features.
        """
        return

    @abc.abstractmethod
    def extractor(self) -> FeatureExtractor:
        """Builds the extractor with fresh (or pretrained) weights; raises the errors of `check`."""
