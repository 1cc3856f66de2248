"""The command `cssegcore`: every stage is a sub-command, imported when it is asked for."""

import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .common.cli import DEBUG, one_command, start
from .common.home import PACKAGE, shipped, version

_SETTINGS = (
    "Environment: CSSEGCORE_DEVICE (cpu, cuda, cuda:1) and CSSEGCORE_PROCESSES (a number, or auto:"
    " one a GPU) say where work is done; CSSEGCORE_MEMORY (GiB), how many decoded images are kept;"
    " CSSEGCORE_TRACKING (off, later), MLFLOW_TRACKING_URI and CSSEGCORE_MODELS (off,"
    " register:NAME), what is tracked where; CSSEGCORE_MAX_PIXELS, the largest image;"
    " CSSEGCORE_PATIENCE, the seconds that processes wait for each other."
)


COMMANDS = {"import_labels": "import"}
"""Sub-commands whose module is called otherwise: `import` is a word that Python keeps."""


class _Stages(Mapping[str, Any]):
    """Modules of this package by the names of their sub-commands."""

    def __init__(self) -> None:
        found = pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__)
        modules = [at.name for at in found if not at.ispkg and not at.name.startswith("_")]
        self._modules = {COMMANDS.get(name, name): name for name in modules}
        self._pipeline = shipped("dvc.yaml").read_text(encoding="utf-8")

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - typer's class is private
        module = importlib.import_module(f"{PACKAGE}.{self._modules[name]}")
        panel = "Stages, which dvc.yaml runs" if f"stages.{name} " in self._pipeline else None
        return typer.main.get_command(one_command(module.main, name, panel))

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__(**{**settings, "commands": _Stages()})


app = typer.Typer(cls=_Group, epilog=_SETTINGS, pretty_exceptions_enable=False)


def _tell(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cssegcore {version()}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell, is_eager=True, help="Tell the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the traceback of every error ({DEBUG}=1).")
    ] = False,
) -> None:
    """Continual semantic segmentation: from photographs to a model that learns more classes."""
    if debug:
        os.environ[DEBUG] = "1"


def main() -> None:
    """Runs the command line."""
    start(app, "cssegcore")


if __name__ == "__main__":
    main()
