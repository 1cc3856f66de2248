"""A step's model as an MLflow model, in a folder: `mlflow models serve -m FOLDER` serves it."""

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cssegcore.core.errors import InputError
from cssegcore.core.palette import palette

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

CODE = Path(__file__).with_name("pyfunc.py")
PACKAGES = ("cssegcore", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors")
"""Those of which the versions are written down; cssegcore's own wheel must be at hand."""


def package_model(model: Path, folder: Path) -> None:
    """Makes an MLflow model of a model file; torch is not imported.

    Args:
        model: The file, which is copied.
        folder: Made; must not be there.

    Raises:
        InputError: The file is no model of ours, or MLflow is not installed.
    """
    about = _description(model)
    names = [name for step in about["classes"] for name in step]
    if importlib.util.find_spec("mlflow") is None:
        raise InputError(
            "an MLflow model takes the package mlflow, which is not installed: `pip install"
            " mlflow`."
        )
    with tempfile.TemporaryDirectory() as plain, _silence():
        import mlflow.pyfunc

        # MLflow takes `#` and `%` in a path for parts of an address: this one has neither
        copy = Path(plain, "model.safetensors")
        shutil.copyfile(model, copy)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(CODE),
            artifacts={"model": str(copy)},
            signature=_signature(),
            input_example=_example(),
            pip_requirements=_requirements(),
            metadata={
                "step": about["step"],
                "classes": names,
                "palette": palette()[: len(names)].tolist(),
                "digest": about["digest"],
            },
        )


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    byte, real, pictures = np.dtype(np.uint8), np.dtype(np.float32), (-1, -1, -1)
    labels, confidences = (
        TensorSpec(byte, pictures, "labels"),
        TensorSpec(real, pictures, "confidences"),
    )
    photographs = TensorSpec(byte, (*pictures, 3))
    return ModelSignature(Schema([photographs]), Schema([labels, confidences]))


def _description(model: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(model, "np") as file:
            about = json.loads((file.metadata() or {})["cssegcore"])
            return {key: about[key] for key in ("step", "classes", "digest")}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{model} is no model of cssegcore, or damaged ({error}).") from None


def _example() -> np.ndarray:
    """Draws a photograph of 32x32 pixels, whose colours run from corner to corner."""
    side = np.linspace(0, 255, 32).astype(np.uint8)
    red, green = np.meshgrid(side, side)
    return np.stack([red, green, 255 - red], -1)[None]


def _requirements() -> list[str]:
    found = []
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name}=={importlib.metadata.version(name)}")
    return found


@contextlib.contextmanager
def _silence() -> Any:  # noqa: ANN401 - a context manager
    """Keeps MLflow's advice to itself: on type hints, on what it may not validate."""
    with (
        warnings.catch_warnings(),
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield
