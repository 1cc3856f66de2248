"""Label images that people can look at: one byte per pixel, coloured by a palette."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo


@cache
def palette() -> UInt8[np.ndarray, "256 3"]:
    """Returns Pascal VOC's colour of every label value; 0 is black, 255 (void) is cream.

    The value's bits 0, 1, 2 become the high bits of red, green and blue, its bits 3, 4, 5 the next
    ones, and so on, so that neighbouring values differ most.
    """
    values = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        colours[:, channel] |= (((values >> bit) & 1) << place).astype(np.uint8)
    colours.setflags(write=False)  # one array for all callers
    return colours


MARK = "cssegcore"
"""Key of a label image's text that identifies its sources."""


def save_labels(
    path: Path | io.BytesIO,
    labels: Int[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"],
    mark: str = "",
) -> None:
    """Writes label values 0–255 as a palette PNG, which reads back as the same values.

    Args:
        path: The file, or where its bytes go.
        labels: Values.
        mark: A text to keep in the file, under the key `MARK`; none if empty.
    """
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise ValueError(
            f"label values must lie in [0, 255], got {labels.min()} to {labels.max()}."
        )
    height, width = labels.shape
    image = Image.frombytes("P", (width, height), labels.astype(np.uint8).tobytes())
    image.putpalette(palette().tobytes())
    texts = PngInfo()
    if mark:
        texts.add_text(MARK, mark)
    image.save(path, format="PNG", pnginfo=texts)
