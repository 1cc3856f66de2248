"""Gives every step its images."""

from pathlib import Path
from typing import Annotated

import typer

from stages.common.cli import run, say
from stages.common.params import read_params


def main(
    index: Annotated[Path, typer.Argument(help="The table that `stages.index` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for STEP/{train,seen,val,test}.json.")],
) -> None:
    """Write the lists of every step by the scenario's setting, train, val and test apart."""
    from cssegcore.data.index import read_index
    from cssegcore.scenario.splits import write_splits

    entries, table = read_index(index)
    params = read_params()
    shared = params.evaluation.shared == "allow"
    counts = write_splits(out, params.scenario_of(table), entries, table, shared=shared)
    for step, kinds in counts.items():
        say(f"{step}: " + ", ".join(f"{kind} {number}" for kind, number in kinds.items()))


if __name__ == "__main__":
    run(main)
