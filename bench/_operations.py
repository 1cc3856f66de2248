"""Floating-point operations, counted by PyTorch, but for the gradients of grouped convolutions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def operation_counter() -> FlopCounterMode:
    """Counts the operations of convolutions and matrix products of a block, backward passes too.

    PyTorch counts the gradient of a grouped convolution's weights as if it had one group, so of a
    depthwise convolution as many times as there are channels.
    """
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _convolution_backward(
    gradient: Sequence[int],
    images: Sequence[int],
    weights: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    output_mask: Sequence[bool],
    **_kwargs: Any,  # noqa: ANN401
) -> int:
    """Counts each gradient, of the images and of the weights, as the forward pass is counted."""
    forward = conv_flop_count(list(images), list(weights), list(gradient), transposed=transposed)
    return forward * sum(output_mask[:2])
