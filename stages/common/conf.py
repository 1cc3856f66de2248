"""Files of configuration: the project's own conf/, and behind it what comes with the pipeline."""

from pathlib import Path

from .home import INSTALLED, shipped

CONF = Path("conf")
"""Of the project; in a clone there is no other."""


def conf_folders() -> list[Path]:
    """Lists the folders in which a file of configuration is looked for, the project's first."""
    return [CONF, *([shipped("conf")] if INSTALLED else [])]


def conf_file(name: str) -> Path:
    """Returns the file `name`: the project's, or else the one that comes with the pipeline."""
    paths = [folder / name for folder in conf_folders()]
    return next((path for path in paths if path.is_file()), paths[0])


def conf_files(pattern: str) -> list[Path]:
    """Lists all files that fit, those of the project first, each folder's by their names."""
    return [path for folder in conf_folders() for path in sorted(folder.glob(pattern))]
