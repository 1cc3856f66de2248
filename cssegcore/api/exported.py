"""A model as a file that runs without this library."""

from collections.abc import Callable
from pathlib import Path

import torch

from cssegcore.data.arrays import Arrays, check_rgb_array
from cssegcore.export.write import Agreement, export_model, exported_kind
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
    """Writes a model as ONNX or as a program of `torch.export`, once it says what the model says.

    Args:
        path: The model's file, such as `work/step2/model.safetensors`.
        out: `NAME.onnx`, which takes the extra `export`, or `NAME.pt2`.
        images: RGB photographs that it must agree about: a few, as `predict` takes them.
        size: Height and width of all photographs; None: any.
        tell: Takes a line about what cannot be had, such as a file for every size.

    Raises:
        InputError: The model or an array is none, `out` is of no kind, or the file says something
            else than the model.
    """
    exported_kind(Path(out))
    shown = list(images)
    for at, image in enumerate(shown):
        check_rgb_array(image, f"image {at}")
    loaded = checkpoint.load_model(Path(path), torch.device("cpu"))
    return export_model(loaded, Path(out), shown, size, tell)
