"""A video in, its labels and an overlay out, frame by frame.

PyAV is optional, and ships its codecs: nothing else of this library imports it.
"""

import contextlib
import hashlib
from collections.abc import Iterator
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
        InputError: The video cannot be read, or a result cannot be written or would replace a file
            that is no result.
    """
    av = _av()
    segmenter.eval()
    with _readable(path), path.open("rb") as file:
        mark = OURS + how.mark(hashlib.file_digest(file, "sha256").digest())
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
    av = _av()
    with _readable(path), av.open(str(path)) as source:
        if not source.streams.video:
            raise InputError(f"the video {path} cannot be read (it has no pictures): replace it.")
        stream = source.streams.video[0]
        rate, size, last = stream.average_rate or 25, {}, -1
        for frame in progress(_decoded(source, stream, path), stream.frames):
            size = size or {"width": frame.width, "height": frame.height}
            pixels = frame.to_ndarray(format=layout, **size)
            pts = last + 1 if frame.pts is None else max(frame.pts, last + 1)
            last = pts
            yield _Time(pts, stream.time_base, rate), np.rot90(pixels, frame.rotation // 90 % 4)
        if not size:
            raise InputError(f"the video {path} cannot be read (it has no frame): replace it.")


def _decoded(source: Any, stream: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 - PyAV's
    with _readable(path):
        yield from source.decode(stream)


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
