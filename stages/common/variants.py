"""Which parameters decide a run's numbers, and a digest of those that its seeds share."""

import json
from collections.abc import Mapping

from cssegcore.core.files import digest

NO_RESULT = (
    *("dataset.root", "dataset.help"),
    *("evaluation.batch_size", "evaluation.examples", "evaluation.metrics"),
)
"""Beginnings of keys that change no number of another key's."""
OF_A_BENCHMARK = ("seed", "scenario.", "increments.", "evaluation.")
"""Beginnings of keys in which runs of one row may differ, or which their benchmark holds."""


def deciding(params: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters that decide a run's numbers, of all as texts by dotted key.

    A file of weights is known by its digest, where that is given; how a training is watched decides
    only where the best epoch is kept.
    """
    watching = ("validation.",) * (params.get("validation.keep") != "best")
    return {
        key: value
        for key, value in params.items()
        if not key.startswith((*NO_RESULT, *watching))
        if not (key.endswith(".weights") and params.get(f"{key.removesuffix('weights')}sha256"))
    }


def variant_of(params: Mapping[str, str]) -> str:
    """Returns 16 hex digits that runs of one benchmark share if they differ in seed and order."""
    own = {k: v for k, v in deciding(params).items() if not k.startswith(OF_A_BENCHMARK)}
    return digest(json.dumps(own, sort_keys=True).encode())
