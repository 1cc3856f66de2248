import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cssegcore.models.heads.conv import Conv
from cssegcore.models.segmenter import Segmenter
from tests.helpers.networks import Photograph, images, sizes
from tests.helpers.random_heads import head_kind, make_heads


class TestConvHead:
    def test_scores_are_those_of_a_pixel_by_pixel_reference(self):
        (head,) = make_heads("conv", 2, depth=3)
        features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
        numbers = {name: value.double().numpy() for name, value in head.state_dict().items()}
        padded = np.pad(features.double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
        expected = np.empty((2, 2, 4, 5))
        for image, row, column in np.ndindex(2, 4, 5):
            window = padded[image, :, row : row + 3, column : column + 3]
            seen = (numbers["convolution.weight"] * window).sum((1, 2, 3))
            spread = np.sqrt(numbers["norm.running_var"] + 1e-5)
            seen = (seen - numbers["norm.running_mean"]) / spread
            seen = np.maximum(seen * numbers["norm.weight"] + numbers["norm.bias"], 0)
            scores = numbers["classifier.weight"][:, :, 0, 0] @ seen
            expected[image, :, row, column] = scores + numbers["classifier.bias"]
        with torch.no_grad():
            got = head.eval()(features)
        assert got.numpy() == pytest.approx(expected, rel=1e-4)

    def test_only_the_last_layer_has_a_bias_beside_the_norm(self):
        head = head_kind().build(6, 4)
        shapes = {name: tuple(weight.shape) for name, weight in head.named_parameters()}
        assert shapes == {
            "convolution.weight": (6, 6, 3, 3),
            "norm.weight": (6,),
            "norm.bias": (6,),
            "classifier.weight": (4, 6, 1, 1),
            "classifier.bias": (4,),
        }

    def test_fresh_weights(self):
        torch.manual_seed(0)
        head = head_kind().build(64, 64)
        for layer, inputs in ((head.convolution, 64 * 9), (head.classifier, 64)):
            spread = math.sqrt(2 / inputs)  # variance 2 over the inputs
            assert layer.weight.std().item() == pytest.approx(spread, rel=0.03)
            assert layer.weight.abs().max() > 3 * spread  # normal, not uniform
        assert (head.norm.weight == 1).all()
        assert (head.norm.bias == 0).all()
        assert 0 < head.classifier.bias.abs().max() <= 1 / math.sqrt(64)  # PyTorch's own


class TestGroups:
    def test_every_group_has_layers_of_its_own(self):
        segmenter = Segmenter(Photograph(), Conv(), [3, 2], "sigmoid").eval()
        assert sizes(segmenter) == [1, 1, 2, 2]
        photographs = images(1, 16, 16)
        before = segmenter(photographs).logits_lowres
        with torch.no_grad():
            for weight in segmenter.groups[2].parameters():
                weight.normal_()
        changed = (segmenter(photographs).logits_lowres != before).any((0, 2, 3))
        assert changed.tolist() == [False, False, True, True, False, False]

    def test_logits_are_those_of_the_formula(self):
        head = Conv().build(3, 2).eval()
        with torch.no_grad():
            head.norm.running_mean.normal_()
            head.norm.running_var.uniform_(0.5, 2)
            head.norm.weight.normal_()
            head.norm.bias.normal_()
        features = images(2, 5, 6)
        spread = F.conv2d(features, head.convolution.weight, padding=1)
        shift, scale = head.norm.running_mean, (head.norm.running_var + head.norm.eps).rsqrt()
        normed = (spread - shift[:, None, None]) * (scale * head.norm.weight)[:, None, None]
        normed = normed + head.norm.bias[:, None, None]
        layer = head.classifier
        expected = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], normed.clamp(min=0))
        assert torch.allclose(head(features), expected + layer.bias[:, None, None], atol=1e-5)
