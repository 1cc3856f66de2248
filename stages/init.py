"""Lays out a project of one's own: its pipeline in its repository, the library installed."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import run, say

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset


def main(
    folder: Annotated[Path, typer.Argument(help="The project's folder; may be there already.")],
    dataset: Annotated[
        Path, typer.Option(help="Folder with images/, labels/ and classes.txt (background first).")
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the dataset; else that of its folder.")
    ] = None,
    base: Annotated[
        int | None, typer.Option(help="Number of classes of step 0; else all in one step.")
    ] = None,
    increment: Annotated[
        int | None, typer.Option(help="Number of classes of every later step.")
    ] = None,
    like: Annotated[
        str,
        typer.Option(
            help="Scenario to take model, schedule and crops from; auto: what suits the photographs"
        ),
    ] = "auto",
) -> None:
    """Write dvc.yaml, params.yaml and conf/ of a new project, and start git and DVC there.

    What is there already stays as it is. Nothing is written into the dataset.
    """
    from cssegcore.core.files import write_text

    from .common.layout import own_files, own_pipeline

    if find_spec("cssegcore_stages") is None:
        raise InputError("a project needs cssegcore installed: run `pip install '.[pipeline]'`.")
    name = name or re.sub(r"[^\w-]+", "_", dataset.resolve().name)
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"--name {name!r}: use letters, digits, `_` and `-`.")
    opened = _open(name, dataset, like)
    pipeline = folder / "dvc.yaml"
    if pipeline.exists() and pipeline.read_text(encoding="utf-8") != own_pipeline():
        raise InputError(f"{pipeline} is another pipeline's: name another folder, or remove it.")
    root = opened.root.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    _start_git_and_dvc()
    inside = root.is_relative_to(Path.cwd())
    place = root.relative_to(Path.cwd()).as_posix() if inside else str(root)
    scenario = f"{name}/main"
    kept = []
    for path, text in own_files(name, place, scenario).items():
        if not path.exists():
            write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            kept.append(path)
    kept += _write_scenario(scenario, base, increment, like)
    kept += _write_params()
    for path in kept:
        say(f"kept as it is: {path}")
    say(f"{folder}: {len(opened.classes) - 1} classes of {place}; conf/scenario/{scenario}.yaml")
    say(f"next: cd {folder}, then `cssegcore show`, `dvc repro`; later `cssegcore arrive`")


def _open(name: str, root: Path, like: str) -> "Dataset":
    """Opens the dataset.

    Raises:
        InputError: It cannot be, nothing suits its photographs, or Hydra would change its path.
    """
    from cssegcore.core.names import BACKGROUND_NAMES
    from cssegcore.data.dataset import open_dataset

    from .common.recommend import recommend
    from .common.scenarios import AUTO

    if "${" in str(root.resolve()):
        raise InputError(
            f"--dataset {str(root.resolve())!r}: Hydra and DVC put a value where `${{` stands in a"
            " path, and would look into another folder: rename it."
        )
    layout = {"part": "folder"}
    opened = open_dataset({"name": name, "root": str(root), "layout": layout})
    if (first := opened.classes[0]).lower() not in BACKGROUND_NAMES:
        say(
            f"warning: the first line of {root / 'classes.txt'} is {first!r}, so label 0 is called"
            " that: it is the background, which no step learns. If labels begin with 1, put a line"
            " `background` before it"
        )
    if like == AUTO:
        recommend(name, str(root), layout, list(opened.classes))
    return opened


def _start_git_and_dvc() -> None:
    """Has git and DVC, in the folder or in one above it, and Hydra in DVC's settings."""
    from .common.layout import COMPILED, HYDRA, IGNORED

    if not _runs("git", "rev-parse", "--is-inside-work-tree"):
        _must("git", "init", "-q")
    if not Path(".dvc").is_dir():
        top = Path(".git").exists()
        _must(sys.executable, "-m", "dvc", "init", "-q", *([] if top else ["--subdir"]))
    config = Path(".dvc/config")
    text = config.read_text(encoding="utf-8") if config.exists() else ""
    if "[hydra]" not in text:
        config.write_text(text + HYDRA, encoding="utf-8")
    _add_lines(Path(".gitignore"), IGNORED)
    _add_lines(Path(".dvcignore"), COMPILED)


def _add_lines(path: Path, text: str) -> None:
    """Adds the lines of a text that a file does not have."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    known = before.splitlines()
    lines = [line for line in text.splitlines() if line not in known]
    start = before if not before or before.endswith("\n") else before + "\n"
    path.write_text(start + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_scenario(name: str, base: int | None, increment: int | None, like: str) -> list[Path]:
    """Writes the scenario's file; returns it if it was there before."""
    from cssegcore.core.files import write_text

    from .common.conf import CONF
    from .common.scenarios import scenario_text

    path = CONF / "scenario" / f"{name}.yaml"
    if path.exists():
        return [path]
    write_text(path, scenario_text(name, base, increment, like=like))
    return []


def _write_params() -> list[Path]:
    """Composes params.yaml; returns it if it was there before."""
    from .common.params import PARAMS
    from .compose import write_composed

    if PARAMS.exists():
        return [PARAMS]
    write_composed(PARAMS)
    return []


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        raise InputError(f"{command[0]} is not installed: install it.") from None


def _must(*command: str) -> None:
    """Runs a command.

    Raises:
        InputError: It fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`{' '.join(command)}` fails in {Path.cwd()}: {done.stderr.strip()}")


if __name__ == "__main__":
    run(main)
