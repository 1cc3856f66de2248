import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.inversion.competition import competition
from cssegcore.inversion.feature_statistics import (
    batch_norms,
    record_feature_statistics,
    released_factors,
    statistics_distance,
)
from cssegcore.inversion.objective import objective
from cssegcore.inversion.priors import image_l2, total_variation_l1, total_variation_l2
from cssegcore.inversion.settings import InversionWeights

PRIORS = [total_variation_l1, total_variation_l2, image_l2]
SHAPE = (2, 3, 5, 6)


def random(*shape, seed=0, scale=1.0):
    return torch.tensor(scale * np.random.default_rng(seed).standard_normal(shape))


def leaf(values):
    return values.clone().requires_grad_()


def gradients(value, *of):
    return torch.autograd.grad(value, of)


def plain_differences(images):
    """The differences of each pixel from the one on the right, below, and on both diagonals."""
    b, n, h, w = images.shape
    steps = [(0, 1), (1, 0), (-1, 1), (1, 1)]
    pixels = [(y, x) for y in range(h) for x in range(w)]
    return [
        [
            images[i, k, y, x] - images[i, k, y + dy, x + dx]
            for i in range(b)
            for k in range(n)
            for y, x in pixels
            if 0 <= y + dy < h and x + dx < w
        ]
        for dy, dx in steps
    ]


def plain_length(values):
    return math.sqrt(math.fsum(v * v for v in values))


def plain_prior(prior, images):
    if prior is image_l2:
        return math.fsum(plain_length(image.ravel()) for image in images) / len(images)
    differences = plain_differences(images)
    if prior is total_variation_l2:
        return math.fsum(plain_length(d) for d in differences)
    return math.fsum(math.fsum(abs(v) for v in d) / len(d) for d in differences)


@pytest.mark.parametrize("prior", PRIORS)
class TestPriors:
    @pytest.mark.parametrize("seed", range(3))
    def test_against_plain_loops(self, prior, seed):
        images = random(2 + seed, 3, 4, 7 - seed, seed=seed)
        assert prior(images).item() == pytest.approx(plain_prior(prior, images.numpy()), rel=1e-12)

    def test_gradient(self, prior):
        assert torch.autograd.gradcheck(prior, leaf(random(2, 2, 3, 4)))

    @pytest.mark.parametrize("shape", [SHAPE, (1, 3, 1, 4), (1, 1, 4, 1), (1, 1, 1, 1)])
    @pytest.mark.parametrize("value", [0.0, 2.5])
    def test_constant_images(self, prior, shape, value):
        images = leaf(torch.full(shape, value))
        found = prior(images)
        (gradient,) = gradients(found, images)
        if prior is not image_l2:
            assert found == 0
            assert not gradient.any()
        elif value:
            n = math.prod(shape[1:])
            assert found.item() == pytest.approx(value * math.sqrt(n))
            torch.testing.assert_close(
                gradient, torch.full(shape, 1 / math.sqrt(n) / shape[0]), atol=1e-6, rtol=0
            )
        assert gradient.isfinite().all()

    def test_halves_are_summed_in_float32(self, prior):
        images = random(*SHAPE).bfloat16()
        assert prior(images).dtype is torch.float32
        expected = plain_prior(prior, images.double().numpy())
        assert prior(images).item() == pytest.approx(expected, rel=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert prior(images.float()).item() == pytest.approx(expected, rel=1e-5)

    def test_many_pixels_keep_their_digits(self, prior):
        images = random(4, 3, 300, 300)
        assert prior(images.float()).item() == pytest.approx(prior(images).item(), rel=1e-6)


class TestPriorsByHand:
    # differences: right -3, -4 ; below -1, -2 ; up to the right 1 - 3 = -2 ; down to it 0 - 5 = -5
    IMAGE = torch.tensor([[[[0.0, 3.0], [1.0, 5.0]]]]).double()

    def test_total_variation_l1(self):
        assert total_variation_l1(self.IMAGE).item() == pytest.approx(3.5 + 1.5 + 2 + 5)

    def test_total_variation_l2(self):
        expected = 5 + math.sqrt(5) + 2 + 5
        assert total_variation_l2(self.IMAGE).item() == pytest.approx(expected)

    def test_a_batch_twice_as_large(self):
        twice = self.IMAGE.repeat(2, 1, 1, 1)
        for prior, grown in zip(PRIORS, (1, math.sqrt(2), 1), strict=True):
            assert prior(twice).item() == pytest.approx(grown * prior(self.IMAGE).item())


class Plain(nn.Module):
    """Two batch normalisations with statistics that are no defaults, and a residual sum."""

    def __init__(self, channels=(3, 4), seed=1):
        super().__init__()
        (a, b), rng = channels, torch.Generator().manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, a, 3, 1, 1), nn.BatchNorm2d(a), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b))
        self.score = nn.Conv2d(b, 3, 1)
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                if tensor.is_floating_point():
                    tensor.uniform_(0.2, 0.8, generator=rng)
        self.eval()

    def forward(self, images):
        shallow = self.stem(images)
        return self.score(self.deep(shallow).relu())


