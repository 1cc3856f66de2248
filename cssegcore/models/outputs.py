"""Outputs of a segmenter for a batch, from the backbone's stages to full-size logits."""

import dataclasses

from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Features:
    """Features below the classifiers.

    Attributes:
        stages: Residual sum at the end of each stage of the backbone, before its activation,
            shallow to deep; signed. Empty for a transformer.
        last_stage: The last stage after its activation.
        decoder_out: Output of the decoder's last activation, which the classifiers read.
        auxiliary: Inputs of the auxiliary classifiers, in training; empty in most networks.
        classes: Class tokens after the decoder, in a network that has them.
    """

    stages: tuple[Float[Tensor, "b _ _ _"], ...]
    last_stage: Float[Tensor, "b n hb wb"]
    decoder_out: Float[Tensor, "b d hs ws"]
    auxiliary: tuple[Float[Tensor, "b _ _ _"], ...] = ()
    classes: Float[Tensor, "b c d"] | None = None


@dataclasses.dataclass(frozen=True)
class Classifiers:
    """The 1x1 convolutions of all heads, as one linear map of `Features.decoder_out`.

    In a network with class tokens: the tokens, and the biases of their scores.

    Attributes:
        weight: A row for each output, in their order; zeros for an output without weights.
        bias: Bias of each output, in the same order; zero for an output without weights.
    """

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Everything that losses may read.

    Attributes:
        logits: Scores at the photographs' size, float32.
        logits_lowres: Scores at the size of `features.decoder_out`, float32; `logits` is their
            enlargement.
        features: Features that the logits were computed from.
        auxiliary: Full-size scores of each auxiliary classifier, float32, in training only.
    """

    logits: Float[Tensor, "b c h w"]
    logits_lowres: Float[Tensor, "b c hs ws"]
    features: Features
    auxiliary: tuple[Float[Tensor, "b c h w"], ...] = ()
