"""Composes conf/ into a parameters file, as `dvc exp run` does."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import run

if TYPE_CHECKING:
    from omegaconf import DictConfig


def composed(overrides: Sequence[str] = (), folder: Path = Path("conf")) -> "DictConfig":
    """Returns the parameters that `folder` and the Hydra overrides make, every value explicit.

    Like DVC it lets Hydra find `hydra_plugins` in the folder, which happens once a process.

    Raises:
        HydraException: A choice or an override fits nothing in the folder.
        OmegaConfBaseException: A value cannot be resolved.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    place = str(folder.resolve())
    sys.path.append(place)
    try:
        with initialize_config_dir(place, version_base=None):
            made = compose(_entry(folder), overrides=list(overrides))
    finally:
        sys.path.remove(place)
    OmegaConf.resolve(made)
    return made


def _entry(folder: Path) -> str:
    """Names the file that a composition begins with: a project of one's own has one of its own."""
    return "project" if (folder / "project.yaml").is_file() else "config"


def main(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides, e.g. method=ft seed=2.")
    ] = None,
) -> None:
    """Write the parameters that conf/ and OVERRIDES make, every value explicit."""
    write_composed(out, overrides or [])


def write_composed(out: Path, overrides: Sequence[str] = ()) -> None:
    """Writes what `composed` returns as YAML.

    Raises:
        InputError: One line about what fits nothing, or about a file that is none of Hydra's.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from cssegcore.core.files import write_text

    try:
        text = OmegaConf.to_yaml(composed(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        said, _, _ = str(error).partition("Config search path")
        raise InputError(f"{' '.join(said.split())}: look into conf/ for what there is.") from None
    except (YAMLError, ValueError, RecursionError) as error:  # tags, no UTF-8, a depth
        said = " ".join(str(error).split())
        raise InputError(f"a file in conf/ is not plain YAML: {said}: fix it.") from None
    write_text(out, text)


if __name__ == "__main__":
    run(main)
