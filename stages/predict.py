"""Labels photographs and videos with the model of any step."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cssegcore.core.errors import InputError
from cssegcore.core.names import printable

from .common.cli import bar, run, say
from .common.photographs import VIDEOS, find_photographs, is_one_of

if TYPE_CHECKING:
    from cssegcore.evaluation.predict import Counted, Labelled
    from cssegcore.evaluation.score import View

Maps = tuple[Literal["confidence", "entropy"], ...]

MADE_BY = "cssegcore predict"
"""What a table of ours says of itself."""


def main(
    model: Annotated[Path, typer.Argument(help="A step's model: work/STEP/model.safetensors.")],
    photographs: Annotated[
        list[Path],
        typer.Argument(help="Photographs, folders of them, videos; -: names on standard input."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the colours over it.")] = 0.6,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also NAME.confidence.png: white is sure.")
    ] = False,
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Also NAME.entropy.png: white is undecided.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=8, help="Show photographs resized, the shorter side so many pixels."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=32, help="Cut larger photographs into squares of that side.")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels that tiles share; a quarter of --tile.")
    ] = None,
    shares: Annotated[
        Path | None,
        typer.Option("--json", help="Write the share of each class in each photograph."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; else CSSEGCORE_DEVICE, else a GPU if any.")
    ] = None,
) -> None:
    """Write NAME.png (palette; value = network output) and NAME.overlay.jpg for each photograph.

    Of a video, NAME.labels.mkv (grey, without loss) and NAME.overlay.mp4. Prints the classes the
    model knows with their share of all pixels. Photographs are turned as viewers show them. One
    that cannot be read is left out and makes the exit status 2; the same command again labels what
    is missing. Nothing else is overwritten: give every model an --out of its own.
    """
    paths = find_photographs(photographs, out=out)
    videos = [path for path in paths if is_one_of(path, VIDEOS)]
    stills = [path for path in paths if path not in videos]
    if shares:
        _check_table(shares)

    from cssegcore.evaluation.score import View

    view = View(size, tile, overlap)
    if device:
        os.environ["CSSEGCORE_DEVICE"] = device
    asked: dict[Literal["confidence", "entropy"], bool] = {
        "confidence": confidence,
        "entropy": entropy,
    }
    maps: Maps = tuple(kind for kind, wanted in asked.items() if wanted)
    names, done = _label(model, stills, videos, out, opacity, view, maps)
    each, failures = done.each, done.failures

    _tell(names, each)
    if shares:
        _write_table(shares, names, each)
    again = f", {done.before} of them before" if done.before else ""
    say(f"{len(each)} photographs{again} -> {out}")
    for failure in failures[1:]:
        say(f"not labelled: {failure}")
    if failures:
        raise InputError(
            f"{len(failures)} of {len(paths)} photographs are not labelled, all others are."
            f" {failures[0]} Then run the same command again."
        )


def _label(
    model: Path,
    stills: list[Path],
    videos: list[Path],
    out: Path,
    opacity: float,
    view: "View",
    maps: Maps,
) -> tuple[Sequence[str], "Labelled"]:
    """Labels everything; returns the classes' names, and what became of photographs and videos."""
    from cssegcore.evaluation.predict import Labelling, check_room, label_photographs
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device

    check_room(out, [path.stem for path in stills], Labelling(opacity, view, maps))
    chosen = choose_device()
    loaded = checkpoint.load_model(model, chosen)
    how = Labelling(opacity, view, maps, loaded.digest)
    done = label_photographs(loaded.segmenter, stills, out, how, chosen, bar("photographs"))
    for path in videos:
        from cssegcore.evaluation.video import label_video

        progress = bar("frames", path.name)
        try:
            done.each.append(label_video(loaded.segmenter, path, out, how, chosen, progress))
        except InputError as error:
            done.failures.append(str(error))
    return loaded.model.classes.names, done


def _tell(names: Sequence[str], each: "list[Counted]") -> None:
    total = sum((one.counts for one in each), start=0 * each[0].counts) if each else None
    for at, name in enumerate(names):
        share = 0.0 if total is None else total[at] / max(1, total.sum())
        say(f"{at:3d} {name:20s} {100 * share:5.1f} %")


def _check_table(path: Path) -> None:
    """Makes sure that the table stands in nobody's way.

    Raises:
        InputError: There is a file, and it is none of ours, or no file but a pipe or a folder.
    """
    import json

    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file: give --json the name of a file.")
    try:
        there: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError):
        there = None
    if not isinstance(there, dict) or there.get("made_by") != MADE_BY:
        raise InputError(
            f"{path} is there already, and no table of ours: give --json another name."
        )


def _write_table(path: Path, names: Sequence[str], each: "list[Counted]") -> None:
    from cssegcore.core.files import write_json

    table = {
        printable(str(one.path)): {  # a name that is no UTF-8 is none in JSON either
            "pixels": int(one.counts.sum()),
            "shares": dict(zip(names, one.shares.round(6).tolist(), strict=True)),
        }
        for one in each
    }
    write_json(path, {"made_by": MADE_BY, "classes": list(names), "photographs": table})


if __name__ == "__main__":
    run(main)
