"""Files of a training beside its model: its curve, its costs and its duration.

The costs carry a digest of themselves and of the curve, the seconds one of themselves: whoever
reads them later sees a bit that flipped meanwhile.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, sealed, unsealed, write_csv, write_json

_CURVE: Final = "curve"
"""The key of the curve's digest among the costs."""


def write_curve_and_costs(
    epochs: Path,
    rows: Sequence[Mapping[str, object]],
    costs: Path,
    spent: Mapping[str, object],
) -> None:
    """Writes the curve as CSV and the costs as JSON.

    Args:
        epochs: The curve's file.
        rows: One mapping of column to value an epoch.
        costs: The costs' file.
        spent: Costs by their names.
    """
    write_csv(epochs, rows)
    write_json(costs, sealed({**spent, _CURVE: digest(epochs.read_bytes())}))


def read_costs(costs: Path, epochs: Path) -> dict[str, Any]:
    """Returns the costs of a training, after it made sure that they and the curve are unharmed.

    Files without digests, as older versions wrote them, are taken as they are.

    Raises:
        InputError: A file is missing, damaged, or not JSON.
    """
    way_out = "run `dvc checkout`, or train the step again"
    spent = _mapping(costs, way_out)
    curve = spent.pop(_CURVE, None)
    try:
        found = digest(epochs.read_bytes())
    except OSError as error:
        raise InputError(f"{epochs} cannot be read ({error}): {way_out}.") from None
    if curve not in (None, found):
        raise InputError(f"{epochs} is damaged, it is not what was written: {way_out}.")
    return spent


def write_timing(path: Path, seconds: float, machine: Mapping[str, object]) -> None:
    """Writes the duration of a training, and a description of its machine."""
    write_json(path, sealed({"seconds": seconds, **machine}))


def read_timing(path: Path) -> float:
    """Returns the duration of a training in seconds.

    Raises:
        InputError: The file is missing, damaged, or not JSON.
    """
    way_out = "run `dvc checkout`, or delete it: it only tells the seconds of the training"
    seconds = _mapping(path, way_out).get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InputError(f"{path} has no number of `seconds`: {way_out}.")
    return seconds


def _mapping(path: Path, way_out: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): {way_out}.") from None
    found = unsealed(content, path, way_out)
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold a mapping: {way_out}.")
    return found
