"""`predict` on folders as they are: broken photographs, the system's files, a second call."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore import load
from cssegcore import predict as cssegcore_predict
from cssegcore.core.class_table import ClassTable
from cssegcore.evaluation.score import score_photograph
from cssegcore.models import checkpoint
from cssegcore.models.checkpoint import Model
from tests.helpers.tiny_dataset import disk_full_beyond, run_module
from tests.helpers.tiny_training import CPU, LINEAR, MODEL, awake, new_segmenter


@pytest.fixture
def model(project):
    torch.manual_seed(0)
    known = Model(
        "step0", MODEL, LINEAR, None, ClassTable.of([["background", "red", "green"]], [[0, 1, 2]])
    )
    path = project.folder / "model.safetensors"
    checkpoint.save(path, awake(new_segmenter([3])), known, {})
    return path


@pytest.fixture
def photographs(project):
    folder = project.folder / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for at in range(4):
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{at}.png")
    return folder


def predict(model, photographs, *words):
    return run_module("stages.predict", str(model), str(photographs), "--out", "out", *words)


def written(project):
    return {path.name: path.stat().st_mtime_ns for path in (project.folder / "out").iterdir()}


def ends(*names):
    return {f"{name}{end}" for name in names for end in (".png", ".overlay.jpg")}


def test_a_broken_photograph_is_told_and_the_others_are_labelled(project, model, photographs):
    whole = (photographs / "p1.png").read_bytes()
    (photographs / "p1.png").write_bytes(whole[:200])
    (photographs / "p2.png").write_bytes(b"")
    done = predict(model, photographs)
    assert done.status == 2
    assert done.err.startswith("error: 2 of 4 photographs are not labelled, all others are. photo")
    assert done.err.count("\n") == 1
    assert "p1.png cannot be read" in done.err
    assert "not labelled: photograph " in done.out
    assert "p2.png cannot be read" in done.out
    before = written(project)
    assert before.keys() == ends("p0", "p3")

    (photographs / "p1.png").write_bytes(whole)
    (photographs / "p2.png").unlink()
    done = predict(model, photographs)
    assert (done.status, done.err) == (0, "")
    assert "3 photographs, 2 of them before -> out" in done.out
    after = written(project)
    assert after.keys() == ends("p0", "p1", "p3")
    assert {name: after[name] for name in before} == before


def test_what_is_printed_counts_what_was_done_before(project, model, photographs):
    moved = project.folder / "p3.png"
    (photographs / "p3.png").rename(moved)
    assert predict(model, photographs).status == 0
    moved.rename(photographs / "p3.png")
    in_two = predict(model, photographs).out
    shutil.rmtree(project.folder / "out")
    at_once = predict(model, photographs).out
    assert in_two.splitlines()[:3] == at_once.splitlines()[:3]


def test_a_full_disk_ends_it_and_the_same_command_goes_on(project, model, photographs):
    assert predict(model, photographs).status == 0
    expected = {p.name: p.read_bytes() for p in (project.folder / "out").iterdir()}
    shutil.rmtree(project.folder / "out")
    rng = np.random.default_rng(1)
    large = rng.integers(0, 256, (400, 600, 3), np.uint8)
    Image.fromarray(large).save(photographs / "p2.png")
    with disk_full_beyond(8_000):
        done = predict(model, photographs)
    assert done.status == 2
    assert "cannot write out/p2" in done.err
    assert ends("p0", "p1") <= written(project).keys()
    assert predict(model, photographs).status == 0
    assert written(project).keys() == expected.keys()
    for name in ends("p0", "p1", "p3"):
        assert (project.folder / "out" / name).read_bytes() == expected[name]


def test_a_label_image_without_its_overlay_is_made_again(project, model, photographs):
    assert predict(model, photographs).status == 0
    (project.folder / "out/p1.overlay.jpg").unlink()
    assert predict(model, photographs).status == 0
    assert written(project).keys() == ends("p0", "p1", "p2", "p3")


def test_files_of_the_system_are_no_photographs(project, model, photographs):
    (photographs / "._p1.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (photographs / ".DS_Store").write_bytes(b"x")
    (photographs / "Thumbs.db").write_bytes(b"x")
    done = predict(model, photographs)
    assert (done.status, done.err) == (0, "")
    assert written(project).keys() == ends("p0", "p1", "p2", "p3")


@pytest.mark.parametrize("changed", ["model", "photograph", "opacity"])
def test_results_of_something_else_are_kept_and_told(project, model, photographs, changed):
    assert predict(model, photographs).status == 0
    before = {p.name: p.read_bytes() for p in (project.folder / "out").iterdir()}
    words = []
    if changed == "model":
        known = Model(
            "step1",
            MODEL,
            LINEAR,
            None,
            ClassTable.of([["background", "red", "blue"]], [[0, 1, 3]]),
        )
        checkpoint.save(model, new_segmenter([3]), known, {})
    elif changed == "photograph":
        Image.new("RGB", (30, 20)).save(photographs / "p0.png")
    else:
        words = ["--opacity", "0.1"]
    done = predict(model, photographs, *words)
    assert done.status == 2
    assert "p0.png was made of another photograph or model, or with another opacity" in done.err
    assert {p.name: p.read_bytes() for p in (project.folder / "out").iterdir()} == before


def test_a_photograph_is_turned_as_viewers_turn_it(project, model, photographs):
    upright = Image.open(photographs / "p0.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, shown upright by a quarter turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(photographs / "p1.png", exif=exif)
    assert predict(model, photographs).status == 0
    with (
        Image.open(project.folder / "out/p0.png") as one,
        Image.open(project.folder / "out/p1.png") as other,
    ):
        assert np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
@pytest.mark.parametrize(
    "where", ["score.normalise", "predict.images.photograph", "predict.overlay"]
)
def test_too_little_memory_is_told_of_the_photograph(
    project, model, photographs, monkeypatch, error, where
):
    where = f"cssegcore.evaluation.{where}"

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(where, fail)
    done = predict(model, photographs)
    assert done.status == 2
    assert (
        "p0.png has 30x20 pixels, for which memory does not suffice: cut it into tiles" in done.err
    )


def shown(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_maps_say_how_sure_each_pixel_is(project, model, photographs):
    done = predict(model, photographs, "--confidence", "--entropy")
    assert (done.status, done.err) == (0, "")
    ends_ = (".png", ".overlay.jpg", ".confidence.png", ".entropy.png")
    assert written(project).keys() == {f"p{at}{end}" for at in range(4) for end in ends_}
    door = load(model, "cpu")
    for at in range(4):
        (said,) = cssegcore_predict(door, [shown(photographs / f"p{at}.png")])
        assert np.array_equal(shown(f"out/p{at}.png"), said.labels)
        grey = shown(f"out/p{at}.confidence.png")
        assert np.abs(grey / 255 - said.confidences).max() <= 0.5 / 255 + 1e-6
        unsure = shown(f"out/p{at}.entropy.png")
        scored = score_photograph(door.segmenter, shown(photographs / f"p{at}.png"), CPU)
        assert np.abs(unsure / 255 - scored.entropies).max() <= 0.5 / 255 + 1e-5


def test_shares_of_each_photograph_as_json(project, model, photographs):
    assert predict(model, photographs, "--json", "shares.json").status == 0
    table = json.loads(Path("shares.json").read_text())
    assert table["classes"] == ["background", "red", "green"]
    for at in range(4):
        entry = table["photographs"][str(photographs / f"p{at}.png")]
        counts = np.bincount(shown(f"out/p{at}.png").ravel(), minlength=3)
        assert entry["pixels"] == counts.sum() == 600
        assert [entry["shares"][name] for name in table["classes"]] == pytest.approx(
            (counts / 600).tolist(), abs=1e-6
        )
    first = Path("shares.json").read_bytes()
    assert predict(model, photographs, "--json", "shares.json").status == 0
    assert Path("shares.json").read_bytes() == first
    Path("mine.json").write_text("[1]")
    assert "no table of ours" in predict(model, photographs, "--json", "mine.json").refusal()
    assert Path("mine.json").read_text() == "[1]"
    os.mkfifo("pipe")
    assert "pipe is no regular file" in predict(model, photographs, "--json", "pipe").refusal()
    odd = photographs / "p\udcff.png"
    (photographs / "p0.png").rename(odd)
    assert predict(model, photographs, "--json", "shares.json").status == 0
    assert (
        str(photographs / "p\ufffd.png")
        in json.loads(Path("shares.json").read_text())["photographs"]
    )


def test_results_of_two_photographs_are_not_one_file(project, model, photographs):
    (photographs / "p1.png").rename(photographs / "p0.confidence.png")
    refused = predict(model, photographs, "--confidence").refusal()
    assert "would be labelled into one file, out/p0.confidence.png" in refused
    assert not Path("out").exists()


def test_a_result_above_the_limit_of_pixels_is_known_again(
    project, model, photographs, monkeypatch
):
    assert predict(model, photographs).status == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused = predict(model, photographs).err
    assert "CSSEGCORE_MAX_PIXELS" in refused
    monkeypatch.setenv("CSSEGCORE_MAX_PIXELS", "1200")
    done = predict(model, photographs)
    assert (done.status, done.err) == (0, "")
    assert "4 of them before" in done.out


def test_tiles_and_sizes_are_options(project, model, photographs):
    Image.fromarray(np.tile(shown(photographs / "p0.png"), (4, 4, 1))).save(photographs / "p0.png")
    assert predict(model, photographs, "--tile", "48", "--overlap", "8").status == 0
    tiled = shown("out/p0.png")
    assert tiled.shape == (80, 120)
    said = predict(model, photographs, "--size", "40").refusal()
    assert "with another opacity, size or tiles" in said
    shutil.rmtree("out")
    assert predict(model, photographs, "--size", "40").status == 0
    assert shown("out/p0.png").shape == (80, 120)
    assert (shown("out/p0.png") != tiled).any()


def test_names_come_from_standard_input(project, model, photographs, monkeypatch):
    names = f"{photographs / 'p1.png'}\n\n{photographs / 'p3.png'}\r\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(names))
    done = run_module("stages.predict", str(model), "-", "--out", "out")
    assert (done.status, done.err) == (0, "")
    assert written(project).keys() == ends("p1", "p3")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    done = run_module("stages.predict", str(model), "-", "--out", "out")
    assert "name some on standard input" in done.refusal()


def test_the_device_is_an_option(project, model, photographs, monkeypatch):
    monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
    assert predict(model, photographs, "--device", "cpu").status == 0
    assert (
        "'abacus', which cannot be used"
        in predict(model, photographs, "--device", "abacus").refusal()
    )


def test_a_folder_for_results_that_is_none_is_said_so(project, model, photographs):
    out = project.folder / "out"
    out.write_text("mine")
    said = "error: out is no folder: name an --out that is empty or not there.\n"
    assert predict(model, photographs).refusal() == said
    assert out.read_text() == "mine"
    out.unlink()
    out.symlink_to("nowhere")
    assert predict(model, photographs).refusal() == said


def test_nobody_is_told_to_delete_what_is_no_model(project, model, photographs):
    told = predict(model.parent, photographs).refusal()
    assert f"{model.parent} is a folder: name the file, such as" in told
    told = predict(photographs / "p0.png", photographs).refusal()
    assert "p0.png cannot be read (" in told
    assert "if `dvc repro` made it, delete it and run that again; if not, name another" in told
