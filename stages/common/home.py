"""The pipeline's own files, which lie beside it in a clone and inside it from a wheel.

A wheel carries this package as `cssegcore_stages`, so that nobody's `stages` is taken. So its
modules import each other relatively, and ask here for its name.
"""

import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path

import cssegcore

PACKAGE = __name__.partition(".")[0]
"""`stages` in a clone, `cssegcore_stages` once installed."""

INSTALLED = PACKAGE != "stages"
"""Whether the pipeline is installed, rather than run in a clone."""

_PIPELINE = Path(__file__).resolve().parents[1]

HOME = _PIPELINE.parent
"""The folder that holds this package: a clone's root, or that of installed packages."""

PACKAGES = {"cssegcore": Path(cssegcore.__file__).resolve().parent, PACKAGE: _PIPELINE}
"""Folders of our packages."""


def shipped(name: str) -> Path:
    """Returns where a file or folder lies that comes with the pipeline: conf, dvc.yaml, lists."""
    carried = _PIPELINE / "project"
    return (carried if carried.is_dir() else HOME) / name


def invocation(stage: str) -> str:
    """Returns how a person runs a stage here."""
    return f"cssegcore {stage}" if INSTALLED else f"python -m {PACKAGE}.{stage}"


def version() -> str:
    """Returns the version: of the installed distribution, or what a clone will be installed as."""
    if INSTALLED:
        return installed_version("cssegcore")
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])
