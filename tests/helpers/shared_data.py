"""Where the reference vectors lie that are too large, or not ours, to be in the repository."""

import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(
    os.environ.get("CSSEGCORE_SHARED", Path(__file__).resolve().parents[2] / "../shared")
).resolve()


def data(name: str) -> Path:
    """Returns the path of a shared file or folder; skips the test where it is not there."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"{name} is not in {path.parent}; point CSSEGCORE_SHARED to the shared folder")
    return path


def conformance(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of the conformance file `name`; skips the test where there is none."""
    path = SHARED / "conformance" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {path.parent}; point CSSEGCORE_SHARED to its folder")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
