import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method._class_features import class_distances, nearest_labels, released_gather
from cssegcore.method.losses import Loss, LossInputs
from cssegcore.method.losses.attraction import Attraction, attraction
from cssegcore.method.losses.prototype_matching import (
    PrototypeMatching,
    old_classes,
    prototype_matching,
)
from cssegcore.method.losses.repulsion import Repulsion, repulsion
from cssegcore.method.losses.sparsification import Sparsification, sparsification
from cssegcore.models.outputs import Features, Outputs

OLD, ALL, DEPTH = 3, 6, 7


def vectors(features, labels, label):
    """The feature vectors of a class's pixels, one by one."""
    b, _, h, w = features.shape
    places = [(i, y, x) for i in range(b) for y in range(h) for x in range(w)]
    return [features[i, :, y, x] for i, y, x in places if labels[i, y, x] == label]


def released_vectors(features, labels, label, layout):
    """The same as the released code sees them: image, channel, row, column, then reshaped."""
    b, n, h, w = features.shape
    values = [
        features[i, d, y, x]
        for i in range(b)
        for d in range(n)
        for y in range(h)
        for x in range(w)
        if labels[i, y, x] == label
    ]
    matrix = np.array(values)
    return matrix.reshape(n, -1).T if layout == "n p" else matrix.reshape(-1, n)


def gathered(features, labels, label, gather, layout):
    if gather == "released":
        return released_vectors(features, labels, label, layout)
    return vectors(features, labels, label)