def plain_distance(values, running_mean, running_var):
    """Both norms, channel by channel."""
    means, variances = [], []
    for k in range(values.shape[1]):
        pixels = values[:, k].ravel().tolist()
        mean = math.fsum(pixels) / len(pixels)
        means.append(mean - running_mean[k])
        variances.append(math.fsum((p - mean) ** 2 for p in pixels) / len(pixels) - running_var[k])
    return plain_length(means) + plain_length(variances)


def pieces(network, images):
    """The inputs of both normalisations, without hooks."""
    first = network.stem[0](images)
    return first, network.deep[0](network.stem[2](network.stem[1](first)))


def hooks(network):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules())


class TestStatisticsDistance:
    @pytest.mark.parametrize("seed", range(3))
    def test_against_plain_loops(self, seed):
        values, mean, var = random(2, 4, 3, 5, seed=seed), random(4), random(4).exp()
        found = statistics_distance(values, mean, var).item()
        expected = plain_distance(values.numpy(), mean.numpy(), var.numpy())
        assert found == pytest.approx(expected, rel=1e-12)

    def test_by_hand(self):
        # one channel of 0 and 4: mean 2, biased variance 4
        values = torch.tensor([0.0, 4.0]).reshape(2, 1, 1, 1)
        assert statistics_distance(values, torch.tensor([5.0]), torch.tensor([10.0])) == 3 + 6

    def test_gradient(self):
        mean, var = random(2), random(2).exp()
        assert torch.autograd.gradcheck(
            lambda values: statistics_distance(values, mean, var), leaf(random(2, 2, 2, 3))
        )

    @pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 3, 1, 1)])
    def test_no_variance_and_no_distance(self, shape):
        values = leaf(torch.full(shape, 0.5))
        found = statistics_distance(values, torch.full((3,), 0.5), torch.zeros(3))
        assert found == 0
        assert not gradients(found, values)[0].any()
        found = statistics_distance(values, torch.zeros(3), torch.ones(3))
        assert found.item() == pytest.approx(math.sqrt(0.75) + math.sqrt(3))
        assert gradients(found, values)[0].isfinite().all()

    def test_halves_are_counted_in_float32_also_under_autocast(self):
        values, mean, var = random(2, 4, 9, 9).bfloat16(), random(4).float(), torch.ones(4)
        expected = plain_distance(values.double().numpy(), mean.tolist(), var.tolist())
        with torch.autocast("cpu", torch.bfloat16):
            found = statistics_distance(values, mean, var)
        assert found.dtype is torch.float32
        assert found.item() == pytest.approx(expected, rel=1e-5)


