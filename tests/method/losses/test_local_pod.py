import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss, LossInputs
from cssegcore.method.losses.local_pod import (
    LocalPod,
    local_pod,
    merge_new_classes,
    strip_distance,
    strip_means,
)
from cssegcore.models.outputs import Features, Outputs

OLD, ALL = 3, 5
SCALES = (1, 2, 4)


def plain_embedding(image, scales):
    """Strips of every window of the squares of one image (n, h, w), from the paper's figure."""
    values = []
    for s in scales:
        a, b = image.shape[1] // s, image.shape[2] // s
        for i in range(s):
            for j in range(s):
                window = image[:, i * a : (i + 1) * a, j * b : (j + 1) * b] ** 2
                values += [*window.mean(2).ravel(), *window.mean(1).ravel()]
    return np.array(values)


def plain_distance(old, new, scales):
    pairs = zip(old, new, strict=True)
    return [
        np.linalg.norm(plain_embedding(o, scales) - plain_embedding(n, scales)) for o, n in pairs
    ]


def maps(seed, *shape, scale=1.0):
    return scale * torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def batch_of(new_maps, old_maps, labels=None):
    """A batch whose maps are the stages, the decoder's features and the small scores."""
    outputs = []
    for *stages, top, small in (new_maps, old_maps):
        h, w = small.shape[-2:]
        logits = torch.nn.functional.interpolate(small, (2 * h, 2 * w))
        outputs.append(Outputs(logits, small, Features(tuple(stages), stages[-1].relu(), top)))
    new, old = outputs
    if labels is None:
        labels = torch.zeros(len(new.logits), *new.logits.shape[-2:], dtype=torch.int64)
    return LossInputs(new, old, labels, labels, old.logits_lowres.shape[1])


def layers(seed, b=2, h=8, w=8, k=OLD, c=ALL):
    """Old and new maps of three layers; the last has k old and c new outputs."""
    shapes = [(b, 4, 2 * h, 2 * w), (b, 2, h, w), (b, k, h, w)]
    old = [maps(seed + i, *shape) for i, shape in enumerate(shapes)]
    shapes[-1] = (b, c, h, w)
    return old, [maps(seed + 10 + i, *shape).requires_grad_() for i, shape in enumerate(shapes)]


class TestStripDistance:
    @pytest.mark.parametrize(
        ("h", "w", "scales"),
        [
            pytest.param(8, 8, SCALES, id="published"),
            pytest.param(9, 9, SCALES, id="remainder"),
            pytest.param(11, 7, SCALES, id="oblong with remainder"),
            pytest.param(4, 12, SCALES, id="oblong"),
            pytest.param(7, 6, (3,), id="one scale"),
            pytest.param(5, 5, (1, 3), id="scales that do not divide each other"),
        ],
    )
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_against_plain_loops(self, h, w, scales, channels_last):
        old, new = maps(0, 2, 3, h, w), maps(1, 2, 3, h, w)
        expected = plain_distance(old.numpy(), new.numpy(), scales)
        if channels_last:
            old, new = (x.to(memory_format=torch.channels_last) for x in (old, new))
        assert strip_distance(old, new, scales).tolist() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(("scales", "norm"), [(SCALES, 764.518803), ((1,), 258.787558)])
    def test_ramp_against_ones(self, scales, norm):
        ramp = torch.arange(16.0).double().reshape(1, 1, 4, 4)
        got = strip_distance(torch.ones_like(ramp), ramp, scales)
        assert got.item() == pytest.approx(norm, abs=1e-6)

    def test_by_hand(self):
        # squares 1 4 / 9 16; over columns 2.5, 12.5; over rows 5, 10
        image = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]]])
        across, down = strip_means(image.square(), (1,))
        assert across.flatten().tolist() == [2.5, 12.5]
        assert down.flatten().tolist() == [5, 10]
        got = strip_distance(torch.zeros_like(image), image, (1,))
        assert got.item() == pytest.approx(math.sqrt(2.5**2 + 12.5**2 + 5**2 + 10**2))

    def test_left_over_pixels_do_not_count(self):
        old, new = maps(2, 1, 2, 9, 10), maps(3, 1, 2, 9, 10)
        poisoned = new.clone()
        poisoned[..., 8:, :] = 1e4
        poisoned[..., 8:] = 1e4
        got = strip_distance(old, poisoned, (4,))
        assert torch.equal(got, strip_distance(old, new, (4,)))

    def test_sign_does_not_matter(self):
        old, new = maps(4, 1, 2, 8, 8), maps(5, 1, 2, 8, 8)
        assert torch.equal(strip_distance(old, new, SCALES), strip_distance(-old, new, SCALES))

    def test_identical_maps(self):
        new = maps(8, 2, 3, 8, 8).requires_grad_()
        value = strip_distance(new.detach(), new, SCALES)
        (grad,) = torch.autograd.grad(value.sum(), new)
        assert value.tolist() == [0, 0]
        assert (grad == 0).all()

    def test_old_map_gets_no_gradient(self):
        old, new = maps(9, 1, 2, 4, 4).requires_grad_(), maps(10, 1, 2, 4, 4).requires_grad_()
        strip_distance(old, new, SCALES).sum().backward()
        assert old.grad is None
        assert new.grad is not None

    def test_gradient_after_a_first_call_in_inference_mode(self):
        old, new = maps(15, 1, 2, 13, 13), maps(16, 1, 2, 13, 13).requires_grad_()
        with torch.inference_mode():
            strip_distance(old, old, SCALES)
        assert torch.autograd.grad(strip_distance(old, new, SCALES).sum(), new)[0].abs().sum() > 0

    @pytest.mark.parametrize(("h", "w"), [(3, 8), (8, 3)])
    def test_map_too_small(self, h, w):
        small = maps(17, 1, 2, h, w)
        with pytest.raises(
            ValueError, match=r"4 windows.*only 3 pix.*local_pod\.scales.*larger crop"
        ):
            strip_distance(small, small, SCALES)


