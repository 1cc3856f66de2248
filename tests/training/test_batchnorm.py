import copy

import pytest
import torch
from torch import nn

from cssegcore.runtime.distributed import World
from cssegcore.training import batchnorm
from cssegcore.training.batchnorm import frozen_running_stats, synchronized


def network():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for values in (made[1].weight, made[1].bias, made[1].running_mean):
            values.copy_(torch.randn(4))
    return made


def buffers(made):
    return {name: buffer.clone() for name, buffer in made.named_buffers()}


class TestFrozenRunningStats:
    def test_batch_statistics_normalize_and_running_ones_stay(self):
        made, images = network(), torch.randn(2, 3, 5, 5)
        before, wanted = buffers(made), copy.deepcopy(made)(images)
        with frozen_running_stats(made):
            assert torch.equal(made(images), wanted)
        after = buffers(made)
        for name in ("1.running_mean", "1.running_var"):
            assert torch.equal(after[name], before[name])
        made(images)
        assert not torch.equal(buffers(made)["1.running_mean"], before["1.running_mean"])

    def test_momentum_comes_back_after_an_error(self):
        made = network()
        with pytest.raises(RuntimeError), frozen_running_stats(made):
            made(torch.zeros(1))
        assert made[1].momentum == 0.1


class TestSynchronized:
    @pytest.fixture
    def two(self, monkeypatch):
        """Two processes that see the same batch."""
        monkeypatch.setattr(batchnorm, "world", lambda: World(0, 2))
        monkeypatch.setattr(batchnorm, "all_reduce_sum", lambda values: 2 * values)

    def test_alone_nothing_is_replaced(self):
        made = network()
        modules = list(made.modules())
        with synchronized(made):
            assert list(made.modules()) == modules

    def test_the_batch_twice_is_what_pytorch_makes_of_both(self, two):
        made, images = network(), torch.randn(2, 3, 5, 5)
        plain, both = copy.deepcopy(made), torch.cat([images, images])
        state = list(made.state_dict())
        wanted = plain(both)
        with synchronized(made):
            assert type(made[1]) is not nn.BatchNorm2d
            assert list(made.state_dict()) == state
            got = made(images)
        assert type(made[1]) is nn.BatchNorm2d
        assert torch.allclose(torch.cat([got, got]), wanted, atol=1e-5)
        for name, buffer in plain.named_buffers():
            assert torch.allclose(buffers(made)[name].float(), buffer.float(), atol=1e-5), name

    def test_what_is_in_evaluation_mode_stays(self, two):
        made = network()
        made[1].eval()
        with synchronized(made):
            assert type(made[1]) is nn.BatchNorm2d
