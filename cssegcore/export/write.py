"""Exports a model.

The target file is replaced only after the exported file's outputs on photographs equal the model's
(up to `TOLERANCE`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import replacing
from cssegcore.core.palette import palette
from cssegcore.export.file import (
    DESCRIPTION,
    FILES,
    ExportedFile,
    StaticSizeError,
    Traced,
    quiet,
    trace,
)
from cssegcore.export.network import INPUT, OUTPUTS, PhotographNetwork
from cssegcore.models.checkpoint import Loaded

TOLERANCE = 1e-3
"""Largest error of a score: it lies between 0 and 1, and networks of a hundred layers round."""

Photograph = UInt8[np.ndarray, "_ _ 3"]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of a file with its model.

    Attributes:
        photographs: Number of compared photographs.
        pixels: Number of their pixels.
        ties: Pixels that have another label, because two scores are equal up to rounding.
        error: Largest difference of a score.
        size: Height and width that the file reads; None for any.
        smallest: Height and width of the smallest photograph that it reads.
    """

    photographs: int
    pixels: int
    ties: int
    error: float
    size: tuple[int, int] | None
    smallest: tuple[int, int]


def exported_kind(path: Path) -> ExportedFile:
    """Returns the kind of file by its name.

    Raises:
        InputError: Its ending is of no kind, or a package for it is not installed.
    """
    if path.suffix not in FILES:
        raise InputError(f"{path} is neither {' nor '.join(FILES)}: name a file of such an ending.")
    FILES[path.suffix].check_packages()
    return FILES[path.suffix]


def check_replaceable(path: Path) -> None:
    """Makes sure that no file is replaced but an exported one.

    Raises:
        InputError: Something else is there.
    """
    if path.is_dir() or (path.is_file() and DESCRIPTION.encode() not in path.read_bytes()):
        raise InputError(f"{path} is there already, and no export made it: name another file.")


def export_model(
    loaded: Loaded,
    path: Path,
    photographs: Sequence[Photograph],
    size: tuple[int, int] | None,
    tell: Callable[[str], None],
) -> Agreement:
    """Writes a model as a file that needs nothing of this library.

    It runs on the photographs first, one at a time and, where it takes batches, two at once. Where
    it cannot be made for every size, it is made for one.

    Args:
        loaded: The model, on the CPU.
        path: The file, `.pt2` or `.onnx`; an exported one is replaced.
        photographs: Photographs on which the file must agree with the model; at least one.
        size: Height and width that it reads; None for any.
        tell: Function that gets a line about a limit of the file.

    Raises:
        InputError: The name is of no kind, something else is there, or the file's outputs differ
            from the model's.
    """
    kind = exported_kind(path)
    check_replaceable(path)
    network = PhotographNetwork(loaded.segmenter)
    with replacing(path) as temporary:
        if size is None:
            try:
                return _written(kind, temporary, network, loaded, photographs, None)
            except (RuntimeError, AssertionError) as error:  # refusals of PyTorch and ONNX
                first = next(iter(str(error).splitlines()), type(error).__name__)
                height, width = size = photographs[0].shape[:2]
                tell(
                    f"a file for every size cannot be made of this network ({first[:200]}): it is"
                    f" made for {width}x{height} pixels, those of the first photograph"
                )
        return _written(kind, temporary, network, loaded, photographs, size)


def _written(
    kind: ExportedFile,
    path: Path,
    network: PhotographNetwork,
    loaded: Loaded,
    photographs: Sequence[Photograph],
    size: tuple[int, int] | None,
) -> Agreement:
    traced = trace(network, size)
    if size is None:
        _check_sizes(photographs, traced)
        batches = [photograph[None] for photograph in photographs]
        first = photographs[0]
        batches.append(np.stack([first, first[::-1, ::-1]]))
    else:
        batches = [_resized(photograph, size)[None] for photograph in photographs]
    with quiet():
        kind.write(path, traced.program, describe(loaded, traced))
        return _compare(kind, path, network, batches, traced)


def _check_sizes(photographs: Sequence[Photograph], traced: Traced) -> None:
    height, width = traced.smallest
    for photograph in photographs:
        if photograph.shape[0] < height or photograph.shape[1] < width:
            raise StaticSizeError(
                f"photographs must have at least {width}x{height} pixels, and one has"
                f" {photograph.shape[1]}x{photograph.shape[0]}"
            )


def _resized(photograph: Photograph, size: tuple[int, int]) -> UInt8[np.ndarray, "_ _ 3"]:
    height, width = size
    return np.asarray(Image.fromarray(photograph).resize((width, height)))


def describe(loaded: Loaded, traced: Traced) -> dict[str, Any]:
    """Returns the description that a file holds, as plain data."""
    model, classes = loaded.model, loaded.model.classes
    normalization = loaded.segmenter.normalization
    layout = "batch, height, width, red-green-blue"
    return {
        "step": model.step,
        "classes": list(classes.names),
        "raw": list(classes.raw),
        "palette": palette()[: len(classes.names)].tolist(),
        "normalization": dataclasses.asdict(normalization) | {"inside": True},
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": layout,
            "size": list(traced.smallest) if traced.fixed else None,
            "smallest": list(traced.smallest),
        },
        "outputs": {
            OUTPUTS[0]: "uint8, batch, height, width: a place in `classes`",
            OUTPUTS[1]: "float32, batch, height, width: the score of the label",
            OUTPUTS[2]: "float32, batch, classes, height, width",
        },
        "background": model.background,
        "unknown": model.unknown,
        "model": loaded.digest,
    }


def _compare(
    kind: ExportedFile,
    path: Path,
    network: PhotographNetwork,
    batches: list[UInt8[np.ndarray, "_ _ _ 3"]],
    traced: Traced,
) -> Agreement:
    """Compares the outputs of file and model for the same photographs.

    Raises:
        StaticSizeError: They disagree beyond rounding, and the file is to take every size.
        InputError: They do, and it takes one.
    """
    refused = InputError if traced.fixed else StaticSizeError
    pixels, ties, most = 0, 0, 0.0
    for batch, (labels, confidences, scores) in zip(batches, kind.run(path, batches), strict=True):
        with torch.no_grad():
            expected, sure, wanted = (a.numpy() for a in network(torch.from_numpy(batch)))
        if labels.shape != expected.shape or not np.isfinite(scores).all():
            raise refused("the file gives other shapes than the model, or no numbers")
        error = float(max(np.abs(scores - wanted).max(), np.abs(confidences - sure).max()))
        best = np.partition(wanted, -2, axis=1)[:, -2:]
        differ = labels != expected
        # what an error of that size can turn over; a background's score may err by another one
        tied = best[:, 1] - best[:, 0] <= 4 * error
        pixels, ties, most = pixels + labels.size, ties + int(differ.sum()), max(most, error)
        if error > TOLERANCE or (differ & ~tied).any():
            raise refused(
                f"the file does not say what the model says: {differ.sum()} of"
                f" {labels.size} labels differ, scores by {error:.2g}"
            )
    size = traced.smallest if traced.fixed else None
    return Agreement(len(batches), pixels, ties, most, size, traced.smallest)
