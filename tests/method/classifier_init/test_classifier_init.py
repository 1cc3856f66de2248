import math

import pytest
import torch

from cssegcore.core.registry import build_part
from cssegcore.method.classifier_init import ClassifierInit
from cssegcore.method.losses.unbiased_kd import unbiased_distillation
from cssegcore.models.architectures.mask_transformer import ClassTokens
from cssegcore.models.heads.conv import Conv
from cssegcore.models.heads.linear import Linear


def make(part):
    return build_part("cssegcore.method.classifier_init", ClassifierInit, {"part": part}, "x")


def make_heads(*outputs, depth=5):
    rng = torch.Generator().manual_seed(sum(outputs))
    heads = [Linear().build(depth, n).double() for n in outputs]
    for head in heads:
        for weight in head.parameters():
            weight.data = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
    return heads


def numbers(heads):
    return [tuple(p.detach().clone() for p in parameters(head)) for head in heads]


def parameters(head):
    return head.classifier.weight, head.classifier.bias


def logits(heads, features):
    return torch.cat([head(features) for head in heads], 1).detach()


class TestLayersBeforeTheLast:
    def heads(self):
        heads = [Conv().build(4, outputs).double().eval() for outputs in (3, 2)]
        for head in heads:
            for value in head.state_dict().values():
                if value.is_floating_point():
                    value.uniform_(0.1, 1)
        return heads

    @pytest.mark.parametrize(
        ("part", "shift"), [("background", math.log(3)), ("background_copy", 0)]
    )
    def test_a_new_class_scores_as_the_background_did(self, part, shift):
        torch.manual_seed(0)
        heads, features = self.heads(), torch.randn(2, 4, 5, 5, dtype=torch.float64)
        background = heads[0](features)[:, :1].detach()
        make(part)(heads)
        torch.testing.assert_close(logits(heads, features)[:, :1], background - shift)
        torch.testing.assert_close(heads[1](features), (background - shift).expand(-1, 2, -1, -1))


class TestBackground:
    def test_by_hand(self):
        heads = make_heads(2, 1, depth=1)
        first, new = (head.classifier for head in heads)
        with torch.no_grad():
            first.weight.copy_(torch.tensor([0.3, 7.0])[:, None, None, None])
            first.bias.copy_(torch.tensor([0.4, 9.0]))
        make("background")(heads)
        # one new class: background and new class share half of its probability each
        assert first.bias.tolist() == pytest.approx([0.4 - math.log(2), 9.0])
        assert new.bias.tolist() == pytest.approx([0.4 - math.log(2)])
        assert new.weight.flatten().tolist() == pytest.approx([0.3])
        both = torch.cat([first.bias[:1], new.bias])
        assert both.logsumexp(0).item() == pytest.approx(0.4)

    @pytest.mark.parametrize("outputs", [(3, 1), (3, 4), (2, 2, 3), (4, 1, 1, 1)])
    def test_every_other_number_stays(self, outputs):
        heads = make_heads(*outputs)
        before = numbers(heads)
        make("background")(heads)
        shift = math.log(outputs[-1] + 1)
        weight, bias = before[0]
        lowered = bias - shift * torch.eye(outputs[0], dtype=torch.float64)[0]
        new = weight[:1].expand(outputs[-1], -1, -1, -1), lowered[:1].expand(outputs[-1])
        expected = [(weight, lowered), *before[1:-1], new]
        for head, (weight, bias) in zip(heads, expected, strict=True):
            assert torch.equal(head.classifier.weight, weight)
            assert torch.equal(head.classifier.bias, bias)

    @pytest.mark.parametrize("outputs", [(3, 1), (3, 4), (2, 2, 3)])
    def test_background_and_new_classes_together_score_as_the_background_did(self, outputs):
        heads = make_heads(*outputs)
        features = torch.randn(2, 5, 3, 4, dtype=torch.float64)
        old = logits(heads[:-1], features)
        make("background")(heads)
        after = logits(heads, features)
        k = sum(outputs[:-1])
        shared = torch.cat([after[:, :1], after[:, k:]], 1).logsumexp(1)
        assert torch.allclose(shared, old[:, 0])
        assert torch.equal(after[:, 1:k], old[:, 1:])

    def test_the_old_model_is_not_contradicted_at_the_start(self):
        heads = make_heads(4, 2)
        features = torch.randn(2, 5, 3, 4, dtype=torch.float64)
        old = logits(heads[:-1], features)
        make("background")(heads)
        after = logits(heads, features).requires_grad_()
        (grad,) = torch.autograd.grad(unbiased_distillation(after, old), after)
        assert grad.abs().max() < 1e-12

    def test_heads_can_be_trained_afterwards(self):
        heads = make_heads(3, 2)
        make("background")(heads)
        assert all(p.requires_grad and p.is_leaf for head in heads for p in head.parameters())
        new = heads[-1].classifier.weight
        assert new.data_ptr() != heads[0].classifier.weight.data_ptr()
        new.data[0] += 1  # rows are apart from each other
        assert not torch.equal(new[0], new[1])


