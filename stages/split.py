"""Gives every step its images."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cssegcore.core.errors import InputError

from .common.cli import run, say
from .common.params import read_params


def main(
    index: Annotated[Path, typer.Argument(help="The table that `stages.index` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for STEP/{train,seen,val,test}.json.")],
    code: Annotated[
        Path | None, typer.Option(help="Table that says how many images a step must have.")
    ] = None,
    saliency: Annotated[Path | None, typer.Option(help="Folder of the saliency maps.")] = None,
) -> None:
    """Write the lists of every step by the scenario's setting, train, val and test apart.

    STEP/saliency.json has the digests of the saliency maps that the step's training may read: it
    runs again when one of those changes, and not when there are more.
    """
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.index import read_index
    from cssegcore.scenario.splits import write_splits
    from cssegcore.scenario.watching import check_choice

    entries, table = read_index(index)
    params = read_params()
    shared = params.evaluation.shared == "allow"
    photograph = open_dataset(params.dataset).photograph_path if params.scenario.lists else Path
    scenario = params.scenario_of(table)
    counts = write_splits(out, scenario, entries, table, shared=shared, photograph=photograph)
    first, later = _smallest_batches(code) if code else (1, 1)
    present = {entry.name: entry.present for entry in entries}
    for step, kinds in counts.items():
        numbers = params.step(step)
        smallest_batch = first if numbers.previous == "none" else later
        if kinds[numbers.images] < smallest_batch:
            raise InputError(
                f"`steps.{step}` trains on {kinds[numbers.images]} images, and `model` with"
                f" `optimizer.accumulate` needs {smallest_batch} at a time: choose another model,"
                " add images, or share the classes out in another way."
            )
        if params.validation.keep == "best":  # now, not after hours of training the steps before
            check_choice(step, out / step / "watched", present.__getitem__)
        say(f"{step}: " + ", ".join(f"{kind} {number}" for kind, number in kinds.items()))
    _write_digests(out, list(counts), saliency)


def _write_digests(out: Path, steps: list[str], saliency: Path | None) -> None:
    from cssegcore.core.files import read_manifest, write_json
    from cssegcore.data.image_list import ImageList

    maps: dict[str, Any] = {"source": "none"}
    if saliency and saliency.exists():  # DVC sees to it; by hand, maps may be made later
        maps = read_manifest(saliency, "source")
    digests = maps.get("digests", {})
    for step in steps:
        names = ImageList.read(out / step / "seen.json").names
        known = {name: digests[name] for name in names if name in digests}
        write_json(out / step / "saliency.json", {"source": maps["source"], "digests": known})


def _smallest_batches(code: Path) -> tuple[int, int]:
    """Returns how many images a batch must have in the first step and in all later ones."""
    try:
        first, later = json.loads(json.loads(code.read_bytes())["images"])
        return int(first), int(later)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{code} is damaged: run `dvc repro -f check`.") from None


if __name__ == "__main__":
    run(main)
