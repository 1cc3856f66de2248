"""Continual (class-incremental) semantic segmentation, one recipe a method.

The door for notebooks: `load` a model, `predict`, `train_step` from arrays, `compute_confusion`,
`compute_metrics`, and `export_file`; see docs/library.md. Each is imported at its first use, so
that `import cssegcore` and the imports of its packages stay cheap.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cssegcore.api import (
        LoadedModel,
        Prediction,
        compute_confusion,
        compute_metrics,
        export_file,
        load,
        predict,
        train_step,
    )

__all__ = [
    "LoadedModel",
    "Prediction",
    "compute_confusion",
    "compute_metrics",
    "export_file",
    "load",
    "predict",
    "train_step",
]


def __getattr__(name: str) -> object:
    """Imports a name of `__all__` at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("cssegcore.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
