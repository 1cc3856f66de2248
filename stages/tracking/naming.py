"""Which runs are the same run."""

import json
from collections.abc import Mapping

from cssegcore.core.config import flatten
from cssegcore.core.files import digest

Scalar = str | int | float | bool | None

# Where a dataset lies is no part of what a run is.
_PLACES = frozenset({"dataset.root"})


def scalars(params: Mapping[str, object]) -> dict[str, Scalar]:
    """Turns nested parameters into dotted keys; a list, or an empty mapping, becomes its JSON."""
    return {
        key: value
        if value is None or isinstance(value, str | int | float | bool)
        else json.dumps(value, ensure_ascii=False)
        for key, value in flatten(params).items()
    }


def run_key(params: Mapping[str, object], code: str) -> str:
    """Returns 16 hex digits that two runs share exactly if parameters and code are the same.

    Args:
        params: Everything that determines the run, nested or flat.
        code: A digest of the code that produced it.
    """
    flat = {key: value for key, value in scalars(params).items() if key not in _PLACES}
    return digest(json.dumps(flat, sort_keys=True).encode(), code.encode())
