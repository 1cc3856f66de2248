"""Which runs are the same run."""

import json
from collections.abc import Mapping

from cssegcore.core.files import digest

Scalar = str | int | float | bool | None

# Where a dataset lies is no part of what a run is.
_PLACES = frozenset({"dataset.root"})


def flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, Scalar]:
    """Turns nested parameters into dotted keys; a list becomes its JSON text.

    An empty mapping stays visible as `{}`: leaving a slot empty differs from not having it.
    """
    flat: dict[str, Scalar] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, str | int | float | bool):
            flat[f"{prefix}{key}"] = value
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False)
    return flat


def run_key(params: Mapping[str, object], code: str) -> str:
    """Returns 16 hex digits that two runs share exactly if parameters and code are the same.

    Args:
        params: Everything that determines the run, nested or flat.
        code: A digest of the code that produced it.
    """
    flat = {key: value for key, value in flatten(params).items() if key not in _PLACES}
    return digest(json.dumps(flat, sort_keys=True).encode(), code.encode())
