"""Reads image files, and refuses files that can be read in more than one way.

A photograph is 8-bit RGB, a label image one 8-bit number a pixel. Decoders guess where a file holds
something else: they stretch samples of fewer bits, cut off those of more, and leave it to others to
turn a photograph. Here such a file is read as it was meant where its format says what was meant,
and refused where it does not.
"""

import contextlib
import functools
import io
import os
import stat
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cssegcore.core.errors import InputError

PHOTOGRAPH_FORMATS: Final = ("JPEG", "PNG")
"""Formats of a dataset's photographs. All others stay closed: Pillow starts programs for some."""

MORE_FORMATS: Final = (*PHOTOGRAPH_FORMATS, "BMP", "WEBP", "TIFF")
"""Formats of photographs that are labelled, or made part of a dataset."""

LABELS: Final = ("PNG",)
"""The format of whatever holds a number for each pixel."""

_COLOUR_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's modes of 8 bits a sample, or fewer, of which it knows the colours."""

_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    struct.error,
)
"""Errors that Pillow raises for damaged files, by the place of the damage."""

ORIENTATION: Final = 0x0112
"""EXIF's tag of the turn that viewers apply; its value is 1 for none."""

EXIF_IN_PNG: Final = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Marks of the chunks in which a PNG may hold it."""

LIMIT: Final = "CSSEGCORE_MAX_PIXELS"
"""Environment variable: pixels of the largest image that is opened."""


def read(path: Path, what: str) -> bytes:
    """Reads a file; errors name it by `what`.

    Raises:
        InputError: There is no such file, or it is none (a pipe would never end), or not readable.
    """
    try:
        _check_regular(path, what)
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path, what) from None
    except OSError as error:
        raise unreadable(path, what, error.strerror) from None


def photograph(
    content: bytes, path: Path, formats: tuple[str, ...] = PHOTOGRAPH_FORMATS, *, turn: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a photograph to RGB.

    Args:
        content: Content of the file.
        path: Path of the file, named in errors.
        formats: Formats that may be opened.
        turn: Turns it as viewers do, by its EXIF orientation. Beside a label image that cannot be
            done: some tools draw labels over what is stored, others over what viewers show.

    Raises:
        InputError: It is damaged, no image in these formats, several pictures, of more than 8 bits
            a sample, of unknown colours, or to be turned without `turn`.
    """
    what = "photograph"
    with opened(content, path, what, formats) as image:
        check_single(image, path, what)
        check_colours(image, content, path)
        if turn and orientation(image, content) != 1:
            image = ImageOps.exif_transpose(image)
        elif not turn:
            check_orientation(image, content, path, what)
        return np.asarray(image.convert("RGB"))


def check_photograph(
    content: bytes, path: Path, formats: tuple[str, ...] = PHOTOGRAPH_FORMATS, *, turn: bool = False
) -> tuple[int, int]:
    """Reads a photograph through and returns its height and width, as it is stored.

    It is not decoded where there is a cheaper way to find what is cut off: the checksums in a PNG,
    a JPEG's stream read to its end at an eighth of the size.

    Raises:
        InputError: `photograph` would raise it with the same arguments.
    """
    with opened(content, path, "photograph", formats) as image:
        shape = (image.height, image.width)
        check_single(image, path, "photograph")
        check_colours(image, content, path)
        if not turn:
            check_orientation(image, content, path, "photograph")
        if image.format != "PNG":
            image.draft("L", (1, 1))
            image.load()
    return shape


def labels(
    content: bytes,
    path: Path,
    what: str = "label image",
    way_out: str = "store the class number of each pixel",
) -> UInt8[np.ndarray, "h w"]:
    """Decodes the numbers that a PNG of one channel, grey or palette, of 1 to 8 bits stores.

    Args:
        content: Content of the file.
        path: Path of the file, named in errors.
        what: Name of the kind of file in errors.
        way_out: Advice in the error about several channels or more bits.

    Raises:
        InputError: It is damaged, no PNG, several pictures, of several channels or more bits, or to
            be turned.
    """
    with opened(content, path, what, LABELS) as image:
        if image.mode not in ("1", "L", "P"):
            raise InputError(
                f"{what} {path} has mode {image.mode}, not one 8-bit channel (palette or grey PNG):"
                f" {way_out}."
            )
        check_single(image, path, what)
        check_orientation(image, content, path, what)
        stored = np.asarray(image).astype(np.uint8)
        if image.mode == "L" and (bits := depth(image, content)) < 8:
            stored //= 255 // (2**bits - 1)  # Pillow stretches grey samples of 2 and 4 bits
        return stored


def size(path: Path, what: str) -> tuple[int, int]:
    """Reads height and width from a photograph's header: decoding it takes a hundred times.

    Raises:
        InputError: There is no such file, or no photograph in it.
    """
    _allow_pixels()
    try:
        _check_regular(path, what)
        with path.open("rb") as file, Image.open(file, formats=PHOTOGRAPH_FORMATS) as image:
            return image.height, image.width
    except InputError:
        raise
    except FileNotFoundError:
        raise _missing(path, what) from None
    except Image.DecompressionBombError:
        raise _too_large(path, what) from None
    except _DAMAGE as error:
        raise unreadable(path, what, _reason(error)) from None


