"""The numbers that all optimizers share."""

import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.types import UpdateFactors
from cssegcore.training.optimizer import build_optimizer, group_weights
from tests.helpers.tiny_training import OPTIMIZER


class TestRate:
    def rates(self, base, n, **changed):
        return [build_optimizer(OPTIMIZER | changed).lr(base, i, n) for i in range(n)]

    @pytest.mark.parametrize("power", [0.0, 0.9, 1.0, 2.0])
    def test_it_falls_with_the_power_of_what_is_left(self, power):
        expected = [0.3 * ((20 - i) / 20) ** power for i in range(20)]
        assert self.rates(0.3, 20, power=power) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(("warmup", "rising"), [(0.1, 2), (0.5, 10), (0.04, 0), (1.0, 20)])
    def test_it_rises_at_first_if_asked_to(self, warmup, rising):
        falling = 0.3 * (1 - np.arange(20) / 20) ** 0.9
        expected = falling.copy()
        expected[:rising] *= np.linspace(0.001, 1, rising + 1)[:-1]
        assert self.rates(0.3, 20, warmup=warmup) == pytest.approx(expected, rel=1e-12)

    def test_it_does_not_fall_below_the_floor(self):
        free, held = self.rates(0.3, 20), self.rates(0.3, 20, floor=0.1, warmup=0.2)
        rising = self.rates(0.3, 20, warmup=0.2)
        assert held == [max(rate, 0.1) for rate in rising]
        assert min(free) < 0.1 == held[0] == held[-1]

    def test_the_floor_holds_for_every_group(self):
        optimizer = build_optimizer(OPTIMIZER | {"floor": 0.02})
        assert optimizer.lr(1e-4 * 0.1, 0, 10) == 0.02
        assert optimizer.lr(0.0, 0, 10) == 0  # a factor of 0 says that a group stands still


def test_weights_are_grouped_by_both_factors():
    names = ("extractor.backbone.a", "extractor.backbone.b", "extractor.norm", "heads.0", "heads.1")
    weights = {name: torch.nn.Parameter(torch.zeros(1)) for name in names}
    slow, fast = UpdateFactors(lr=2.0, weight_decay=0.0), UpdateFactors(lr=10.0)
    factors = {"extractor.backbone.b": slow, "heads.1": fast, "absent": fast}
    groups = group_weights(weights, factors, backbone_lr=0.5)
    numbers = {id(weight): name for name, weight in weights.items()}
    assert {f: [numbers[id(w)] for w in group] for f, group in groups.items()} == {
        (0.5, 1.0): ["extractor.backbone.a"],
        (1.0, 0.0): ["extractor.backbone.b"],
        (1.0, 1.0): ["extractor.norm", "heads.0"],
        (10.0, 1.0): ["heads.1"],
    }


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
            ({"accumulate": 0}, r"`accumulate` must lie in .*\[1, 2\], got 0"),
            ({"accumulate": 3}, r"`accumulate` must lie in .*\[1, 2\], got 3"),
            ({"clip": -1}, "`clip` must be a finite number >= 0"),
            ({"warmup": 1.5}, r"`warmup` is a share of the iterations in \[0, 1\], got 1\.5"),
            ({"floor": -1e-9}, "`floor` must be a finite number >= 0"),
            ({"backbone_lr": math.inf}, "`backbone_lr` must be a finite number >= 0, got inf"),
            ({"weight_decay": math.nan}, "`weight_decay` must be a finite number >= 0"),
            ({"momentun": 0.9}, "`optimizer.momentun` is not a key.*`momentum`"),
            ({"part": "adam"}, r"`optimizer\.part`: there is no part 'adam'.*Did you mean `adamw`"),
        ],
    )
    def test_numbers(self, wrong, message):
        with pytest.raises(InputError, match=message) as refused:
            build_optimizer(OPTIMIZER | wrong)
        assert "\n" not in str(refused.value)

    def test_a_section_of_before_there_were_parts(self):
        old = {key: value for key, value in OPTIMIZER.items() if key != "part"}
        with pytest.raises(InputError, match=r"set `optimizer\.part: sgd`"):
            build_optimizer(old)

    @pytest.mark.parametrize("section", [None, "sgd", ["sgd"]])
    def test_no_section(self, section):
        with pytest.raises(InputError, match="`optimizer` must be a mapping"):
            build_optimizer(section)
