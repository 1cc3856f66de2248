"""Operations of convolutions, counted by hand: forward, gradient of images, gradient of weights."""

import pytest
import torch

from bench._operations import operation_counter


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("images_too", [True, False])
def test_gradients_of_grouped_convolutions(groups, images_too):
    layer = torch.nn.Conv2d(8, 16, 3, padding=1, groups=groups, bias=False)
    images = torch.ones(2, 8, 5, 7, requires_grad=images_too)
    with operation_counter() as counter:
        layer(images).sum().backward()
    forward = 2 * (2 * 5 * 7) * 16 * (8 // groups) * 9
    assert counter.get_total_flops() == forward * (3 if images_too else 2)
