import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses import Loss
from cssegcore.method.losses.prototype_matching import (
    PrototypeMatching,
    old_classes,
    prototype_matching,
)
from tests.helpers.class_scenes import (
    Golden,
    arrays,
    assert_void_is_nothing,
    gathered,
    ids,
    mean_square,
    passed,
    scene,
    two_pixels,
)


def plain_matching(features, labels, prototypes, average, gather):
    values = []
    for c in ids(labels, 0, 255):
        f = gathered(features, labels, c, gather, "p n")
        if average == "classes":
            values.append(mean_square(np.mean(f, 0), prototypes[c]))
        else:
            values.append(np.mean([mean_square(v, prototypes[c]) for v in f]))
    if not values:
        return 0.0
    return sum(values) / (len(values) if average == "classes" else 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gather", ["intended", "released"])
@pytest.mark.parametrize("average", ["classes", "pixels"])
def test_against_plain_loops(seed, gather, average):
    given = scene(seed)
    expected = plain_matching(*arrays(*given), average, gather)
    got = prototype_matching(*given, average, gather)
    assert got.item() == pytest.approx(expected, rel=1e-12)


class TestGoldenValues:
    @pytest.mark.parametrize("gather", ["intended", "released"])
    @pytest.mark.parametrize(
        ("average", "value"), [("classes", 0.22681539), ("pixels", 0.68044616)]
    )
    def test_matching_with_a_pixel_a_class(self, gather, average, value):
        labels = old_classes(Golden.LABELS, Golden.OLD_LOGITS, (2, 2))
        assert sorted(labels.flatten().tolist()) == [0, 0, 0, 0, 0, 1, 2, 3]
        got = prototype_matching(Golden.FEATURES, labels, Golden.PROTOTYPES, average, gather)
        assert got.item() == pytest.approx(value, abs=1e-8)

    @pytest.mark.parametrize(
        ("gather", "average", "value"),
        [
            ("released", "classes", 0.11335372),
            ("released", "pixels", 0.19155989),
            ("intended", "classes", 0.11463016),
            ("intended", "pixels", 0.21490368),
        ],
    )
    def test_matching_with_several(self, gather, average, value):
        old = torch.zeros(2, 4, 4, 4, dtype=torch.float64)
        old[0, 2] = old[1, 3] = 1
        old[1, 2, :, :2] = 2
        labels = old_classes(Golden.LABELS, old, (2, 2))
        got = prototype_matching(Golden.FEATURES, labels, Golden.PROTOTYPES, average, gather)
        assert got.item() == pytest.approx(value, abs=1e-8)


def test_two_classes_of_a_pixel_each_by_hand():
    # class 1: mean of 4 and 9; background takes no part
    assert prototype_matching(*two_pixels()).item() == pytest.approx(6.5)


class TestOldClasses:
    LOGITS = torch.tensor([[0.0, 2, 1], [3, 1, 2], [1, 0, 4]]).T[None, :, None]  # best: 1, 0, 2
    LABELS = torch.tensor([[[0, 0, 255]]])

    def test_background_is_what_the_old_model_says(self):
        got = old_classes(self.LABELS, self.LOGITS, (1, 3))
        assert got.tolist() == [[[1, 0, 0]]]

    def test_sequential_labels_say_it_themselves(self):
        labels = torch.tensor([[[2, 3, 255]]])
        assert old_classes(labels, self.LOGITS, (1, 3), sequential=True).tolist() == [[[2, 0, 0]]]

    def test_on_the_samples_of_the_arg_max(self):
        logits = torch.randn(2, 4, 9, 7, generator=torch.Generator().manual_seed(0))
        labels = torch.zeros(2, 9, 7, dtype=torch.int64)
        expected = nearest_labels(logits.argmax(1), (4, 3))
        assert torch.equal(old_classes(labels, logits, (4, 3)), expected)


class TestIdentities:
    @pytest.mark.parametrize("average", ["classes", "pixels"])
    def test_features_at_their_prototypes_are_at_rest(self, average):
        _, labels, prototypes = scene(7)
        features = prototypes[labels % 255].movedim(-1, 1).contiguous().requires_grad_()
        loss = prototype_matching(features, labels, prototypes, average)
        (grad,) = torch.autograd.grad(loss, features)
        assert loss < 1e-30
        assert grad.abs().max() < 1e-15

    @pytest.mark.parametrize("average", ["classes", "pixels"])
    def test_what_stands_in_ignored_pixels_does_not_matter(self, average):
        assert_void_is_nothing(lambda *given: prototype_matching(*given, average))

    def test_it_takes_no_part_of_background(self):
        features, labels, prototypes = scene(9)
        (grad,) = torch.autograd.grad(prototype_matching(features, labels, prototypes), features)
        assert (grad.movedim(1, -1)[labels == 0] == 0).all()

    def test_no_gradient_reaches_the_prototypes(self):
        features, labels, prototypes = scene(10)
        prototypes.requires_grad_()
        prototype_matching(features, labels, prototypes).backward()
        assert prototypes.grad is None


@pytest.mark.parametrize("setting", ["overlapped", "disjoint", "sequential"])
def test_the_term_is_the_function_at_the_size_of_the_features(setting):
    features, labels, prototypes = scene(13)
    batch = passed(features, labels, prototypes)
    old = batch.old_outputs.logits
    matched = old_classes(batch.annotated, old, (4, 3), setting == "sequential")
    expected = prototype_matching(features, matched, prototypes)
    assert PrototypeMatching(setting=setting)(batch) == expected


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"part": "prototype_matching", "average": "mean"}, r"`x\.average`.*classes, pixels"),
        ({"part": "prototype_matching", "setting": "x"}, r"`x\.setting`.*sequential"),
    ],
)
def test_refusals(recipe, message):
    with pytest.raises(InputError, match=message):
        build_part("cssegcore.method.losses", Loss, recipe, "x")
