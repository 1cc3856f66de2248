"""Adaptive DeepInversion's competition: it favours images on which a student disagrees.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import positive

TEMPERATURE = 3.0
LEAST, MOST = 0.01, 0.99
"""Bounds that probabilities are clamped to."""


def competition(
    logits: Float[Tensor, "b c *pixels"],
    student_logits: Float[Tensor, "b c *pixels"],
    temperature: float = TEMPERATURE,
) -> Float[Tensor, ""]:
    """Computes 1 minus the disagreement (clamped to [0, 1]) of inverted model P and student Q.

    The disagreement, with M = (P + Q) / 2, is KL(M‖P) / 2 + KL(M‖Q) / 2, averaged over images or,
    for score maps, over all pixels; a sum over pixels would exceed 1. The gradient is 0 where the
    result is 0, and where it is 1 with many classes, as most probabilities are then below 0.01.
    Gradients flow to both models' logits.

    Deviation: as in the released code, where the paper has the Jensen–Shannon divergence
    KL(P‖M) / 2 + KL(Q‖M) / 2 of plain softmaxes: both divergences are reversed, softmaxes have a
    temperature, and P, Q and M are clamped (M after it is computed) without being normalised again.

    Raises:
        ValueError: `temperature` is not a finite number > 0.
    """
    positive(temperature=temperature)
    p, q = ((at_least_float32(z) / temperature).softmax(1) for z in (logits, student_logits))
    m = ((p + q) / 2).clamp(LEAST, MOST)
    product = p.clamp(LEAST, MOST) * q.clamp(LEAST, MOST)
    # KL(M‖P) + KL(M‖Q) = sum of M log(M² / PQ)
    disagreement = (m * (m.square() / product).log()).sum(1).mean() / 2
    return 1 - disagreement.clamp(0, 1)
