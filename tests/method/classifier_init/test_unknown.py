import pytest
import torch

from cssegcore.core.registry import build_part
from cssegcore.method.classifier_init import ClassifierInit
from tests.helpers.random_heads import make_heads


def bytes_of(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


class TestFromUnknown:
    start = build_part("cssegcore.method.classifier_init", ClassifierInit, {"part": "unknown"}, "x")

    @pytest.mark.parametrize("part", ["conv", "linear"])
    @pytest.mark.parametrize("outputs", [(1, 1, 3, 1), (1, 1, 3, 2, 4)])
    def test_new_classes_are_the_unknown_class_and_nothing_else_moves(self, part, outputs):
        heads = make_heads(part, *outputs)
        before = [bytes_of(head) for head in heads]
        self.start(heads)
        assert [bytes_of(head) for head in heads[:-1]] == before[:-1]
        unknown, new = heads[0].state_dict(), heads[-1].state_dict()
        for name, value in new.items():
            if name == "norm.num_batches_tracked":
                assert value == 0
            elif name.startswith("classifier"):
                assert len(value) == outputs[-1]
                assert all(torch.equal(row, unknown[name][0]) for row in value)
            else:
                assert torch.equal(value, unknown[name])
        features = torch.randn(2, 5, 4, 4)
        scores = [heads[at].eval()(features) for at in (0, -1)]
        assert torch.allclose(scores[0].expand_as(scores[1]), scores[1])

    @pytest.mark.parametrize("part", ["conv", "linear"])
    def test_the_new_head_is_trained_apart(self, part):
        heads = make_heads(part, 1, 1, 2, 3)
        self.start(heads)
        before = bytes_of(heads[0])
        for weight in heads[-1].parameters():
            assert weight.requires_grad
            assert weight.is_leaf
            weight.data[0] += 1
        rows = heads[-1].classifier.weight
        assert not torch.equal(rows[0], rows[1])
        assert bytes_of(heads[0]) == before

    def test_it_is_said_that_an_unknown_class_is_needed(self):
        assert self.start.needs_unknown