class TestMerge:
    SCORES = torch.arange(5.0).reshape(1, 5, 1, 1)

    @pytest.mark.parametrize(
        ("merge", "expected"),
        [
            pytest.param("sum", [0 + 3 + 4, 1, 2], id="sum"),
            pytest.param("trim", [0, 1, 2], id="trim"),
        ],
    )
    def test_by_hand(self, merge, expected):
        assert merge_new_classes(self.SCORES, 3, merge).flatten().tolist() == expected

    @pytest.mark.parametrize("merge", ["sum", "trim"])
    def test_nothing_new(self, merge):
        assert torch.equal(merge_new_classes(self.SCORES, 5, merge), self.SCORES)


class TestLocalPod:
    def test_against_plain_loops(self):
        old, new = layers(20)
        plain = [z.detach().numpy().copy() for z in new]
        plain[-1][:, 0] += plain[-1][:, OLD:].sum(1)
        plain[-1] = plain[-1][:, :OLD]
        factors = [0.5, 0.25, 3.0]
        expected = [
            f * np.mean(plain_distance(o.numpy(), n, SCALES)) / 3
            for f, o, n in zip(factors, old, plain, strict=True)
        ]
        assert local_pod(old, new, factors).tolist() == pytest.approx(expected, rel=1e-12)

    def test_part_by_hand(self):
        old, new = layers(21)
        growth = math.sqrt(ALL / (ALL - OLD))
        expected = local_pod(old, new, [0.01 * growth, 0.01 * growth, 0.0005 * growth]).sum()
        got = LocalPod()(batch_of(new, old))
        assert got.item() == pytest.approx(expected.item(), rel=1e-12)
        flat = LocalPod(schedule=False)(batch_of(new, old))
        assert flat.item() == pytest.approx(expected.item() / growth, rel=1e-12)

    def test_part_hands_its_numbers_on(self):
        old, new = layers(22)
        part = LocalPod(factor=2.0, last_factor=3.0, merge="trim", schedule=False, scales=(2,))
        expected = local_pod(old, new, [2.0, 2.0, 3.0], "trim", (2,)).sum()
        assert torch.equal(part(batch_of(new, old)), expected)

    def test_a_step_without_new_classes_has_no_schedule(self):
        old, new = layers(23, c=OLD)
        got = LocalPod()(batch_of(new, old))
        assert torch.equal(got, LocalPod(schedule=False)(batch_of(new, old)))

    def test_maps_as_they_were(self):
        old, _ = layers(26, c=OLD)
        new = [z.clone().requires_grad_() for z in old]
        value = LocalPod()(batch_of(new, old))
        assert value == 0
        assert all((g == 0).all() for g in torch.autograd.grad(value, new))

    @pytest.mark.parametrize("name", ["factor", "last_factor"])
    @pytest.mark.parametrize("value", [-1, math.inf, math.nan])
    def test_refused_factor(self, name, value):
        with pytest.raises(InputError, match=rf"`x`: `{name}`.*got {float(value)}"):
            build_part("cssegcore.method.losses", Loss, {"part": "local_pod", name: value}, "x")

    @pytest.mark.parametrize("scales", [[], [0], [1, -2]])
    def test_refused_scales(self, scales):
        with pytest.raises(InputError, match="`x`: `scales`"):
            build_part(
                "cssegcore.method.losses", Loss, {"part": "local_pod", "scales": scales}, "x"
            )

    def test_refused_merge(self):
        with pytest.raises(InputError, match=r"`x\.merge` must be one of sum, trim"):
            build_part("cssegcore.method.losses", Loss, {"part": "local_pod", "merge": "max"}, "x")
