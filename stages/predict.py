"""Labels photographs with the model of any step."""

from pathlib import Path
from typing import Annotated

import typer

from cssegcore.core.errors import InputError
from stages.common.cli import bar, run, say

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def main(
    model: Annotated[Path, typer.Argument(help="A step's model: work/STEP/model.safetensors.")],
    photographs: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the colours over it.")] = 0.6,
) -> None:
    """Write NAME.png (palette; value = network output) and NAME.overlay.jpg for each photograph.

    Prints the classes the model knows with their share of all pixels. Nothing is overwritten: give
    every call an --out of its own.
    """
    from cssegcore.evaluation.predict import label_photographs
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device

    paths = _find(photographs)
    _check_room(out, paths)
    device = choose_device()
    loaded = checkpoint.load(model, device)
    names = loaded.model.classes.names
    shares = label_photographs(loaded.segmenter, paths, out, opacity, device, bar("photographs"))
    for at, (name, share) in enumerate(zip(names, shares, strict=True)):
        say(f"{at:3d} {name:20s} {100 * share:5.1f} %")
    say(f"{len(paths)} photographs -> {out}")


def _find(given: list[Path]) -> list[Path]:
    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS)
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


def _check_room(out: Path, photographs: list[Path]) -> None:
    names = [f"{p.stem}{ending}" for p in photographs for ending in (".png", ".overlay.jpg")]
    for path in (out / name for name in names):
        if path.exists():
            raise InputError(f"{path} is there already: name an --out that is empty or not there.")


if __name__ == "__main__":
    run(main)
