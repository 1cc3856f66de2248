import math

import pytest

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.inversion.settings import InversionSettings, InversionWeights


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
            ({"phases": []}, r"`phases` must hold pairs \[reduction, iterations\]"),
            ({"phases": [[1, 10], [0, 5]]}, "`phases` must hold pairs"),
            ({"phases": [[1, 0]]}, "`phases` must hold pairs"),
            ({"phases": [[1]]}, r"`x\.phases\[0\]` must hold 2 values"),
            ({"lr": 0}, "`lr` must be a finite number > 0"),
            ({"lr": math.inf}, "`lr` must be a finite number > 0"),
            ({"betas": [0.5, 1]}, r"`betas` must lie in \[0, 1\)"),
            ({"jitter": 0.6}, r"`jitter` must lie in \[0, 0\.5\], got 0\.6"),
            ({"flip": -0.1}, r"`flip` must lie in \[0, 1\], got -0\.1"),
            ({"border": -1}, "`border` must be a finite number >= 0, got -1"),
            ({"stem_factor": math.nan}, "`stem_factor` must be a finite number >= 0, got nan"),
            ({"target": "class"}, r"`x\.target` must be one of layout, presence"),
            ({"layouts": "real"}, r"`x\.layouts` must be one of procedural, transplanted"),
            ({"weights": {"target": -1}}, r"`x\.weights`: `target` must be a finite number >= 0"),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=message):
            parse(InversionSettings, wrong, "x")

    @pytest.mark.parametrize(
        ("iterations", "at", "share"),
        [
            (10, 0, 1),  # rises within one iteration
            (50, 0, 1 / 5),
            (50, 3, 4 / 5),
            (50, 4, 1),
            (3000, 49, 1 / 2),  # for 100 iterations at most
            (3000, 99, 1),
            (5, 0, 1),  # too few to rise over
        ],
    )
    def test_the_rate_rises(self, iterations, at, share):
        falling = math.cos(math.pi * at / iterations / 2) ** 2
        assert InversionSettings(lr=0.3).rate(at, iterations) == pytest.approx(
            0.3 * share * falling
        )

    def test_and_falls_to_nothing(self):
        settings = InversionSettings(lr=2.0)
        assert settings.rate(50, 100) == pytest.approx(1.0)
        assert settings.rate(25, 100) == pytest.approx(1 + math.sqrt(0.5))
        assert 0 < settings.rate(999, 1000) < 1e-5


class TestWeights:
    @pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
    @pytest.mark.parametrize("name", ["target", "features", "competition", "image_l2"])
    def test_bad_weight(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be a finite number >= 0, got {value}"):
            InversionWeights(**{name: value})

    def test_no_weight_at_all(self):
        with pytest.raises(ValueError, match="one of the weights must be > 0"):
            InversionWeights(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
