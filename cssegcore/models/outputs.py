"""What a segmenter computes of a batch, from the backbone's stages to full-size logits."""

import dataclasses

from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Features:
    """What lies below the classifiers.

    Attributes:
        taps: The residual sum that ends each stage of the backbone, before its activation, shallow
            to deep; signed.
        body: The last stage after its activation.
        top: What the classifiers read: after the decoder's last activation.
        auxiliary: What the auxiliary classifiers read, in training; none in most networks.
    """

    taps: tuple[Float[Tensor, "b _ _ _"], ...]
    body: Float[Tensor, "b n hb wb"]
    top: Float[Tensor, "b d hs ws"]
    auxiliary: tuple[Float[Tensor, "b _ _ _"], ...] = ()


@dataclasses.dataclass(frozen=True)
class Outputs:
    """All that losses may look at.

    Attributes:
        logits: Scores at the photographs' size, float32.
        small: Scores at the size of `features.top`, float32; `logits` is their enlargement.
        features: What they were computed from.
        auxiliary: Full-size scores of each auxiliary classifier, float32, in training only.
    """

    logits: Float[Tensor, "b c h w"]
    small: Float[Tensor, "b c hs ws"]
    features: Features
    auxiliary: tuple[Float[Tensor, "b c h w"], ...] = ()