@contextlib.contextmanager
def opened(
    content: bytes, path: Path, what: str, formats: tuple[str, ...]
) -> Iterator[Image.Image]:
    """Opens an image without decoding it; errors inside the context become one line.

    The checksums in a PNG are held against its content; no other format has any.

    Raises:
        InputError: It is damaged or no image in these formats.
    """
    _allow_pixels()
    try:
        if content.startswith(b"\x89PNG"):
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                image.verify()  # leaves the image unusable
        with Image.open(io.BytesIO(content), formats=formats) as image:
            yield image
    except UnidentifiedImageError:
        raise unreadable(path, what, f"no image of the formats {', '.join(formats)}") from None
    except Image.DecompressionBombError:
        raise _too_large(path, what) from None
    except InputError:
        raise
    except _DAMAGE as error:
        raise unreadable(path, what, _reason(error)) from None


def most_pixels() -> int:
    """Returns the pixels of the largest image that is opened."""
    _allow_pixels()
    return int(2 * (Image.MAX_IMAGE_PIXELS or 2**62))


def check_single(image: Image.Image, path: Path, what: str) -> None:
    """Refuses a file of several pictures: which of them is meant is not said.

    In a JPEG the first is, the others are the camera's own. Smaller copies in a TIFF do not count.

    Raises:
        InputError: It holds several.
    """
    count = getattr(image, "n_frames", 1) if image.format in ("PNG", "WEBP", "TIFF") else 1
    if image.format == "TIFF" and count > 1:
        count = sum(map(functools.partial(_is_whole, image), range(count)))
        image.seek(0)
    if count > 1:
        raise InputError(
            f"{what} {path} holds {count} pictures (pages of a document, frames of an animation):"
            " save the one that is meant as a file of its own."
        )


def _is_whole(image: Image.Image, page: int) -> bool:
    """Whether a page of a TIFF is no smaller copy of another one (NewSubfileType, bit 0)."""
    image.seek(page)
    return not image.tag_v2.get(254, 0) & 1  # type: ignore[attr-defined]


def check_colours(image: Image.Image, content: bytes, path: Path) -> None:
    """Refuses a photograph whose samples have more than 8 bits, or whose colours are unknown.

    With more bits, what is white is not said: cameras of 12 bits store them in 16.

    Raises:
        InputError: It is such a photograph.
    """
    if depth(image, content) > 8 or image.mode not in _COLOUR_MODES:
        raise InputError(
            f"photograph {path} has mode {image.mode} and {depth(image, content)} bits a sample,"
            " and how bright these are to be is not said: convert it to 8 bits, grey or RGB."
        )


def orientation(image: Image.Image, content: bytes) -> int:
    """Returns EXIF's orientation, the turn that viewers apply; 1 for none."""
    if image.format == "PNG" and not any(place in content for place in EXIF_IN_PNG):
        return 1  # and Pillow need not decode it to find out
    try:
        turned = image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error):
        return 1  # to viewers, damaged EXIF is none
    return turned if turned in range(2, 9) else 1


def check_orientation(image: Image.Image, content: bytes, path: Path, what: str) -> None:
    """Refuses an image that viewers turn: there are two ways to lay labels over it.

    Raises:
        InputError: Its EXIF orientation is not 1.
    """
    if (turned := orientation(image, content)) != 1:
        raise InputError(
            f"{what} {path} has the EXIF orientation {turned}: viewers turn it, other programs do"
            " not, so a label image may lie over it in two ways. If the labels were drawn over what"
            " viewers show, turn the pixels (`exiftran -ai FILE`, `mogrify -auto-orient FILE`); if"
            " not, take the tag out (`exiftool -Orientation= FILE`)."
        )


def depth(image: Image.Image, content: bytes) -> int:
    """Returns the bits of a sample as the file has them; of formats without a choice, 8."""
    if image.format == "PNG":
        return content[24]  # the ninth byte of the first chunk, which is IHDR
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]  # BitsPerSample
    return 8


def unreadable(path: Path, what: str, reason: object) -> InputError:
    """Returns the error about a file that cannot be read, with the reason."""
    return InputError(f"{what} {path} cannot be read ({reason}): replace the file.")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _missing(path: Path, what: str) -> InputError:
    way_out = "put it there or take its name off the list"
    if what == "label image":
        way_out += "; where there is no list, take its photograph away"
    alike = _names(path.parent).get(_plain(path.name))
    other = f" {alike!a} beside it is another name: case, accents or unseen characters differ."
    return InputError(f"{what} {path} does not exist: {way_out}.{other if alike else ''}")


@functools.lru_cache(maxsize=4)
def _names(folder: Path) -> dict[str, str]:
    """Returns the names in a folder by their `_plain` form."""
    try:
        return {_plain(each.name): each.name for each in folder.iterdir()}
    except OSError:
        return {}


def _plain(name: str) -> str:
    """Returns a name without differences that are hard to see: case, accents, zero width."""
    seen = (c for c in unicodedata.normalize("NFKD", name) if unicodedata.category(c) != "Cf")
    return "".join(seen).casefold()


def _too_large(path: Path, what: str) -> InputError:
    return InputError(
        f"{what} {path} has more than {most_pixels()} pixels: cut it into"
        f" tiles, or set the environment variable {LIMIT} to what it has if you trust it."
    )


def _allow_pixels() -> None:
    if limit := os.environ.get(LIMIT):
        # Pillow warns of so many, refuses more than twice as many, and takes a fraction as it is
        Image.MAX_IMAGE_PIXELS = _pixels(limit) / 2  # pyright: ignore[reportAttributeAccessIssue]


def _check_regular(path: Path, what: str) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise unreadable(path, what, "it is no regular file")


def _pixels(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{LIMIT} is {given[:40]!r}: give a number of pixels, such as 400000000.")
    return int(given)
