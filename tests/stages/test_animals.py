"""The animals, made of Pascal VOC; names and label images are held against the benchmark's."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from cssegcore.data.dataset import open_dataset
from cssegcore.data.layouts._base import read_names
from stages.common import animals
from tests.helpers import shared_data
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_dataset import HOME, run_module, write_lines

PHOTOGRAPHS = {"large": (640, 428), "tall": (200, 400), "small": (182, 250)}


def test_a_tenth_of_the_training_images_is_for_validation():
    train, val, test = (read_names(HOME / "lists/animals" / f"{p}.txt") for p in animals.PARTS)
    assert [len(train), len(val), len(test)] == [2797, 341, 450]
    assert len({*train, *val, *test}) == 3588
    for names, held_out in ((train, False), (val, True)):
        first = {hashlib.sha256(name.encode()).digest()[0] < 26 for name in names}
        assert first == {held_out}
        assert names == sorted(names)


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """A VOC of three photographs, which are all animals, and a project that lists them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in PHOTOGRAPHS.items():
        pixels = rng.integers(0, 21, (*size[::-1], 3), np.uint8)
        files = {f"JPEGImages/{name}.jpg": pixels * 12}
        files[f"SegmentationClassAug/{name}.png"] = pixels[..., 0]
        for place, image in files.items():
            path = tmp_path / "voc" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    lists = tmp_path / "voc" / "ImageSets" / "Segmentation"
    for folder in (lists, tmp_path / "lists" / "animals"):
        folder.mkdir(parents=True)
    write_lines(lists / "train_aug.txt", ["large", "tall"])
    write_lines(lists / "val.txt", ["small"])
    for part, name in zip(animals.PARTS, PHOTOGRAPHS, strict=True):
        write_lines(tmp_path / "lists" / "animals" / f"{part}.txt", [name])
    layout = {"part": "voc", "labels": "SegmentationClassAug", "train": "train_aug"}
    table = [str(k) for k in range(21)]
    settings = {"name": "voc", "root": str(tmp_path / "voc"), "layout": layout, "classes": table}
    return open_dataset(settings)


def test_images_are_made_small_and_nothing_is_overwritten(voc, tmp_path):
    out = tmp_path / "animals"
    kept = out / "JPEGImages" / "tall.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    animals.make_animals(voc, out, lambda items, _: items)
    assert kept.read_text() == "mine"
    for name, size in (("large", (320, 214)), ("tall", (160, 320)), ("small", (182, 250))):
        with Image.open(out / "SegmentationClassAug" / f"{name}.png") as small:
            assert (small.mode, small.size) == ("P", size)
            # the nearest pixel: that of the middle of each small one
            height, width = voc.label(name).shape
            rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(int)
            columns = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(int)
            assert np.array_equal(np.asarray(small), voc.label(name)[np.ix_(rows, columns)])
    with Image.open(out / "JPEGImages" / "large.jpg") as small:
        assert (small.mode, small.size) == ("RGB", (320, 214))
    same = (out / "JPEGImages" / "small.jpg").read_bytes()
    assert same == voc.photograph_path("small").read_bytes()
    assert (out / "ImageSets/Segmentation/test.txt").read_text() == "small\n"


def test_lists_of_another_dataset_stay(voc, tmp_path):
    with pytest.raises(ValueError, match=r"val\.txt is there with other names"):
        animals.make_animals(voc, voc.root, lambda items, _: items)
    lists = voc.root / "ImageSets" / "Segmentation"
    assert (lists / "val.txt").read_text() == "small\n"
    assert not (lists / "train.txt").exists()
    out = tmp_path / "animals"
    for _ in range(2):  # its own lists are no others
        animals.make_animals(voc, out, lambda items, _: items)


def test_what_voc_lacks_is_named(voc, tmp_path):
    voc.label_path("tall").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of the 6 photographs and .*tall\.png: complete"):
        animals.make_animals(voc, tmp_path / "animals", lambda items, _: items)
    assert not (tmp_path / "animals").exists()


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(scenes.HOME)
    line = run_module("stages.fetch", "camvid", "--root", str(tmp_path), "--from", "x").refusal()
    assert "--from is for animals, which are made of Pascal VOC, not for camvid" in line
    outcome = run_module("stages.fetch", "animals", "--root", str(tmp_path))
    assert "holds no complete arrangement of Pascal VOC" in outcome.refusal()
    assert "stages.fetch animals --from VOC_ROOT --root DIR" in outcome.out


@pytest.mark.slow
def test_the_label_images_are_those_of_the_benchmark(tmp_path, monkeypatch):
    monkeypatch.chdir(scenes.HOME)
    source = shared_data.data("voc2012_animals")
    command = ("stages.fetch", "animals", "--from", str(source), "--root", str(tmp_path / "a"))
    assert run_module(*command).out == "animals is complete: train 2797, val 341, test 450\n"
    spoilt = tmp_path / "a" / "SegmentationClassAug" / "2007_000063.png"
    with Image.open(spoilt) as image:
        size = image.size
    Image.new("L", size).save(spoilt)
    assert "are not those of the benchmark: make them from" in run_module(*command).refusal()
