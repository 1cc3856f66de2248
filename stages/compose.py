"""Composes conf/ into a parameters file, as `dvc exp run` does."""

from pathlib import Path
from typing import Annotated

import typer

from cssegcore.core.errors import InputError
from stages.common.cli import run


def main(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides, e.g. method=ft seed=2.")
    ] = None,
) -> None:
    """Write the parameters that conf/ and OVERRIDES make, every value explicit."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from cssegcore.core.files import write_text

    folder = str(Path("conf").resolve())
    try:
        with initialize_config_dir(folder, version_base=None):
            composed = compose("config", overrides=overrides or [])
        OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException) as error:
        said, _, _ = str(error).partition("Config search path")
        raise InputError(f"{' '.join(said.split())}: look into conf/ for what there is.") from None
    except (YAMLError, ValueError, RecursionError) as error:  # tags, no UTF-8, a depth
        said = " ".join(str(error).split())
        raise InputError(f"a file in conf/ is not plain YAML: {said}: fix it.") from None
    write_text(out, OmegaConf.to_yaml(composed))


if __name__ == "__main__":
    run(main)
