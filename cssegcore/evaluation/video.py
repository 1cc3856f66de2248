"""A video in, its labels and an overlay out, frame by frame.

PyAV is optional, and ships its codecs: nothing else of this library imports it.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.core.files import replacing, unwritable
from cssegcore.core.types import Progress
from cssegcore.evaluation.predict import Counted, Labelling, count_labels, overlay
from cssegcore.evaluation.score import score_photograph
from cssegcore.models.segmenter import Segmenter

TAG = "comment"
"""Tag of a file that holds its mark, a digest of video, model and settings."""

OURS = "cssegcore "

MATROSKA = "matroska,webm"
"""FFmpeg's name of the format."""

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""Marks of the two parts that a Matroska file has."""


def video_files(out: Path, name: str) -> tuple[Path, Path]:
    """Returns the paths of a video's files: labels without loss, and the overlay."""
    return out / f"{name}.labels.mkv", out / f"{name}.overlay.mp4"


def label_video(
    segmenter: Segmenter,
    path: Path,
    out: Path,
    how: Labelling,
    device: torch.device,
    progress: Progress,
) -> Counted:
    """Labels each frame of a video, turned as players show it; it keeps its times, not its sound.

    NAME.labels.mkv holds network outputs as grey values (FFV1, without loss), NAME.overlay.mp4 the
    frames under the classes' colours. Files that an earlier call made of the same video are kept.

    Args:
        segmenter: The model.
        path: Any file that FFmpeg reads.
        out: Folder of both files.
        how: Settings of the labelling; maps are made of photographs only.
        device: Device of the model.
        progress: Wraps the iterable of frames (second argument: their number by the file).

    Raises:
        InputError: The video cannot be read or is cut off, or a result cannot be written or would
            replace a file that is no result.
    """
    av = _av()
    segmenter.eval()
    with _readable(path), path.open("rb") as file:
        mark = OURS + how.mark(hashlib.file_digest(file, "sha256").digest())
    _check_whole(path)
    files = video_files(out, path.stem)
    counts = np.zeros(segmenter.classes, np.int64)
    if _done(files, mark):
        for _, labels in _frames(files[0], "gray", progress):
            counts += count_labels(labels, segmenter.classes)
        return Counted(path, counts)
    with (
        replacing(files[1]) as drawn,
        replacing(files[0]) as stored,
        _writable(files[0]),
        av.open(str(stored), "w", format="matroska") as labelled,
        av.open(str(drawn), "w", format="mp4") as coloured,
    ):
        pair = _Writer(labelled, "ffv1", "gray", mark), _Writer(coloured, "", "yuv420p", mark)
        for frame, pixels in _frames(path, "rgb24", progress):
            labels = score_photograph(segmenter, pixels, device, how.view).labels
            counts += count_labels(labels, segmenter.classes)
            pair[0].write(labels, "gray", frame)
            pair[1].write(_even(overlay(pixels, labels, how.opacity)), "rgb24", frame)
        for writer in pair:
            writer.close()
    return Counted(path, counts)


class _Writer:
    """One stream of a file, which begins with its first frame."""

    def __init__(self, container: Any, codec: str, pixels: str, mark: str) -> None:  # noqa: ANN401
        self._container, self._pixels = container, pixels
        av = _av()
        known = [name for name in ("libx264", "mpeg4") if name in av.codecs_available]
        self._codec = codec or known[0]
        self._stream: Any = None
        container.metadata[TAG] = mark

    def write(self, pixels: UInt8[np.ndarray, "..."], layout: str, like: Any) -> None:  # noqa: ANN401
        """Adds a frame at the time of another one."""
        av = _av()
        if self._stream is None:
            self._stream = self._container.add_stream(self._codec, rate=like.rate)
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = self._pixels
            self._stream.codec_context.time_base = like.time_base
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
        frame.pts, frame.time_base = like.pts, like.time_base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes the frames that the codec still holds."""
        self._container.mux(self._stream.encode(None))


class _Time:
    """Time of a frame, in units of `time_base`, and number of frames a second."""

    def __init__(self, pts: int, time_base: Any, rate: Any) -> None:  # noqa: ANN401 - fractions
        self.pts, self.time_base, self.rate = pts, time_base, rate


def _frames(
    path: Path, layout: str, progress: Progress
) -> Iterator[tuple[_Time, UInt8[np.ndarray, "..."]]]:
    """Decodes frames, all of the first one's size.

    Raises:
        InputError: It is no video, or damaged.
    """
    with _readable(path), _opened(path) as source:
        stream = source.streams.video[0]
        rate, size, last = stream.average_rate or 25, {}, -1
        for frame in progress(_decoded(source, stream, path), stream.frames):
            if frame.is_corrupt:
                raise _damaged(path, f"the frame at {frame.time or 0:.2f} s is damaged")
            size = size or {"width": frame.width, "height": frame.height}
            pixels = frame.to_ndarray(format=layout, **size)
            pts = last + 1 if frame.pts is None else max(frame.pts, last + 1)
            last = pts
            yield _Time(pts, stream.time_base, rate), np.rot90(pixels, frame.rotation // 90 % 4)
        if not size:
            raise _damaged(path, "it has no frame")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a file that has pictures; what its tags say in another encoding is no damage."""
    with _av().open(str(path), metadata_errors="replace") as source:
        if not source.streams.video:
            raise _damaged(path, "it has no pictures")
        yield source


