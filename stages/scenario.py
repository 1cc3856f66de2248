"""Writes a scenario of a dataset: so many classes first, then so many in every step."""

from typing import Annotated

import typer

from cssegcore.core.errors import InputError
from cssegcore.scenario.scenario import LeftOut

from .common.cli import run, say


def main(
    name: Annotated[str, typer.Argument(help="DATASET/SCENARIO, e.g. voc/10-2.")],
    base: Annotated[
        int | None, typer.Option(help="Number of classes of step 0; else all in one step.")
    ] = None,
    increment: Annotated[
        int | None, typer.Option(help="Number of classes of every later step.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(help="The classes, with commas between; or a file with one a line."),
    ] = None,
    left_out: Annotated[
        LeftOut | None,
        typer.Option(help="What the classes that --order lacks are: background or void."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Scenario to take model and schedule from, or auto; else the dataset's first."
        ),
    ] = None,
) -> None:
    """Write conf/scenario/NAME.yaml; the last step learns what is left."""
    from cssegcore.core.files import write_text

    from .common.conf import CONF
    from .common.scenarios import scenario_text

    path = CONF / "scenario" / f"{name}.yaml"
    text = scenario_text(name, base, increment, order, left_out, like)
    if path.exists():
        raise InputError(f"{path} is there already: give another name, or delete it first.")
    write_text(path, text)
    say(f"{path}: {text.splitlines()[1].removeprefix('# ')}")


if __name__ == "__main__":
    run(main)
