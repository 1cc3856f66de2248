"""Makes a dataset in the folder layout of labels as annotation tools write them."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import bar, run, say

if TYPE_CHECKING:
    from cssegcore.data.importing.source import ImportSource


class Form(str, Enum):  # noqa: UP042 - typer shows the values
    """Forms of labels."""

    COLOURS = "colours"
    COCO = "coco"
    LABELME = "labelme"
    CVAT = "cvat"
    ROBOFLOW = "roboflow"
    VOC = "voc"


class OtherColour(str, Enum):  # noqa: UP042
    """What pixels of a colour are that the table lacks."""

    REFUSE = "refuse"
    VOID = "void"


class Over(str, Enum):  # noqa: UP042
    """What labels were drawn over."""

    STORED = "stored"
    SHOWN = "shown"


def main(
    form: Annotated[Form, typer.Argument(help="Which tool's form of labels.")],
    labels: Annotated[Path, typer.Argument(help="COCO's JSON, or the folder with the labels.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset, new or to be added to.")],
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of the photographs, if not where labels say.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="For colours: a class a line, as cat,128,0,0 or cat,#800000."),
    ] = None,
    mask_ending: Annotated[
        str, typer.Option(help="For colours: what masks are called besides, such as _mask.")
    ] = "",
    other_colours: Annotated[
        OtherColour, typer.Option(help="For colours: pixels of a colour not in the table.")
    ] = OtherColour.REFUSE,
    drawn_over: Annotated[
        Over | None,
        typer.Option(help="Labels lie over photographs as stored or as shown, if turned by EXIF."),
    ] = None,
) -> None:
    """Write images/, labels/ and classes.txt, and lists if the labels come in parts.

    Everything is checked first. Into a dataset that is there already, photographs are added: its
    classes keep their numbers, new ones follow, and nothing is overwritten. The same command again
    goes on after an interruption.
    """
    from cssegcore.data.importing.write import write_folder

    source = _read(form, labels, photographs, table, mask_ending, other_colours)
    over = None if drawn_over is None else drawn_over.value
    done = write_folder(source, out, over, bar("images"))
    for note in source.notes:
        say(note)
    if done.rewritten:
        say(f"{done.rewritten} photographs are written anew: turned, or of another format")
    if done.unlisted:
        say(f"note: the lists in {out} (train.txt, …) do not name all of these images: add them")
    say(
        f"{done.images} images of {len(done.classes) - 1} classes -> {out}: "
        + ", ".join(done.classes)
    )


def _read(
    form: Form,
    labels: Path,
    photographs: Path | None,
    table: Path | None,
    mask_ending: str,
    other_colours: OtherColour,
) -> "ImportSource":
    from cssegcore.data.importing import coco, colours, labelme, numbers

    if not labels.exists():
        raise InputError(f"there is no {labels}: check the path.")
    if form is Form.COLOURS:
        if table is None:
            raise InputError("colours need a --table: a class a line, as cat,128,0,0.")
        folder = labels if photographs is None else photographs
        if folder == labels and not mask_ending:
            raise InputError("masks and photographs lie apart (--photographs), or --mask-ending.")
        return colours.read_colour_masks(labels, folder, table, mask_ending, other_colours.value)
    if form is Form.COCO:
        return coco.read_coco(labels, photographs)
    if form is Form.LABELME:
        return labelme.read_labelme(labels, photographs)
    if form is Form.ROBOFLOW:
        return numbers.read_roboflow(labels)
    return numbers.read_voc_folder(labels, photographs)


if __name__ == "__main__":
    run(main)
