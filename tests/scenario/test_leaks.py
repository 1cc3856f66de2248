"""Images that are trained and tested on: refused, or said."""

import json
import shutil

import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.data.index import Entry
from cssegcore.scenario.splits import check_leaks


def entry(name, parts, photograph=""):
    """An image whose label no other has, so that `digest`, of both, differs from all others."""
    parts = tuple(parts.split())
    return Entry(name, parts, f"of {name}", 1, 1, 0, (1,), photograph=photograph)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("a", "train val")], "1 images are trained and tested on: 'a' is in the training"),
        ([entry("a", "train test"), entry("b", "train val")], "2 images are .*'a'"),
        ([entry("a", "train", "1"), entry("b", "val", "1")], "'a' is .*under the name 'b'"),
        ([entry("b", "test", "1"), entry("a", "train", "1")], "'a' is .*under the name 'b'"),
    ],
)
def test_shared_images_are_refused(entries, words):
    with pytest.raises(InputError, match=words):
        check_leaks(entries)


def test_what_is_not_shared_passes():
    check_leaks(
        [
            entry("a", "train", "1"),
            entry("b", "train", "1"),  # twice in training is no leak
            entry("c", "val test", "2"),
            entry("d", "val", ""),
            entry("e", "train", ""),
        ]
    )


@pytest.mark.parametrize("how", ["name", "content", "photograph"])
def test_the_pipeline_refuses_them_before_training_or_says_so(project, how):
    lists = project.root / "ImageSets" / "Segmentation"
    if how == "name":
        with (lists / "val.txt").open("a") as file:
            file.write("t0\nt4\n")
    else:
        for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
            shutil.copy(
                project.root / folder / f"t0.{suffix}", project.root / folder / f"n.{suffix}"
            )
        with (lists / "val.txt").open("a") as file:
            file.write("n\n")
    if how == "photograph":  # with one pixel of its label corrected
        path = project.root / "SegmentationClass" / "n.png"
        label = Image.open(path)
        label.putpixel((0, 0), 255)
        label.save(path)
    line = project.run("check", "index", "split").refusal()
    assert "images are trained and tested on: 't0' is in the training part" in line
    assert "set `evaluation.shared` to allow" in line
    assert not (project.folder / "work" / "split").exists()

    project.set("evaluation.shared", "allow")
    assert project.run("split", "saliency", "train@step0", "evaluate@step0").status == 0
    numbers = json.loads((project.folder / "work/step0/metrics.json").read_text())
    assert "; test images may be training images; " in numbers["protocol"]
