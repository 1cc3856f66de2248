"""Videos in, label videos and overlays out."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cssegcore import load
from cssegcore import predict as say
from cssegcore.core.errors import InputError
from cssegcore.evaluation import video
from tests.helpers.tiny_dataset import run_module
from tests.helpers.tiny_training import write_model

av = pytest.importorskip("av")


@pytest.fixture
def model(project):
    return write_model(Path("model.safetensors"))


def film(path, height=30, width=41, times=(0, 3, 4, 9)):
    """Writes frames without loss, at unequal times; returns them."""
    rng = np.random.default_rng(0)
    frames = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        stream.codec_context.time_base = Fraction(1, 10)
        for at in times:
            coarse = rng.integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), np.uint8)
            frames.append(coarse.repeat(6, 0).repeat(6, 1)[:height, :width].copy())
            frame = av.VideoFrame.from_ndarray(frames[-1], format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return frames


def decoded(path, layout):
    with av.open(str(path)) as container:
        return [(float(f.time), f.to_ndarray(format=layout)) for f in container.decode(video=0)]


def predict(*words):
    return run_module("stages.predict", "model.safetensors", *map(str, words), "--out", "out")


def test_every_frame_is_labelled_at_its_time(project, model):
    frames = film("clip.mkv")
    done = predict("clip.mkv", "--json", "shares.json")
    assert (done.status, done.err) == (0, "")
    assert {p.name for p in Path("out").iterdir()} == {"clip.labels.mkv", "clip.overlay.mp4"}
    labels, drawn = decoded("out/clip.labels.mkv", "gray"), decoded("out/clip.overlay.mp4", "rgb24")
    assert [time for time, _ in labels] == pytest.approx([0, 0.3, 0.4, 0.9])
    assert [time for time, _ in drawn] == pytest.approx([0, 0.3, 0.4, 0.9], abs=0.01)
    door = load(model, "cpu")
    for (_, got), wanted in zip(labels, say(door, frames), strict=True):
        assert np.array_equal(got, wanted.labels)
    assert len(np.unique(labels[0][1])) > 1
    assert drawn[0][1].shape == (30, 42, 3)

    before = {p: p.read_bytes() for p in Path("out").iterdir()}
    printed = done.out
    done = predict("clip.mkv")
    assert done.out == printed
    assert {p: p.read_bytes() for p in Path("out").iterdir()} == before
    assert "was not made of this video" in predict("clip.mkv", "--size", "20").refusal()


def test_a_broken_video_is_told_and_the_others_are_labelled(project, model):
    film("whole.mkv")
    Path("broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"x" * 100)
    done = predict("broken.mp4", "whole.mkv")
    assert done.status == 2
    assert "the video broken.mp4 cannot be read" in done.err
    assert {p.name for p in Path("out").iterdir()} == {"whole.labels.mkv", "whole.overlay.mp4"}


def steady(path, codec="mpeg4", count=40, **options):
    """Writes frames at ten a second."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for at in range(count):
            pixels = np.full((48, 64, 3), 5 * at, np.uint8)
            pixels[:20, at : at + 20] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path).read_bytes()


FORMS = {
    "whole.mp4": ("mpeg4", {"movflags": "faststart"}),
    "whole.mkv": ("mpeg4", {}),
    "lossless.mkv": ("ffv1", {}),
    "whole.avi": ("mpeg4", {}),
    "parts.mp4": ("mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
    "stream.mkv": ("mpeg4", {"live": "1"}),
    "whole.ts": ("mpeg2video", {}),
}


def read_through(path):
    video._check_whole(Path(path))
    return sum(1 for _ in video._frames(Path(path), "rgb24", lambda frames, _: frames))


@pytest.mark.parametrize("name", FORMS)
def test_a_whole_video_is_read_whatever_its_header_tells(tmp_path, name):
    codec, options = FORMS[name]
    steady(tmp_path / name, codec, **options)
    assert read_through(tmp_path / name) == 40


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_of_a_frame_or_two_is_read(tmp_path, count):
    for name in ("a.mp4", "a.mkv", "a.avi"):
        steady(tmp_path / name, count=count)
        assert read_through(tmp_path / name) == count


def test_a_video_that_was_trimmed_without_decoding_is_read(tmp_path):
    """Its list of edits leaves out the frames before the one at which it begins."""
    steady(tmp_path / "long.mp4", count=50)
    with av.open(str(tmp_path / "long.mp4")) as whole, av.open(str(tmp_path / "a.mp4"), "w") as cut:
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        begin = int(1.7 / stream.time_base)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
                packet.stream = copy
                cut.mux(packet)
    assert read_through(tmp_path / "a.mp4") == 33


@pytest.mark.parametrize("name", ["whole.mp4", "whole.mkv", "lossless.mkv", "whole.avi"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_video_that_is_cut_off_is_told(tmp_path, name, share):
    codec, options = FORMS[name]
    content = steady(tmp_path / name, codec, **options)
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="cannot be read") as refused:
        read_through(tmp_path / name)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["whole.mp4", "whole.mkv", "lossless.mkv"])
def test_of_a_video_with_changed_bytes_no_frame_is_lost_in_silence(tmp_path, name):
    codec, options = FORMS[name]
    content = steady(tmp_path / name, codec, **options)
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(60):
        changed = bytearray(content)
        for at in rng.integers(len(content) // 3, len(content) * 9 // 10, 3):
            changed[at] = rng.integers(256)
        (tmp_path / name).write_bytes(changed)
        try:
            read = read_through(tmp_path / name)
        except InputError:
            told += 1
        else:
            assert read >= 39
    assert told > 20


def test_of_a_cut_video_nothing_is_left(project, model):
    content = steady("half.mp4", movflags="faststart")
    Path("half.mp4").write_bytes(content[: len(content) // 2])
    film("whole.mkv")
    done = predict("half.mp4", "whole.mkv")
    assert done.status == 2
    assert "the video half.mp4 cannot be read (it is damaged or cut off after" in done.err
    assert {p.name for p in Path("out").iterdir()} == {"whole.labels.mkv", "whole.overlay.mp4"}


def test_a_file_of_somebody_else_stays(project, model):
    film("clip.mkv")
    Path("out").mkdir()
    Path("out/clip.overlay.mp4").write_bytes(b"mine")
    assert "was not made of this video" in predict("clip.mkv").refusal()
    assert Path("out/clip.overlay.mp4").read_bytes() == b"mine"
    assert [p.name for p in Path("out").iterdir()] == ["clip.overlay.mp4"]
