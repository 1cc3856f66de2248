"""Adaptive DeepInversion's competition: images on which a student still disagrees.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32

TEMPERATURE = 3.0
LEAST, MOST = 0.01, 0.99
"""What probabilities are clamped to."""


def competition(
    logits: Float[Tensor, "b c *pixels"],
    student_logits: Float[Tensor, "b c *pixels"],
    temperature: float = TEMPERATURE,
) -> Float[Tensor, ""]:
    """Computes 1 less the disagreement of the inverted model P and a student Q, held in [0, 1].

    The disagreement, with M = (P + Q) / 2, is KL(M‖P) / 2 + KL(M‖Q) / 2, averaged over images or,
    of score maps, over all their pixels: divided by the images alone it would be above 1 at once.
    At 0, and at 1 with many classes (most probabilities then lie below 0.01), there is no gradient.
    Both models' logits have one.

    Deviation: as in the released code, where the paper has the Jensen–Shannon divergence
    KL(P‖M) / 2 + KL(Q‖M) / 2 of plain softmaxes: both divergences are reversed, softmaxes have a
    temperature, and P, Q and M are clamped, M after it was formed, and not normalised again.

    Raises:
        ValueError: `temperature` is not a finite number > 0.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"`temperature` must be a finite number > 0, got {temperature}")
    p, q = ((at_least_float32(z) / temperature).softmax(1) for z in (logits, student_logits))
    m = ((p + q) / 2).clamp(LEAST, MOST)
    product = p.clamp(LEAST, MOST) * q.clamp(LEAST, MOST)
    # KL(M‖P) + KL(M‖Q) = sum of M log(M² / PQ)
    disagreement = (m * (m.square() / product).log()).sum(1).mean() / 2
    return 1 - disagreement.clamp(0, 1)
