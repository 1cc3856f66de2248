"""Videos in, label videos and overlays out."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cssegcore import load
from cssegcore import predict as say
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


def test_a_file_of_somebody_else_stays(project, model):
    film("clip.mkv")
    Path("out").mkdir()
    Path("out/clip.overlay.mp4").write_bytes(b"mine")
    assert "was not made of this video" in predict("clip.mkv").refusal()
    assert Path("out/clip.overlay.mp4").read_bytes() == b"mine"
    assert [p.name for p in Path("out").iterdir()] == ["clip.overlay.mp4"]
