"""Images as text in a page."""

import base64
import io
from pathlib import Path
from typing import Final

LONGEST_SHOWN: Final = 480
"""Pixels of a photograph's longer side in the page, which shows it no larger."""


def data_url(path: Path) -> str:
    """Returns an image file as it is."""
    return _url(path, path.read_bytes())


def reduced_data_url(path: Path) -> str:
    """Returns an image file, made smaller where it is large; labels stay labels.

    A file that is no image is returned as it is: the browser shows its alternative text.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if max(image.size) <= LONGEST_SHOWN:
                return data_url(path)
            is_labels = image.mode == "P"
            scale = LONGEST_SHOWN / max(image.size)
            size = [max(1, round(side * scale)) for side in image.size]
            how = Image.Resampling.NEAREST if is_labels else Image.Resampling.LANCZOS
            small = image.resize((size[0], size[1]), how)
            content = io.BytesIO()
            if path.suffix == ".jpg":
                small.save(content, "JPEG", quality=85)
            else:
                small.save(content, "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError):
        return data_url(path)
    return _url(path, content.getvalue())


def _url(path: Path, content: bytes) -> str:
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
