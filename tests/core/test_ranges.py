import math

import pytest

from cssegcore.core.ranges import at_least, fraction, non_negative, positive, within


def test_what_lies_in_range_is_let_through():
    non_negative(a=0, b=1e30)
    positive(a=1e-30)
    at_least(3, a=3, b=4)
    fraction(a=0, b=1)
    within(-1, 0.5, a=-1, b=0.5)


@pytest.mark.parametrize("check", [non_negative, positive, fraction])
@pytest.mark.parametrize("value", [-1e-9, math.inf, math.nan])
def test_what_does_not_is_named_with_its_value(check, value):
    with pytest.raises(ValueError, match=rf"^`b` must .*, got {value}$"):
        check(a=1, b=value)


def test_limits():
    with pytest.raises(ValueError, match=r"^`a` must be a finite number > 0, got 0$"):
        positive(a=0)
    with pytest.raises(ValueError, match=r"^`a` must be >= 3, got 2$"):
        at_least(3, a=2)
    with pytest.raises(ValueError, match=r"^`a` must lie in \[0, 0\.5\], got 0\.6$"):
        within(0, 0.5, a=0.6)
