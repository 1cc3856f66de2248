"""What a segmenter computes of a batch, from the backbone's stages to full-size logits."""

import dataclasses

from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Features:
    """What lies below the classifiers.

    Attributes:
        stages: The residual sum that ends each stage of the backbone, before its activation,
            shallow to deep; signed. None of a transformer.
        last_stage: The last stage after its activation.
        decoder_out: What the classifiers read: after the decoder's last activation.
        auxiliary: What the auxiliary classifiers read, in training; none in most networks.
        classes: What class tokens became, in a network that has them.
    """

    stages: tuple[Float[Tensor, "b _ _ _"], ...]
    last_stage: Float[Tensor, "b n hb wb"]
    decoder_out: Float[Tensor, "b d hs ws"]
    auxiliary: tuple[Float[Tensor, "b _ _ _"], ...] = ()
    classes: Float[Tensor, "b c d"] | None = None


@dataclasses.dataclass(frozen=True)
class Classifiers:
    """The 1x1 convolutions of all heads, as one linear map of `Features.decoder_out`.

    Of a network with class tokens: the tokens, and what is added to their scores.

    Attributes:
        weight: A row for each output, in their order; zeros for an output without weights.
        bias: The same of the biases.
    """

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """All that losses may look at.

    Attributes:
        logits: Scores at the photographs' size, float32.
        logits_lowres: Scores at the size of `features.decoder_out`, float32; `logits` is their
            enlargement.
        features: What they were computed from.
        auxiliary: Full-size scores of each auxiliary classifier, float32, in training only.
    """

    logits: Float[Tensor, "b c h w"]
    logits_lowres: Float[Tensor, "b c hs ws"]
    features: Features
    auxiliary: tuple[Float[Tensor, "b c h w"], ...] = ()