def test_none_changes_nothing():
    heads = make_heads(3, 2)
    before = numbers(heads)
    make("none")(heads)
    for (weight, bias), head in zip(before, heads, strict=True):
        assert torch.equal(head.classifier.weight, weight)
        assert torch.equal(head.classifier.bias, bias)


class TestAuxiliary:
    def test_new_classes_are_the_auxiliary_output_and_nothing_else_moves(self):
        heads = make_heads(1, 3, 2)
        before = numbers(heads)
        make("auxiliary")(heads)
        (weight, bias), *_ = before
        assert torch.equal(heads[-1].classifier.weight, weight.expand(2, -1, -1, -1))
        assert torch.equal(heads[-1].classifier.bias, bias.expand(2))
        for old, head in zip(before[:-1], heads[:-1], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(old, parameters(head), strict=True))
        heads[0].classifier.weight.data.zero_()  # a copy, not the same memory
        assert torch.equal(heads[-1].classifier.weight, weight.expand(2, -1, -1, -1))


def make_tokens(*outputs, depth=5):
    torch.manual_seed(sum(outputs))
    heads = [ClassTokens().build(depth, n) for n in outputs]
    with torch.no_grad():
        for head in heads[:-1]:
            head.scale.normal_()
            head.shift.normal_()
    return heads


class TestBackgroundCopy:
    def test_a_linear_head_gets_weight_and_bias_and_no_shift(self):
        heads = make_heads(3, 2)
        before = numbers(heads)
        make("background_copy")(heads)
        weight, bias = before[0]
        assert torch.equal(heads[0].classifier.weight, weight)
        assert torch.equal(heads[0].classifier.bias, bias)
        assert torch.equal(heads[1].classifier.weight, weight[:1].expand(2, -1, -1, -1))
        assert torch.equal(heads[1].classifier.bias, bias[:1].expand(2))

    def test_a_token_is_copied_and_its_normalisation_fresh(self):
        heads = make_tokens(3, 1, 2)
        before = [{k: v.clone() for k, v in head.state_dict().items()} for head in heads]
        make("background_copy")(heads)
        for head, kept in zip(heads[:-1], before, strict=False):
            assert all(torch.equal(v, kept[k]) for k, v in head.state_dict().items())
        new = heads[-1]
        assert torch.equal(new.token, before[0]["token"][:1].expand(2, -1))
        assert new.token.data_ptr() != heads[0].token.data_ptr()
        assert new.scale.tolist() == [1, 1]
        assert new.shift.tolist() == [0, 0]


def test_mib_s_initialisation_splits_a_token_s_background():
    heads = make_tokens(3, 2)
    token, scale, shift = (row[0].clone() for row in heads[0].rows)
    others = [row[1:].clone() for row in heads[0].rows]
    make("background")(heads)
    lowered = shift - math.log(3)
    assert torch.allclose(heads[0].shift[0], lowered)
    assert all(map(torch.equal, others, (row[1:] for row in heads[0].rows)))
    assert torch.equal(heads[1].token, token.expand(2, -1))
    assert torch.equal(heads[1].scale, scale.expand(2))
    assert torch.allclose(heads[1].shift, lowered.expand(2))
