"""Shows what will be trained and tested on, before anything trains."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common.cli import bar, run, say
from .common.params import Params, read_params

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.scenario.overview import ClassCount, Lists, SharedImage, StepCount


def main(
    out: Annotated[Path, typer.Option(help="Folder for tables (CSV) and pictures.")] = Path("show"),
    *,
    pictures: Annotated[bool, typer.Option(help="Draw the first batch of each step.")] = True,
) -> None:
    """Tell each class's images and pixels, each step's images, and what lists share; draw batches.

    Opens every image, as the stage `index` does, and stops at one that is wrong. Pseudo-labels and
    images of earlier steps, which trainings make, are in no batch yet.
    """
    from cssegcore.core.files import write_table
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.index import build_index
    from cssegcore.scenario import overview
    from cssegcore.scenario.splits import step_lists

    params = read_params()
    dataset = open_dataset(params.dataset)
    scenario = params.scenario_of(dataset.classes)
    entries = build_index(dataset, bar("images", "index"))
    lists = step_lists(scenario, entries, dataset.classes, dataset.photograph_path)
    classes = overview.count_classes(scenario, entries, dataset.classes)
    contents = overview.count_steps(scenario, lists, entries, dataset.classes)
    shared = overview.shared_images(lists, entries)
    _say_classes(classes, len(entries), sum(e.void > 0 for e in entries))
    for step, kinds in lists.items():
        _say_step(step, kinds, [row for row in contents if row.step == step])
    _say_shared(shared)
    tables = {
        "classes": (overview.ClassCount, classes),
        "steps": (overview.StepCount, contents),
        "shared": (overview.SharedImage, shared),
    }
    for name, (kind, rows) in tables.items():
        write_table(out / f"{name}.csv", kind._fields, rows)
    if pictures:
        _draw(out, params, dataset, lists)
    say(f"tables and pictures: {out}")


def _say_classes(classes: "Sequence[ClassCount]", images: int, void: int) -> None:
    say(f"{images} images, {void} of them with void pixels")
    rows = [
        (c.name, str(c.raw), c.step or "–", str(c.images), f"{100 * c.share:.2f}") for c in classes
    ]
    _say_table(("class", "label", "step", "images", "% of pixels"), rows)
    for row in classes:
        if not row.images:
            say(f"warning: no image shows {row.name} (label {row.raw})")


def _say_step(step: str, kinds: "Mapping[str, ImageList]", rows: "Sequence[StepCount]") -> None:
    counts = ", ".join(f"{len(kinds[kind].images)} {kind}" for kind in ("train", "val", "test"))
    say("")
    say(f"{step}: {counts}")
    table = [
        (r.name, r.role, str(r.train), "read" if r.is_read else "background", str(r.test))
        for r in rows
    ]
    _say_table(("class", "", "train", "labels in training", "test"), table)
    for row in rows:
        for kind, number in (("training", row.train), ("test", row.test)):
            if row.role == "new" and not number:
                say(f"warning: {step} learns {row.name}, and no {kind} image of it shows it")


def _say_shared(shared: "Sequence[SharedImage]") -> None:
    say("")
    counts = collections.Counter((image.first, image.second, image.is_leak) for image in shared)
    for (first, second, is_leak), number in counts.items():
        what = "warning: trained and tested on: " if is_leak else ""
        within = (
            f"{first} twice, as the same photograph" if first == second else f"{first}, {second}"
        )
        say(f"{what}{number} images in {within}")
    if not shared:
        say("no image is in two lists")


def _draw(out: Path, params: Params, dataset: "Dataset", lists: "Lists") -> None:
    from cssegcore.data.augmentation import Augmentation
    from cssegcore.data.preview import first_batch, save_batch

    augmentation, size = Augmentation.of(params.augmentation), params.optimizer["batch_size"]
    for step, kinds in lists.items():
        images = kinds[params.steps[step].images]
        if images.images:
            read = dataclasses.replace(images, void=params.labels.void)
            batch = first_batch(dataset, read, augmentation, size, params.seed)
            save_batch(out / f"batch_{step}.png", batch, images.classes.names)


def _say_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints columns of their widest cell; the first is set to the left, others to the right."""
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        pairs = list(zip(cells, widths, strict=True))
        first, *others = pairs
        say("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]))


if __name__ == "__main__":
    run(main)
