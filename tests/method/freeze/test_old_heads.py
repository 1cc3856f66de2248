import pytest
import torch

from cssegcore.core.registry import build_part
from cssegcore.method.freeze import Freeze
from cssegcore.models import checkpoint
from cssegcore.models._base import Architecture
from cssegcore.models.heads import HeadKind
from cssegcore.models.segmenter import Segmenter
from tests.helpers.tiny_training import CPU, MODEL, Lists, plan, run, state, train_base


def freeze(segmenter):
    return build_part("cssegcore.method.freeze", Freeze, {"part": "old_heads"}, "x")(segmenter)


def grown(head, outputs=(3, 1)):
    """Returns a network that has just grown a head of two outputs."""
    architecture = build_part(checkpoint.NETWORKS, Architecture, MODEL, "model")
    kind = build_part(checkpoint.HEADS, HeadKind, {"part": head}, "head")
    segmenter = Segmenter(architecture.extractor(), kind, list(outputs))
    segmenter.grow(2)
    return segmenter


@pytest.mark.parametrize("head", ["linear", "conv"])
class TestRule:
    def test_all_heads_but_the_newest_are_frozen(self, head):
        segmenter = grown(head)
        assert freeze(segmenter) == {}
        frozen = {n for n, p in segmenter.named_parameters() if not p.requires_grad}
        named = {n for n, _ in segmenter.named_parameters()}
        assert frozen == {n for n in named if n.startswith(("heads.0.", "heads.1."))} != set()

    def test_the_norms_of_old_heads_stand_still(self, head):
        segmenter = grown(head)
        freeze(segmenter)
        segmenter.train()
        before = state(segmenter)
        segmenter(torch.randn(2, 3, 16, 16))
        after = state(segmenter)
        moved = {name for name in before if before[name] != after[name]}
        assert any(name.startswith("extractor.") for name in moved)
        assert not any(name.startswith(("heads.0.", "heads.1.")) for name in moved)
        assert any(name.startswith("heads.2.") for name in moved) == (head == "conv")


def test_auxiliary_heads_of_earlier_steps_are_frozen():
    segmenter = grown("linear")
    old, new = torch.nn.Conv2d(4, 3, 1), torch.nn.Conv2d(4, 2, 1)
    segmenter.auxiliary.append(torch.nn.ModuleList([old, new]))
    freeze(segmenter)
    assert [p.requires_grad for p in old.parameters()] == [False, False]
    assert [p.requires_grad for p in new.parameters()] == [True, True]


def test_not_even_weight_decay_moves_them(tmp_path):
    lists = Lists.write(tmp_path)
    path = train_base(lists, tmp_path / "step0.safetensors", method="ft")
    before = state(checkpoint.load_model(path, CPU).segmenter)
    how = plan("ft", optimizer={"weight_decay": 0.1})
    how.method["freeze"] = {"part": "old_heads"}
    trainer = lists.prepare(how, "step1", path)
    fresh = state(trainer.segmenter)
    run(trainer, tmp_path / "resume")
    after = state(trainer.segmenter)
    heads = [name for name in before if name.startswith("heads.0.")]
    assert heads
    assert all(after[name] == before[name] for name in heads)
    assert all(after[n] != fresh[n] for n in after if n.startswith("heads.1."))
    assert all(after[n] != before[n] for n in before if n.startswith("extractor.backbone"))
