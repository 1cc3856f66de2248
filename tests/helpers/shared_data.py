"""Where the reference vectors lie that are too large, or not ours, to be in the repository."""

import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(
    os.environ.get("CSSEGCORE_SHARED", Path(__file__).resolve().parents[2] / "../shared")
).resolve()

VECTORS = (SHARED / "conformance", SHARED / "conformance-sota")
"""The folders of conformance files; no name is in both."""


def data(name: str) -> Path:
    """Returns the path of a shared file or folder; skips the test where it is not there."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"{name} is not in {path.parent}; point CSSEGCORE_SHARED to the shared folder")
    return path


def conformance(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of the conformance file `name`; skips the test where there is none."""
    found = [path for folder in VECTORS if (path := folder / f"{name}.npz").is_file()]
    if not found:
        places = " or ".join(map(str, VECTORS))
        pytest.skip(f"{name}.npz is not in {places}; point CSSEGCORE_SHARED to the folder of both")
    with np.load(found[0], allow_pickle=False) as arrays:
        return dict(arrays)
