import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.models.heads.linear import Linear
from cssegcore.models.segmenter import Segmenter, classify
from tests.helpers.networks import Photograph, images, sizes
from tests.helpers.tiny_training import new_segmenter


class TestSegmenter:
    def test_logits_are_those_of_the_heads_in_order_upsampled(self):
        segmenter = Segmenter(Photograph(), Linear(), [3, 1, 2])
        photographs = images(2, 8, 12)
        features = F.avg_pool2d(photographs, 4)
        heads = [
            torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], features)
            + layer.bias[:, None, None]
            for layer in (head.classifier for head in segmenter.groups)
        ]
        small = torch.cat(heads, 1)
        expected = F.interpolate(small, (8, 12), mode="bilinear", align_corners=False)
        outputs = segmenter(photographs)
        assert torch.allclose(outputs.logits, expected, atol=1e-6)
        assert torch.allclose(outputs.logits_lowres, small, atol=1e-6)
        assert torch.equal(outputs.features.decoder_out, features)
        assert sizes(segmenter) == [3, 1, 2]

    def test_a_grown_head_comes_last_and_leaves_the_others_alone(self):
        segmenter = Segmenter(Photograph(), Linear(), [3])
        photographs = images(1, 8, 8)
        before = segmenter(photographs).logits
        for more in (1, 4):
            segmenter.grow(more)
        after = segmenter(photographs).logits
        assert sizes(segmenter) == [3, 1, 4]
        assert segmenter.outputs == segmenter.classes == 8
        assert torch.allclose(after[:, :3], before, atol=1e-6)
        assert after.shape == (1, 8, 8, 8)

    def test_a_grown_head_is_trained_too(self):
        segmenter = Segmenter(Photograph(), Linear(), [3])
        segmenter.grow(2)
        grown = {id(p) for p in segmenter.groups[-1].parameters()}
        assert grown
        assert grown <= {id(p) for p in segmenter.parameters() if p.requires_grad}

    def test_logits_keep_their_digits_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = Segmenter(Photograph(), Linear(), [3])(images(1, 8, 8))
        assert outputs.logits.dtype == outputs.logits_lowres.dtype == torch.float32


class TestUnknown:
    @pytest.mark.parametrize("unknown", ["softmax", "sigmoid"])
    def test_it_and_the_background_have_heads_of_their_own(self, unknown):
        segmenter = Segmenter(Photograph(), Linear(), [4, 2], unknown)
        segmenter.grow(3)
        assert sizes(segmenter) == [1, 1, 3, 2, 3]
        assert (segmenter.outputs, segmenter.classes) == (10, 9)
        assert segmenter(images(1, 8, 8)).logits.shape == (1, 10, 8, 8)

    def scores(self, logits, unknown):
        if unknown == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    @pytest.mark.parametrize("unknown", ["softmax", "sigmoid"])
    def test_its_score_joins_the_background_s(self, unknown):
        logits = np.random.default_rng(0).normal(0, 2, (2, 5, 30, 30))
        scores = self.scores(logits, unknown)
        expected = np.empty((2, 30, 30), int)
        for b, y, x in np.ndindex(expected.shape):
            unsure, background, *classes = scores[b, :, y, x]
            expected[b, y, x] = np.argmax([unsure + background, *classes])
        got = classify(torch.tensor(logits), unknown).numpy()
        assert np.array_equal(got, expected)
        assert set(np.unique(got)) == {0, 1, 2, 3}
        # the sum decides, not the larger of the two
        larger = np.concatenate([scores[:, :2].max(1, keepdims=True), scores[:, 2:]], 1)
        assert (larger.argmax(1) != expected).any()

    def test_without_it_the_largest_logit_wins(self):
        logits = torch.tensor(np.random.default_rng(1).normal(0, 2, (2, 5, 6, 7)))
        assert torch.equal(classify(logits, None), logits.argmax(1))

    def test_the_segmenter_classifies_by_what_it_knows(self):
        logits = torch.tensor([[1.0, 1.0, 1.5]]).reshape(1, 3, 1, 1)
        for unknown, expected in (("sigmoid", 0), ("softmax", 0), (None, 2)):
            segmenter = Segmenter(Photograph(), Linear(), [2], unknown)
            assert segmenter.classify(logits).item() == expected


class TestHeld:
    def test_what_is_held_stays_in_evaluation_mode(self):
        segmenter = new_segmenter([2]).train()
        norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
        held, free = norms[:2], norms[2:]
        segmenter.keep_eval(held)
        for _ in range(2):
            assert not any(norm.training for norm in held)
            assert all(norm.training for norm in free)
            assert segmenter.training
            segmenter.eval()
            assert not any(norm.training for norm in norms)
            segmenter.train()
        before = [norm.running_mean.clone() for norm in norms]
        segmenter(images(2, 16, 16))
        moved = [not torch.equal(a, n.running_mean) for a, n in zip(before, norms, strict=True)]
        assert moved == [norm in free for norm in norms]

    def test_to_hold_more_lets_nothing_go(self):
        segmenter = new_segmenter([2])
        first, second, *_ = (m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d))
        for norm in (first, second):
            segmenter.keep_eval([norm])
        copied = copy.deepcopy(segmenter).train()
        norms = [m for m in copied.modules() if isinstance(m, nn.BatchNorm2d)]
        assert [norm.training for norm in norms[:3]] == [False, False, True]
