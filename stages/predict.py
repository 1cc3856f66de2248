"""Labels photographs with the model of any step."""

from pathlib import Path
from typing import Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import bar, run, say

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def main(
    model: Annotated[Path, typer.Argument(help="A step's model: work/STEP/model.safetensors.")],
    photographs: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the colours over it.")] = 0.6,
) -> None:
    """Write NAME.png (palette; value = network output) and NAME.overlay.jpg for each photograph.

    Prints the classes the model knows with their share of all pixels. Photographs are turned as
    viewers show them. One that cannot be read is left out and makes the exit status 2; the same
    command again labels what is missing. Nothing else is overwritten: give every model an --out of
    its own.
    """
    from cssegcore.evaluation.predict import check_room, label_photographs
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device

    paths = _find(photographs)
    check_room(out, [path.stem for path in paths])
    device = choose_device()
    loaded = checkpoint.load_model(model, device)
    names = loaded.model.classes.names
    done = label_photographs(
        loaded.segmenter, paths, out, opacity, device, bar("photographs"), loaded.digest
    )
    for at, (name, share) in enumerate(zip(names, done.shares, strict=True)):
        say(f"{at:3d} {name:20s} {100 * share:5.1f} %")
    again = f", {done.before} of them before" if done.before else ""
    say(f"{len(paths) - len(done.failures)} photographs{again} -> {out}")
    for failure in done.failures[1:]:
        say(f"not labelled: {failure}")
    if done.failures:
        raise InputError(
            f"{len(done.failures)} of {len(paths)} photographs are not labelled, all others are."
            f" {done.failures[0]} Then run the same command again."
        )


def _is_photograph(path: Path) -> bool:
    """Names with a dot in front are the system's: macOS writes `._NAME.jpg` beside NAME.jpg."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def _find(given: list[Path]) -> list[Path]:
    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _is_photograph(p))
            if not inside:
                raise InputError(f"the folder {path} holds no photograph ({', '.join(ENDINGS)}).")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise InputError(f"there is no photograph or folder {path}: check the path.")
    stems = [p.stem for p in paths]
    if len(set(stems)) < len(stems):
        twice = next(s for s in stems if stems.count(s) > 1)
        raise InputError(f"two photographs are called {twice!r}: label them into two folders.")
    return paths


if __name__ == "__main__":
    run(main)