def _check_whole(path: Path) -> None:
    """Reads a video through without decoding it: FFmpeg ends in silence where a file is cut off.

    A header that tells neither sizes nor numbers, as of a stream, leaves nothing to compare with.

    Raises:
        InputError: Less is there than its header tells, or a part of it is damaged.
    """
    with _readable(path), _opened(path) as source:
        stream = source.streams.video[0]
        if source.format.name == MATROSKA and path.stat().st_size < _matroska_size(path):
            raise _damaged(path, "its end is missing")
        count, end = 0, Fraction(0)
        for packet in _heard(source.demux(stream), MATROSKA, path):
            if not packet.size:
                continue
            if packet.is_corrupt:
                raise _damaged(path, f"it is damaged or cut off after {count} frames")
            count += 1
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * stream.time_base)
        # both, for a film that was trimmed by its list of edits has more frames, or fewer
        told = (stream.duration or 0) * (stream.time_base or 0)
        frame = 1 / (stream.average_rate or 25)
        if count < stream.frames - 1 and end < told - 3 * frame / 2:
            raise _damaged(
                path,
                f"its header tells {stream.frames} frames in {float(told):.2f} s, and {count} in"
                f" {float(end):.2f} s are there",
            )


def _heard(items: Iterator[Any], name: str, path: Path) -> Iterator[Any]:
    """Passes on packets or frames; damage that FFmpeg makes up for is in its log alone.

    Args:
        items: Packets or frames, made in this thread.
        name: The format or codec whose errors count.
        path: Path of the video, named in errors.

    Raises:
        InputError: An error is logged.
    """
    logging = _av().logging
    while True:
        before = logging.get_level()
        logging.set_level(logging.ERROR)
        try:
            with logging.Capture(local=True) as said:
                item = next(items, None)
        finally:
            logging.set_level(before)
        if wrong := [line for _, source, line in said if source == name]:
            raise _damaged(path, " ".join(wrong[0].split()))
        if item is None:
            return
        yield item


def _matroska_size(path: Path) -> int:
    """Returns the bytes that a Matroska file has by its header; 0 if that does not tell them."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = end = 0
    for known in (EBML, SEGMENT):
        at = end + len(known)
        if head[end:at] != known or at >= len(head) or not head[at]:
            return 0
        length = 9 - head[at].bit_length()  # leading zeros tell the bytes of a number
        value = int.from_bytes(head[at : at + length]) & (1 << 7 * length) - 1
        if value == (1 << 7 * length) - 1:  # of a stream, whose size was not known
            return 0
        end = at + length + value
    return end


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"the video {path} cannot be read ({reason}): replace it.")


def _decoded(source: Any, stream: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 - PyAV's
    frames = source.decode(stream)
    if stream.codec_context.name == "ffv1":  # it paints over slices whose checksum is wrong
        stream.codec_context.thread_count = 1
        frames = _heard(frames, "ffv1", path)
    with _readable(path):
        yield from frames


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns errors of reading a video into one line."""
    try:
        yield
    except _av().FFmpegError as error:
        raise InputError(
            f"the video {path} cannot be read ({error.strerror or error}): replace the file."
        ) from None
    except OSError as error:
        raise InputError(f"the video {path} cannot be read ({error.strerror}).") from None


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except _av().FFmpegError as error:
        raise unwritable(path, OSError(error.errno or 0, error.strerror or str(error))) from None


def _done(files: tuple[Path, Path], mark: str) -> bool:
    """Whether an earlier call made both files.

    Raises:
        InputError: Files of the names are there, made of something else.
    """
    there = [path for path in files if path.exists()]
    for path in there:
        if _mark(path) != mark:
            raise InputError(
                f"{path} is there already, and was not made of this video, model and options: name"
                " an --out that is empty or not there."
            )
    return len(there) == len(files)


def _mark(path: Path) -> str:
    av = _av()
    try:
        with av.open(str(path)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            return tags.get(TAG, "")
    except (av.FFmpegError, OSError):
        return ""


def _even(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Repeats the last row and column where their number is odd, which codecs refuse."""
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")


def _av() -> Any:  # noqa: ANN401 - a module that may be absent
    try:
        import av
    except ModuleNotFoundError:
        raise InputError(
            "videos take the package av, which is not installed: `pip install av`, which is the"
            " extra `video` of cssegcore as well."
        ) from None
    return av