class TestObserved:
    @pytest.fixture
    def network(self):
        return Plain().double()

    def test_each_layer_s_input_is_measured_and_the_first_counts_more(self, network):
        images = random(*SHAPE)
        norms = batch_norms(network)
        assert list(norms) == ["stem.1", "deep.1"]
        expected = [
            plain_distance(
                values.detach().numpy(), norm.running_mean.numpy(), norm.running_var.numpy()
            )
            for values, norm in zip(pieces(network, images), norms.values(), strict=True)
        ]
        with record_feature_statistics(network, released_factors(network)) as statistics:
            network(images)
            got = [value.item() for value in statistics.distances.values()]
            assert got == pytest.approx(expected, rel=1e-12)
            total = statistics.total().item()
        assert total == pytest.approx(10 * expected[0] + expected[1], rel=1e-12)

    def test_only_the_layers_with_a_factor_are_measured(self, network):
        with record_feature_statistics(network, {"deep.1": 0.5}) as statistics:
            network(random(*SHAPE))
            assert list(statistics.distances) == ["deep.1"]
            assert statistics.total() == 0.5 * statistics.distances["deep.1"]

    def test_the_latest_pass_counts(self, network):
        with record_feature_statistics(network, released_factors(network)) as statistics:
            network(random(*SHAPE))
            first = statistics.total()
            network(random(*SHAPE, seed=1))
            second = statistics.total()
            assert first != second
            network(random(*SHAPE))
            assert statistics.total() == first

    def test_a_layer_that_did_not_run_is_told(self, network):
        with record_feature_statistics(network, released_factors(network)) as statistics:
            with pytest.raises(ValueError, match=r"no forward pass ran the layer `stem\.1`"):
                statistics.total()
            network(random(*SHAPE))
            network.deep.forward = lambda _: (_ for _ in ()).throw(RuntimeError("broken"))
            with pytest.raises(RuntimeError, match="broken"):
                network(random(*SHAPE))
            with pytest.raises(ValueError, match=r"`deep\.1`"):
                statistics.total()

    def test_gradient_to_the_images(self, network):
        with record_feature_statistics(network, released_factors(network)) as statistics:

            def total(images):
                network(images)
                return statistics.total()

            assert torch.autograd.gradcheck(total, leaf(random(2, 3, 4, 3)))

    def test_gradient_to_nothing_else(self, network):
        network.score.bias.requires_grad_(False)
        before = [weight.requires_grad for weight in network.parameters()]
        assert any(before)
        images = leaf(random(*SHAPE))
        with record_feature_statistics(network, released_factors(network)) as statistics:
            network(images)
            statistics.total().backward()
        assert images.grad.any()
        assert all(weight.grad is None for weight in network.parameters())
        assert [weight.requires_grad for weight in network.parameters()] == before

    def test_hooks_and_measurements_are_gone_afterwards(self, network):
        with record_feature_statistics(network, released_factors(network)) as statistics:
            network(random(*SHAPE))
            assert hooks(network) == 3
        assert hooks(network) == 0
        assert not statistics.distances

    def test_also_after_an_error(self, network):
        def fail():
            with record_feature_statistics(network, released_factors(network)) as statistics:
                network(random(*SHAPE))
                left.append(statistics)
                raise KeyError

        left = []
        with pytest.raises(KeyError):
            fail()
        assert hooks(network) == 0
        assert not left[0].distances
        assert all(weight.requires_grad for weight in network.parameters())

    def test_mode_and_state_stay(self, network):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        images = leaf(random(*SHAPE))
        plain = network(images)
        with record_feature_statistics(network, released_factors(network)) as statistics:
            assert torch.equal(network(images), plain)
            statistics.total().backward()
            assert not network.training
        assert not any(module.training for module in network.modules())
        assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())

    def test_float32_under_autocast(self):
        network, images = Plain(), leaf(random(*SHAPE).float())
        with record_feature_statistics(network, released_factors(network)) as statistics:
            with torch.autocast("cpu", torch.bfloat16):
                network(images)
                total = statistics.total()
            assert {v.dtype for v in statistics.distances.values()} == {torch.float32}
            first, second = statistics.distances.values()
            assert total.item() == pytest.approx(10 * first.item() + second.item(), rel=1e-6)
            assert gradients(total, images)[0].isfinite().all()
            network(images)
            assert total.item() == pytest.approx(statistics.total().item(), rel=0.02)

    def test_constant_images_have_finite_gradients(self):
        network, images = Plain(), leaf(torch.zeros(*SHAPE))
        with record_feature_statistics(network, released_factors(network)) as statistics:
            network(images)
            assert gradients(statistics.total(), images)[0].isfinite().all()

    def test_the_photographs_of_the_statistics_are_as_far_as_the_bias(self, network):
        photographs = random(4, 3, 6, 5)
        first = network.stem[1]
        first.momentum = 1.0
        network.train()(photographs)
        network.eval()
        with record_feature_statistics(network, {"stem.1": 1.0}) as statistics:
            network(photographs)
            # biased less unbiased variance: -1/n of the latter, n = 4 images of 6 x 5
            expected = plain_length(first.running_var.tolist()) / 120
            assert statistics.total().item() == pytest.approx(expected, rel=1e-9)
            network(photographs + 1)
            assert statistics.total().item() > 10 * expected


