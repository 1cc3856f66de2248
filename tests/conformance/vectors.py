"""How the reference files are read, and how close is close enough."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Checked(NamedTuple):
    """What a check found: how many cases hold, the largest error, and what it had to leave out."""

    cases: int
    error: float
    left_out: str = ""


def cases(arrays: Arrays) -> Iterator[tuple[int, Arrays, Arrays]]:
    """Yields the number, the inputs and the expected values of each case."""
    count = int(arrays["n_cases"])
    beyond = [key for key in arrays if key.startswith(f"case{count}_")]
    assert not beyond, f"n_cases is {count}, which leaves {beyond[0]} out"
    assert count > 0, "there are no cases"
    for at in range(count):
        yield at, _part(arrays, f"case{at}_in_"), _part(arrays, f"case{at}_exp_")


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def scaled(have: np.ndarray, want: np.ndarray) -> float:
    """Returns the largest difference over the largest value; float32 holds 2e-5 of it.

    The 5e-3 stand for the absolute 1e-7 that the tolerance of these files adds.
    """
    return float(np.abs(have - want).max(initial=0) / (np.abs(want).max(initial=0) + 5e-3))


def relative(have: np.ndarray, want: np.ndarray) -> float:
    """Returns the largest difference of an element over that element; float64 holds 1e-9."""
    return float((np.abs(have - want) / np.maximum(np.abs(want), 1e-12)).max(initial=0))


LIMITS: dict[Callable[..., float], float] = {scaled: 2e-5, relative: 1e-9}


def compare(
    got: Mapping[str, Any],
    expected: Arrays,
    where: str,
    measure: Callable[[np.ndarray, np.ndarray], float] = scaled,
) -> float:
    """Returns the largest error of any array, all of which must have been computed."""
    assert got.keys() == expected.keys(), f"{where}: {got.keys() ^ expected.keys()} not compared"
    worst = 0.0
    for name, want in expected.items():
        have, here = np.asarray(got[name], np.float64), f"{where}, {name}"
        assert have.shape == want.shape, f"{here}: shape {have.shape} is not {want.shape}"
        finite = np.isfinite(want)
        assert np.array_equal(finite, np.isfinite(have)), f"{here}: not finite at other places"
        assert np.array_equal(have[~finite], want[~finite], equal_nan=True), f"{here}: inf or NaN"
        error = measure(have[finite], want[finite].astype(np.float64))
        limit = 0.0 if want.dtype.kind in "biu" else LIMITS[measure]
        assert error <= limit, f"{here}: off by {error:.2e} ({measure.__name__}), limit {limit:g}"
        worst = max(worst, error)
    return worst
