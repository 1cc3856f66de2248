"""A model as a file that runs without this library."""

from collections.abc import Callable
from pathlib import Path

import torch

from cssegcore.data.arrays import Arrays, check_rgb_array
from cssegcore.export.write import Agreement, check_replaceable, export_model, exported_kind
from cssegcore.models import checkpoint


def _keep_to_itself(line: str) -> None:
    del line


def export_file(
    path: str | Path,
    out: str | Path,
    images: Arrays,
    size: tuple[int, int] | None = None,
    tell: Callable[[str], None] = _keep_to_itself,
) -> Agreement:
    """Writes a model as ONNX or as a program of `torch.export`, once their outputs agree.

    Args:
        path: The model's file, such as `work/step2/model.safetensors`.
        out: `NAME.onnx`, which takes the extra `export`, or `NAME.pt2`.
        images: RGB photographs on which file and model must agree: a few, as for `predict`.
        size: Height and width of all photographs; None for any.
        tell: Function that gets a line about a limit of the file, such as one fixed size.

    Raises:
        InputError: The model or an array is none, `out` is of no kind or something that no export
            made, or the file's outputs differ from the model's.
    """
    exported_kind(Path(out))
    check_replaceable(Path(out))
    shown = list(images)
    for at, image in enumerate(shown):
        check_rgb_array(image, f"image {at}")
    loaded = checkpoint.load_model(Path(path), torch.device("cpu"))
    return export_model(loaded, Path(out), shown, size, tell)