class TestRefused:
    @pytest.mark.parametrize(
        ("layers", "reason"),
        [
            ([nn.Conv2d(3, 4, 1), nn.ReLU()], "it has no normalisation at all"),
            ([nn.GroupNorm(2, 4)], "normalises by GroupNorm and has no BatchNorm2d"),
            ([nn.LayerNorm(4)], "normalises by LayerNorm and"),
            ([nn.InstanceNorm2d(4), nn.LayerNorm(4)], "by InstanceNorm2d, LayerNorm and"),
            (
                [nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)],
                r"`1` keeps none \(track_running_stats=False\)",
            ),
        ],
    )
    def test_networks_without_running_statistics(self, layers, reason):
        network = nn.Sequential(*layers).eval()
        with pytest.raises(InputError, match=f"Sequential cannot be inverted: .*{reason}") as told:
            released_factors(network)
        assert "stored photographs" in str(told.value)
        assert "\n" not in str(told.value)
        with (
            pytest.raises(InputError, match=reason),
            record_feature_statistics(network, {"0": 1.0}),
        ):
            pass
        assert hooks(network) == 0

    def test_group_norm_beside_batch_norm_is_no_matter(self):
        network = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
        assert released_factors(network, 3.0) == {"0": 3.0}

    def test_a_network_in_training(self):
        network = Plain()
        network.deep.train()
        with (
            pytest.raises(ValueError, match=r"evaluation mode.*`deep` trains"),
            record_feature_statistics(network, released_factors(network)),
        ):
            pass
        assert hooks(network) == 0

    @pytest.mark.parametrize(
        ("factors", "message"),
        [
            ({}, "must name a layer"),
            ({"stem.0": 1.0}, r"`stem\.0`, which is no BatchNorm2d; there are stem\.1, deep\.1"),
            ({"stem.1": -1.0}, r"`stem\.1` must be a finite number >= 0, got -1"),
            ({"stem.1": math.nan}, "got nan"),
            ({"stem.1": math.inf}, "got inf"),
        ],
    )
    def test_factors(self, factors, message):
        network = Plain()
        with pytest.raises(ValueError, match=message), record_feature_statistics(network, factors):
            pass
        assert hooks(network) == 0


def softmax(scores, temperature):
    powers = [math.exp(s / temperature) for s in scores]
    return [p / math.fsum(powers) for p in powers]


def plain_competition(teacher, student, temperature=3.0):
    """Lists of scores, an image or pixel each."""

    def clamped(p):
        return min(max(p, 0.01), 0.99)

    disagreement = 0.0
    for scores in zip(teacher, student, strict=True):
        pair = zip(*(softmax(z, temperature) for z in scores), strict=True)
        for p, q in pair:
            m, p, q = clamped((p + q) / 2), clamped(p), clamped(q)
            disagreement += m * (math.log(m) - math.log(p)) / 2 + m * math.log(m / q) / 2
    return 1 - min(max(disagreement / len(teacher), 0), 1)


