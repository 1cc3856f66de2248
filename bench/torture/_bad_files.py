"""Image files, and one pickle, as no dataset should hold them."""

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def loop(path: Path) -> None:
    path.symlink_to(path)


def eps(marker: Path) -> str:
    box = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n%%EndComments\n"
    return f"{box}({marker}) (w) file closefile\nshowpage\n%%EOF\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(side: int, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    chunks = (chunk(b"IHDR", head), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bomb(path: Path, side: int) -> None:
    path.write_bytes(png(side))


def text_bomb(path: Path) -> None:
    packed = zlib.compress(bytes(2**30), 9)
    path.write_bytes(png(24, chunk(b"zTXt", b"Comment\0\0" + packed)))


def grey(path: Path, mode: str) -> None:
    values = np.full((24, 24), 3000, np.uint16 if mode == "I;16" else np.int32)
    Image.fromarray(values).save(path, "PNG" if mode == "I;16" else "TIFF")


def floating(path: Path) -> None:
    Image.fromarray(np.full((24, 24), 0.5, np.float32)).save(path, "TIFF")


def turned(path: Path) -> None:
    image = Image.new("RGB", (24, 24))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, "JPEG", exif=exif)


def narrow(path: Path, bits: int) -> None:
    """Class 1 everywhere, in samples of few bits, as Pillow does not write them."""
    row = b"\0" + bytes([0b01010101 if bits == 2 else 0x11] * (24 * bits // 8))
    head = struct.pack(">IIBBBBB", 24, 24, bits, 0, 0, 0, 0)
    chunks = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row * 24)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def cut() -> bytes:
    whole = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        whole, "JPEG"
    )
    return whole.getvalue()[:900]


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._marker}",)
