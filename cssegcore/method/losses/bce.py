"""Binary cross-entropy: one sigmoid for each output.

Rebuffi et al., iCaRL, CVPR 2017, https://arxiv.org/abs/1611.07725 (its loss without its exemplars
is LwF-MC); Cha et al., SSUL, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import IGNORE, Scores
from cssegcore.method.losses._base import Average, Averaged, LossInputs


def yes_or_no(
    logits: Float[Tensor, "b c h w"], answer: Int[Tensor, "b h w"], given: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """Sums the binary cross-entropy over the outputs; at most one output per pixel is positive.

    A negative costs softplus(z), a positive softplus(z) - z. So all outputs are summed as negatives
    and one logit a pixel is subtracted: no one-hot map is built. Where the network is sure and
    right, the difference is right to the last digit of z, and its gradient to that of 1.

    Args:
        logits: Scores of c outputs.
        answer: The positive output of each pixel, in [0, c).
        given: Pixels that have a positive output; elsewhere all are negative.
    """
    return _YesOrNo.apply(at_least_float32(logits), answer, given)  # type: ignore[return-value]


class _YesOrNo(torch.autograd.Function):
    """Few passes over the scores: PyTorch's own loss would build a one-hot map of the targets."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, answer: Tensor, given: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(logits, answer, given)
        wanted = logits.gather(1, answer[:, None]).squeeze(1).where(given, 0)
        # softplus(z) = relu(z) - log(sigmoid(|z|)); log1p takes several times as long on a CPU
        tails = logits.abs().sigmoid_().log_()
        return logits.relu().sub_(tails).sum(1) - wanted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        logits, answer, given = ctx.saved_tensors
        slope = logits.sigmoid()
        slope.scatter_add_(1, answer[:, None], -given[:, None].to(slope.dtype))
        return slope.mul_(gradients[0][:, None]), None, None


def binary_cross_entropy(
    logits: Float[Tensor, "b c h w"],
    labels: Int[Tensor, "b h w"],
    average: Average = "labelled",
) -> Float[Tensor, ""]:
    """Computes the mean of `yes_or_no` over pixels; pixels labelled 255 add nothing.

    Deviation: the published code of SSUL gives NaN where no pixel is labelled; this gives 0.

    Args:
        logits: Scores of all c outputs.
        labels: Network outputs, 255 ignored.
        average: `labelled`: the mean runs over labelled pixels (SSUL); `all`: over all (LwF-MC).
    """
    known = labels != IGNORE
    total = yes_or_no(logits, torch.where(known, labels, 0), known).where(known, 0).sum()
    return total / (labels.numel() if average == "all" else known.sum().clamp(min=1))


@final
@dataclasses.dataclass(frozen=True)
class BinaryCrossEntropy(Averaged):
    """`binary_cross_entropy` as a term."""

    average: Average = "labelled"

    scores: ClassVar[Scores | None] = "sigmoid"
    is_supervised: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return binary_cross_entropy(batch.logits, batch.labels, self.average)