def mean_square(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def ids(labels, *left_out):
    return [int(v) for v in np.unique(labels) if v not in left_out]


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


def plain_attraction(features, labels, prototypes, average, gather):
    loss, present = 0.0, ids(labels, 255)
    for c in present:
        f = gathered(features, labels, c, gather, "n p")
        loss += np.mean([mean_square(v, prototypes[c]) for v in f])
        if average == "nested":
            loss /= len(present)
    return loss / (1 if average == "nested" else max(len(present), 1))


def plain_repulsion(features, labels, gather):
    means = [np.mean(gathered(features, labels, c, gather, "n p"), 0) for c in ids(labels, 255)]
    pairs = [math.dist(m, k) for i, m in enumerate(means) for j, k in enumerate(means) if i != j]
    far = [1 / d for d in pairs if d > 0]
    return math.fsum(far) / max(len(far), 1)


def plain_sparsification(features, labels):
    if labels.max() == 0:
        return 0.0
    total = 0.0
    for c in ids(labels):
        f = vectors(features, labels, c)
        largest = np.max(f)
        for v in f:
            scaled = [x / largest for x in v]
            total += math.fsum(map(math.exp, scaled)) / math.fsum(scaled)
    return total / labels.size


def scene(seed, b=2, h=4, w=3, classes=ALL):
    """Random features with zeros in them, labels of all kinds, prototypes; float64."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((b, DEPTH, h, w)), 0)
    features[:, 0] += 0.1  # no pixel without any feature
    labels = rng.integers(0, classes, (b, h, w))
    labels[rng.random((b, h, w)) < 0.2] = 255
    labels[:, 0, 0] = 0, *[classes - 1] * (b - 1)
    prototypes = rng.random((classes, DEPTH))
    return (
        torch.tensor(features, requires_grad=True),
        torch.tensor(labels),
        torch.tensor(prototypes),
    )


def arrays(*tensors):
    return [t.detach().numpy() for t in tensors]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gather", ["intended", "released"])
class TestAgainstPlainLoops:
    @pytest.mark.parametrize("average", ["classes", "pixels"])
    def test_matching(self, seed, gather, average):
        given = scene(seed)
        expected = plain_matching(*arrays(*given), average, gather)
        got = prototype_matching(*given, average, gather)
        assert got.item() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("average", ["mean", "nested"])
    def test_attraction(self, seed, gather, average):
        given = scene(seed)
        expected = plain_attraction(*arrays(*given), average, gather)
        assert attraction(*given, average, gather).item() == pytest.approx(expected, rel=1e-12)

    def test_repulsion(self, seed, gather):
        features, labels, _ = scene(seed)
        expected = plain_repulsion(*arrays(features, labels), gather)
        got = repulsion(features, labels, ALL, gather)
        assert got.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", [(0, 4, 255), (0, 255), (3,), (255,), (0,)])
def test_sparsification_against_plain_loops(seed, values):
    features, labels, _ = scene(seed)
    labels = torch.tensor(np.random.default_rng(seed).choice(values, labels.shape))
    expected = plain_sparsification(*arrays(features, labels))
    assert sparsification(features, labels).item() == pytest.approx(expected, rel=1e-12)


def sine(k, *shape):
    """Flat element i, from 0, is sin(k · (i + 1))."""
    values = np.sin(k * np.arange(1, math.prod(shape) + 1))
    return torch.tensor(values.reshape(shape))


class TestGoldenValues:
    """Of the released functions, run once in float64 on inputs that a formula gives."""

    FEATURES, PROTOTYPES = sine(0.9, 2, 8, 2, 2).abs(), sine(0.37, 6, 8).abs()
    OLD_LOGITS = 2 * sine(1.3, 2, 4, 4, 4)
    LABELS = torch.tensor([0, 0, 0, 0, 4, 4, 4, 5, 5, 5, 0])[7 * torch.arange(32) % 11].reshape(
        2, 4, 4
    )
    SMALL = nearest_labels(LABELS, (2, 2))

    def test_labels(self):
        assert self.SMALL.tolist() == [[[0, 0], [0, 4]], [[0, 4], [0, 4]]]

    @pytest.mark.parametrize("gather", ["intended", "released"])
    @pytest.mark.parametrize(
        ("average", "value"), [("classes", 0.22681539), ("pixels", 0.68044616)]
    )
    def test_matching_with_a_pixel_a_class(self, gather, average, value):
        labels = old_classes(self.LABELS, self.OLD_LOGITS, (2, 2))
        assert sorted(labels.flatten().tolist()) == [0, 0, 0, 0, 0, 1, 2, 3]
        got = prototype_matching(self.FEATURES, labels, self.PROTOTYPES, average, gather)
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
        labels = old_classes(self.LABELS, old, (2, 2))
        got = prototype_matching(self.FEATURES, labels, self.PROTOTYPES, average, gather)
        assert got.item() == pytest.approx(value, abs=1e-8)

    @pytest.mark.parametrize(
        ("gather", "average", "value"),
        [("released", "nested", 0.14384958), ("intended", "mean", 0.20984756)],
    )
    def test_attraction(self, gather, average, value):
        got = attraction(self.FEATURES, self.SMALL, self.PROTOTYPES, average, gather)
        assert got.item() == pytest.approx(value, abs=1e-8)

    @pytest.mark.parametrize(
        ("gather", "value"), [("released", 2.75851757), ("intended", 3.88333073)]
    )
    def test_repulsion(self, gather, value):
        got = repulsion(self.FEATURES, self.SMALL, 6, gather)
        assert got.item() == pytest.approx(value, abs=1e-8)

    def test_sparsification(self):
        got = sparsification(self.FEATURES, self.SMALL)
        assert got.item() == pytest.approx(3.10362815, abs=1e-8)


class TestByHand:
    def test_two_classes_of_a_pixel_each(self):
        features = torch.tensor([[0.0, 3.0], [0.0, 4.0]])[None, :, None]  # (0, 0) and (3, 4)
        labels, prototypes = torch.tensor([[[0, 1]]]), torch.ones(2, 2)
        assert repulsion(features, labels, 2).item() == pytest.approx(1 / 5)
        # class 0: mean of 1 and 1; class 1: mean of 4 and 9
        assert attraction(features, labels, prototypes).item() == pytest.approx((1 + 6.5) / 2)
        nested = attraction(features, labels, prototypes, "nested")
        assert nested.item() == pytest.approx(1 / 4 + 6.5 / 2)
        assert prototype_matching(features, labels, prototypes).item() == pytest.approx(6.5)

    def test_sparsification_falls_when_one_channel_carries_all(self):
        labels = torch.ones(1, 1, 1, dtype=torch.int64)
        flat, sparse = torch.ones(1, 4, 1, 1), torch.tensor([1.0, 0, 0, 0])[None, :, None, None]
        assert sparsification(flat, labels).item() == pytest.approx(math.e)  # 4e / 4
        assert sparsification(sparse, labels).item() == pytest.approx(math.e + 3)

    def test_nearest_takes_the_first_pixel_of_each_cell(self):
        labels = torch.arange(35).reshape(1, 5, 7)
        assert nearest_labels(labels, (2, 3)).tolist() == [[[0, 2, 4], [14, 16, 18]]]
        assert torch.equal(nearest_labels(labels, (5, 7)), labels)


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


class TestReleasedGather:
    @pytest.mark.parametrize("layout", ["n p", "p n"])
    def test_against_plain_loops(self, layout):
        features, labels, _ = scene(5)
        mixed = released_gather(features, labels, layout).detach().numpy()
        for c in range(ALL):
            got = vectors(mixed, labels.numpy(), c)
            expected = released_vectors(*arrays(features, labels), c, layout)
            assert np.array_equal(np.array(got).reshape(-1, DEPTH), expected)

    def test_is_right_for_one_image(self):
        features, labels, _ = scene(6, b=1)
        assert torch.equal(released_gather(features, labels, "n p"), features)
        assert not torch.equal(released_gather(features, labels, "p n"), features)


class TestIdentities:
    def test_features_at_their_prototypes_are_at_rest(self):
        _, labels, prototypes = scene(7)
        features = prototypes[labels % 255].movedim(-1, 1).contiguous().requires_grad_()
        for loss in (
            attraction(features, labels, prototypes),
            prototype_matching(features, labels, prototypes),
            prototype_matching(features, labels, prototypes, "pixels"),
        ):
            (grad,) = torch.autograd.grad(loss, features)
            assert loss < 1e-30
            assert grad.abs().max() < 1e-15

    def test_what_stands_in_ignored_pixels_does_not_matter(self):
        features, labels, prototypes = scene(8)
        ignored = (labels == 255)[:, None].expand_as(features)
        poisoned = torch.where(ignored, 1e4, features.detach()).requires_grad_()
        for loss in (
            lambda f: attraction(f, labels, prototypes),
            lambda f: repulsion(f, labels, ALL),
            lambda f: prototype_matching(f, labels, prototypes),
            lambda f: prototype_matching(f, labels, prototypes, "pixels"),
        ):
            assert loss(poisoned).item() == pytest.approx(loss(features).item(), rel=1e-14)
            (grad,) = torch.autograd.grad(loss(poisoned), poisoned)
            assert (grad[ignored] == 0).all()
            assert (grad[~ignored] != 0).any()

    def test_matching_takes_no_part_of_background(self):
        features, labels, prototypes = scene(9)
        (grad,) = torch.autograd.grad(prototype_matching(features, labels, prototypes), features)
        assert (grad.movedim(1, -1)[labels == 0] == 0).all()

    def test_no_gradient_reaches_the_prototypes(self):
        features, labels, prototypes = scene(10)
        prototypes.requires_grad_()
        for loss in (attraction, prototype_matching):
            loss(features, labels, prototypes).backward()
        assert prototypes.grad is None

    def test_attraction_is_the_mean_of_the_classes_distances(self):
        features, labels, prototypes = scene(11)
        distances, counts = class_distances(features, labels, prototypes)
        expected = distances[counts > 0].mean()
        assert attraction(features, labels, prototypes).item() == pytest.approx(expected.item())

    @pytest.mark.parametrize("classes", [25, 26, 40])
    def test_repulsion_of_many_classes(self, classes):
        """Above 25 rows a library's distance of a point to itself may not be 0."""
        rng = torch.Generator().manual_seed(classes)
        means = 30 + 0.1 * torch.randn(classes, 64, generator=rng)
        features = means.T.reshape(1, 64, 1, classes)
        labels = torch.arange(classes).reshape(1, 1, classes)
        expected = plain_repulsion(*arrays(features.double(), labels), "intended")
        assert repulsion(features, labels, classes).item() == pytest.approx(expected, rel=1e-5)


TERMS = {
    "prototype_matching": PrototypeMatching(),
    "matching_pixels": PrototypeMatching(average="pixels"),
    "matching_released": PrototypeMatching(gather="released"),
    "attraction": Attraction(),
    "attraction_released": Attraction(gather="released", average="nested"),
    "repulsion": Repulsion(),
    "repulsion_released": Repulsion(gather="released"),
    "sparsification": Sparsification(),
}


def outputs(body, logits):
    return Outputs(logits, logits, Features((), body, body))


def passed(body, labels, prototypes, old=OLD, seed=0):
    """A batch whose labels are twice as large as its features."""
    rng = torch.Generator().manual_seed(seed)
    b, h, w = labels.shape
    full = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    logits, old_logits = (
        torch.randn(b, c, 2 * h, 2 * w, generator=rng) for c in (len(prototypes), old)
    )
    none = torch.full_like(full, 255)  # pseudo-labels are none of these terms' business
    gathered = {"prototypes": {"means": prototypes}}
    return LossInputs(
        outputs(body, logits), outputs(body.detach(), old_logits), none, full, old, gathered
    )


class TestTerms:
    @pytest.mark.parametrize("name", TERMS)
    def test_gradients_fit_the_values(self, name):
        features, labels, prototypes = scene(12, h=3)
        assert torch.autograd.gradcheck(
            lambda f: TERMS[name](passed(f, labels, prototypes)), features, raise_exception=True
        )

    def test_they_are_the_functions_at_the_size_of_the_features(self):
        features, labels, prototypes = scene(13)
        batch = passed(features, labels, prototypes)
        assert Attraction()(batch) == attraction(features, labels, prototypes)
        assert Repulsion()(batch) == repulsion(features, labels, ALL)
        assert Sparsification()(batch) == sparsification(features, labels)
        for setting in ("overlapped", "disjoint", "sequential"):
            old = batch.old_outputs.logits
            matched = old_classes(batch.annotated, old, (4, 3), setting == "sequential")
            expected = prototype_matching(features, matched, prototypes)
            assert PrototypeMatching(setting=setting)(batch) == expected

    @pytest.mark.parametrize("name", TERMS)
    @pytest.mark.parametrize(
        "label",
        [
            pytest.param([255], id="all ignored"),
            pytest.param([0], id="only background"),
            pytest.param([3], id="a single class"),
            pytest.param([3, 5], id="no background"),
            pytest.param([0, 3, 5, 255], id="all kinds"),
        ],
    )
    @pytest.mark.parametrize("kind", ["some", "zero", "equal", "small", "tiny"])
    @pytest.mark.parametrize(("b", "new", "amp"), [(2, ALL - OLD, False), (1, 1, True)])
    def test_value_and_gradient_are_finite(self, name, label, kind, b, new, amp):
        rng = torch.Generator().manual_seed(0)
        classes = OLD + new
        pick = torch.randint(len(label), (b, 4, 3), generator=rng)
        labels = torch.tensor([v if v == 255 else min(v, classes - 1) for v in label])[pick]
        some = torch.randn(b, DEPTH, 4, 3, generator=rng).relu()
        body = {
            "some": some,
            "zero": torch.zeros_like(some),
            "equal": torch.full_like(some, 0.1),
            "small": 1e-20 * some,
            "tiny": 1e-30 * some,
        }[kind].to(torch.bfloat16 if amp else torch.float32)
        batch = passed(body.requires_grad_(), labels, torch.rand(classes, DEPTH, generator=rng))
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            value = TERMS[name](batch)
        (grad,) = torch.autograd.grad(value, body)
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert value >= 0
        assert grad.isfinite().all()

    @pytest.mark.parametrize("name", TERMS)
    def test_autocast_costs_no_digits(self, name):
        features, labels, prototypes = scene(14)
        batch = passed(features.detach().float().requires_grad_(), labels, prototypes.float())
        with torch.autocast("cpu", torch.bfloat16):
            reduced = TERMS[name](batch)
        assert reduced.item() == pytest.approx(TERMS[name](batch).item(), rel=1e-6)

    @pytest.mark.parametrize("name", ["repulsion", "repulsion_released"])
    def test_a_single_class_repels_nobody(self, name):
        features, labels, prototypes = scene(15)
        single = torch.where(labels == 255, 255, 4)
        value = TERMS[name](passed(features, single, prototypes))
        assert value == 0
        assert (torch.autograd.grad(value, features)[0] == 0).all()

    def test_equal_means_do_not_count(self):
        """Equal up to rounding: their distance says nothing, and its inverse would say a lot."""
        features = torch.full((1, 64, 4, 4), 0.1)
        features[..., 3] = 0.2
        labels = torch.tensor([0, 1, 1, 2]).expand(1, 4, 4).clone()
        labels[0, 0, :2] = 1
        features.requires_grad_()
        value = repulsion(features, labels, 3)
        assert value.item() == pytest.approx(1 / (0.1 * 8), rel=1e-5)
        assert torch.autograd.grad(value, features)[0].abs().max() < 1

    def test_only_background_is_nothing_to_make_sparse(self):
        features, labels, _ = scene(16)
        value = sparsification(features, torch.zeros_like(labels))
        assert value == 0
        assert (torch.autograd.grad(value, features)[0] == 0).all()

    def test_a_pixel_without_features_adds_nothing(self):
        features, labels, _ = scene(17)
        dead = features.detach().clone()
        dead[0, :, 1, 1] = 0
        labels[0, 1, 1], labels[0, 0, 1] = 4, 4
        dead.requires_grad_()
        value = sparsification(dead, labels)
        others = labels.clone()
        others[0, 1, 1] = 200  # on its own, so that no other pixel's maximum changes
        expected = sparsification(dead.detach(), others)
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        assert value < 50
        (grad,) = torch.autograd.grad(value, dead)
        assert (grad[0, :, 1, 1] == 0).all()
        assert grad.isfinite().all()

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            ({"part": "prototype_matching", "average": "mean"}, r"`x\.average`.*classes, pixels"),
            ({"part": "prototype_matching", "setting": "x"}, r"`x\.setting`.*sequential"),
            ({"part": "attraction", "average": "pixels"}, r"`x\.average`.*mean, nested"),
            ({"part": "repulsion", "gather": "code"}, r"`x\.gather`.*intended, released"),
            ({"part": "sparsification", "weight": -1}, "`weight`.*got -1"),
        ],
    )
    def test_refusals(self, recipe, message):
        with pytest.raises(InputError, match=message):
            build_part("cssegcore.method.losses", Loss, recipe, "x")