class TestCompetition:
    @pytest.mark.parametrize("temperature", [3.0, 1.0])
    @pytest.mark.parametrize("scale", [0.1, 2.0, 12.0])
    def test_images_against_plain_loops(self, scale, temperature):
        teacher, student = (random(4, 6, seed=s, scale=scale) for s in (1, 2))
        found = competition(teacher, student, temperature).item()
        expected = plain_competition(teacher.tolist(), student.tolist(), temperature)
        assert found == pytest.approx(expected, rel=1e-12)

    def test_pixels_against_plain_loops(self):
        teacher, student = (random(2, 5, 3, 4, seed=s, scale=5.0) for s in (1, 2))
        rows = [z.permute(0, 2, 3, 1).reshape(-1, 5).tolist() for z in (teacher, student)]
        found = competition(teacher, student).item()
        assert 0 < found < 1
        assert found == pytest.approx(plain_competition(*rows), rel=1e-12)

    def test_a_larger_map_is_no_larger_disagreement(self):
        teacher, student = (random(2, 5, 3, 4, seed=s) for s in (1, 2))
        wide = [z.repeat(1, 1, 2, 3) for z in (teacher, student)]
        assert competition(*wide).item() == pytest.approx(competition(teacher, student).item())

    def test_by_hand(self):
        # P = (3/4, 1/4), Q = (1/4, 3/4), M = (1/2, 1/2): KL(M‖P) = KL(M‖Q) = log(4/3) / 2
        teacher = torch.tensor([[3 * math.log(3), 0.0]], dtype=torch.float64)
        found = competition(teacher, teacher.flip(1)).item()
        assert found == pytest.approx(1 - math.log(4 / 3) / 2, rel=1e-12)

    def test_both_models_count_the_same(self):
        teacher, student = (random(4, 6, seed=s) for s in (1, 2))
        assert competition(teacher, student).item() == pytest.approx(
            competition(student, teacher).item(), rel=1e-14
        )

    def test_gradient(self):
        logits = [leaf(random(2, 4, 2, 1, seed=s)) for s in (1, 2)]
        assert torch.autograd.gradcheck(competition, logits)

    @pytest.mark.parametrize("shape", [(3, 5), (2, 5, 3, 3)])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_identical_logits(self, shape, scale):
        logits = leaf((scale * random(*shape)).float())
        student = leaf(logits.detach())
        found = competition(logits, student)
        assert found.item() == pytest.approx(1, abs=1e-6)
        for gradient in gradients(found, logits, student):
            assert gradient.abs().max() < 1e-6

    def test_opposite_and_many_classes_give_no_gradient(self):
        for teacher, student, expected in (
            (200 * torch.eye(4), -200 * torch.eye(4), 0.0),
            (random(2, 300, seed=1).float(), random(2, 300, seed=2).float(), 1.0),
        ):
            teacher.requires_grad_()
            found = competition(teacher, student)
            assert found == expected
            assert not gradients(found, teacher)[0].any()

    def test_clamps_that_make_the_disagreement_negative_count_as_none(self):
        # 80 classes each: P and Q are 1/80 where the other is 0, M is 1/160 and clamped to 1/100
        teacher = leaf(torch.tensor([[0.0] * 80 + [-300.0] * 80]))
        found = competition(teacher, teacher.detach().flip(1))
        assert found == 1
        assert not gradients(found, teacher)[0].any()

    def test_halves_are_counted_in_float32_also_under_autocast(self):
        teacher, student = (random(2, 5, 3, 4, seed=s).bfloat16() for s in (1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            found = competition(teacher, student)
        assert found.dtype is torch.float32
        expected = competition(teacher.double(), student.double())
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
    def test_bad_temperature(self, temperature):
        with pytest.raises(ValueError, match="`temperature` must be a finite number > 0"):
            competition(torch.zeros(1, 2), torch.zeros(1, 2), temperature)


def never():
    raise AssertionError("a term without weight was computed")


class TestObjective:
    IMAGES = random(*SHAPE)
    TERMS = tuple(torch.tensor(v, dtype=torch.float64) for v in (0.7, 3.0, 0.4))

    def test_the_sum_of_all_terms(self):
        weights = InversionWeights(2.0, 0.3, 0.5, 0.25, 0.125, 4.0)
        found = objective(weights, self.IMAGES, *self.TERMS)
        priors = [plain_prior(prior, self.IMAGES.numpy()) for prior in PRIORS]
        expected = 2 * 0.7 + 0.3 * 3 + 0.5 * priors[0] + 0.25 * priors[1] + 0.125 * priors[2] + 1.6
        assert found.total.item() == pytest.approx(expected, rel=1e-12)
        assert {name: value.item() for name, value in found.terms.items()} == pytest.approx(
            {
                "target": 0.7,
                "features": 3.0,
                "total_variation_l1": priors[0],
                "total_variation_l2": priors[1],
                "image_l2": priors[2],
                "competition": 0.4,
            },
            rel=1e-12,
        )

    def test_a_term_may_be_what_computes_it(self):
        weights = InversionWeights(competition=0.5)
        plain = objective(weights, self.IMAGES, *self.TERMS)
        lazy = objective(weights, self.IMAGES, *(lambda t=t: t for t in self.TERMS))
        assert lazy.total == plain.total
        assert lazy.terms == plain.terms

    def test_a_term_without_weight_is_not_computed(self):
        found = objective(
            InversionWeights(target=0.0, features=0.0), self.IMAGES, never, never, never
        )
        assert (found.terms["target"], found.terms["competition"]) == (0, 0)
        priors = [plain_prior(prior, self.IMAGES.numpy()) for prior in PRIORS]
        assert found.terms["total_variation_l1"].item() == pytest.approx(priors[0])
        assert found.total.item() == pytest.approx(1e-4 * priors[1] + 1e-5 * priors[2], rel=1e-12)

    def test_what_has_no_weight_moves_nothing_however_bad(self):
        images, bad = leaf(self.IMAGES), leaf(torch.tensor(math.nan))
        found = objective(InversionWeights(), images, *self.TERMS[:2], competition=bad)
        assert found.total.isfinite()
        found.total.backward()
        assert bad.grad is None
        assert images.grad.isfinite().all()

    def test_gradient(self):
        weights = InversionWeights(1.5, 1.0, 1.0, 1.0, 1.0, 1.0)

        def total(images):
            square = images.square().mean()
            return objective(weights, images, square, square.exp(), square.sin).total

        assert torch.autograd.gradcheck(total, leaf(random(1, 2, 2, 3)))

    def test_terms_hold_no_graph(self):
        found = objective(InversionWeights(), leaf(self.IMAGES), *self.TERMS)
        assert found.total.requires_grad
        assert not any(term.requires_grad for term in found.terms.values())

    def test_layouts_as_targets_of_a_segmentation(self):
        network, student = Plain(seed=1), Plain(seed=2)
        images = leaf(random(2, 3, 8, 8).float())
        layouts = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(0))
        layouts[0, 0] = 255
        weights = InversionWeights(competition=0.2)
        with record_feature_statistics(network, released_factors(network)) as statistics:
            logits = network(images)
            found = objective(
                weights,
                images,
                lambda: F.cross_entropy(logits, layouts, ignore_index=255),
                statistics.total,
                lambda: competition(logits, student(images)),
            )
            found.total.backward()
        assert images.grad.isfinite().all()
        assert all(images.grad[i].any() for i in range(2))
        assert all(weight.grad is None for weight in network.parameters())

    @pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
    @pytest.mark.parametrize("name", ["target", "features", "competition", "image_l2"])
    def test_bad_weight(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be a finite number >= 0, got {value}"):
            InversionWeights(**{name: value})

    def test_no_weight_at_all(self):
        with pytest.raises(ValueError, match="one of the weights must be > 0"):
            InversionWeights(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
