import math

import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.inversion.feature_statistics import (
    batch_norms,
    record_feature_statistics,
    statistics_distance,
)
from tests.helpers.inversion_formulas import gradient, leaf, plain_length, random, released_factors

SHAPE = (2, 3, 5, 6)


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
        assert not gradient(found, values).any()
        found = statistics_distance(values, torch.zeros(3), torch.ones(3))
        assert found.item() == pytest.approx(math.sqrt(0.75) + math.sqrt(3))
        assert gradient(found, values).isfinite().all()

    def test_halves_are_counted_in_float32_also_under_autocast(self):
        values, mean, var = random(2, 4, 9, 9).bfloat16(), random(4).float(), torch.ones(4)
        expected = plain_distance(values.double().numpy(), mean.tolist(), var.tolist())
        with torch.autocast("cpu", torch.bfloat16):
            found = statistics_distance(values, mean, var)
        assert found.dtype is torch.float32
        assert found.item() == pytest.approx(expected, rel=1e-5)


class TestRecord:
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
            assert gradient(total, images).isfinite().all()
            network(images)
            assert total.item() == pytest.approx(statistics.total().item(), rel=0.02)

    def test_constant_images_have_finite_gradients(self):
        network, images = Plain(), leaf(torch.zeros(*SHAPE))
        with record_feature_statistics(network, released_factors(network)) as statistics:
            network(images)
            assert gradient(statistics.total(), images).isfinite().all()

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


class TestRefusals:
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
