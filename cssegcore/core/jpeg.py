"""Photographs as JPEG files."""

import io
from pathlib import Path

from PIL import Image


def save_jpeg(path: Path, photograph: Image.Image, quality: int, *, optimize: bool = False) -> None:
    """Writes a JPEG file, the same bytes as `Image.save` does.

    Pillow's own writer of JPEG files takes a write that the disk took in part for a whole one, so
    that a disk that gets full leaves a file cut off, without a word.

    Args:
        path: The file.
        photograph: Photograph in a mode that JPEG has.
        quality: 1 to 95.
        optimize: Looks for the shortest code.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    whole = io.BytesIO()
    photograph.save(whole, "JPEG", quality=quality, optimize=optimize)
    path.write_bytes(whole.getbuffer())
