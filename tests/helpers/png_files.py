"""Image files written byte by byte, with what Pillow would not write."""

import struct
import zlib

import numpy as np


def png(samples, depth, colour=0, palette=None):
    """Returns a PNG of samples (h, w) or (h, w, c), `depth` bits each, of a PNG colour type."""
    height, width = samples.shape[:2]
    bits = ((samples[..., None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8)
    rows = np.packbits(bits.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", palette))
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*given) for given in chunks)


def chunk(kind, data):
    """Returns a PNG's chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
