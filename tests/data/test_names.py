"""Names of images become names of files, so none may lead out of its folder."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.names import unfit
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry, build_index, read_index, write_index
from cssegcore.data.layouts._base import read_names
from tests.helpers import tiny_dataset as scenes
from tests.helpers.written_files import writes

BAD = {
    "/etc/x": "begins at the file system's root",
    "../x": "leaves its folder",
    "a/../../x": "leaves its folder",
    "..": "leaves its folder",
    ".": "has an empty part",
    "a//b": "has an empty part",
    "a/./b": "has an empty part",
    "a/": "has an empty part",
    "a\0b": "control character",
    "a\tb": "it holds a tab, as between columns",
    "a\u202eb": "control character",
    "a\x1b[2Jb": "control character",
    "a\x85b": "control character",
    "a\u2028b": "control character",
    "a\udce4b": "no UTF-8",
}
GOOD = ("a", "a/b", "...", "a..b", "größe, 猫", ".a", "a b", "-a", "~", "a\\b", "$x", "<b>")


@pytest.mark.parametrize(("name", "why"), BAD.items())
def test_names_that_lead_elsewhere_are_unfit(name, why):
    assert why in unfit(name)


@pytest.mark.parametrize("name", GOOD)
def test_all_others_fit(name):
    assert unfit(name) == ""


@pytest.mark.parametrize("name", [n for n in BAD if "\udce4" not in n])
def test_a_list_with_such_a_name_is_refused(dataset_root, name):
    (dataset_root / "ImageSets/Segmentation/train.txt").write_text(f"t0\n{name}\n")
    dataset = open_dataset({"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}})
    if name.strip() != name:
        pytest.skip("spaces around a name are taken off")
    with pytest.raises(InputError) as refused:
        dataset.names("train")
    line = str(refused.value)
    assert f"{dataset_root}: the train images hold the name " in line
    assert line.isprintable()


def folder_dataset(root, names):
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(root / "images" / f"{name}.jpg")
        Image.new("L", (8, 8)).save(root / "labels" / f"{name}.png")
    settings = {"name": "x", "root": str(root), "layout": {"part": "folder"}, "classes": ["b", "c"]}
    return open_dataset(settings)


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\udce4b"])
def test_a_file_of_such_a_name_in_a_folder_is_refused(tmp_path, name):
    dataset = folder_dataset(tmp_path / "x", ["p", "q", "r", name])
    with pytest.raises(InputError, match="control character or is no UTF-8"):
        [dataset.names(part) for part in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *(
            (line, f"names {line!r}, and there is an image 't0': write one name a line, without fo")
            for line in (
                "t0.jpg",
                "t0.png",
                "t0 1",
                "t0,-1,x",
                "t0.jpg,t0.png",
                "JPEGImages/t0.jpg",
            )
        ),
        ("name", "label image */name.png does not exist: put it there or take its name off"),
    ],
)
def test_a_line_that_is_no_name_is_told_by_what_it_is(dataset_root, line, words):
    (dataset_root / "ImageSets/Segmentation/train.txt").write_text(f"{line}\nt1\n")
    dataset = open_dataset({"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}})
    with pytest.raises(InputError) as refused:
        build_index(dataset, lambda items, _: items)
    for part in words.split("*"):
        assert part in str(refused.value)


@pytest.mark.parametrize("alike", ["T0.PNG", "t\u200b0.png", "\uff54\uff10.png"])
def test_a_file_that_is_there_by_another_name_is_told(dataset_root, alike):
    dataset = open_dataset({"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}})
    path = dataset.label_path("t0")
    path.rename(path.with_name(alike))
    with pytest.raises(InputError) as refused:
        dataset.label("t0")
    line = str(refused.value)
    assert "t0.png does not exist: put it there or take its name off the list; where" in line
    assert f" {alike!a} beside it is another name: case, accents or unseen characters dif" in line


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_pairs_of_paths_may_stand_apart_as_they_like(tmp_path, space):
    (tmp_path / "list.txt").write_text(f"/JPEGImages/a.jpg{space}/SegmentationClass/a.png\r\nb\n")
    assert read_names(tmp_path / "list.txt") == ["a", "b"]


@pytest.mark.parametrize("name", ["/abs/x", "../../y", "a\0b"])
class TestWhatStagesWroteAndSomebodyChanged:
    def test_a_list_of_a_step(self, tmp_path, name):
        path = tmp_path / "train.json"
        ImageList(
            "step0", 0, ClassTable.of([["b", "c"]], [[0, 1]]), [1], [["t0", ""], [name, ""]]
        ).write(path)
        with pytest.raises(InputError, match=r"train\.json is damaged: run `dvc repro -f split`"):
            ImageList.read(path)

    def test_an_index(self, tmp_path, name):
        path = tmp_path / "index.csv"
        write_index(path, [Entry(name, ("train",), "x", 1, 1, 0, (1,))], ["b"])
        with pytest.raises(
            InputError, match=r"index\.csv is damaged \(it names .*: run `dvc repro -f index"
        ):
            read_index(path)


@pytest.mark.parametrize("name", ["a b", "../x", "/x", "", "a/b", "ü"])
def test_names_of_steps_become_folders_too(project, name):
    classes = project.params["scenario"]["classes"]
    project.set("scenario.classes", {**classes, name: ["yellow"]})
    steps = project.params["steps"]
    project.set("steps", {**steps, name: steps["step2"]})
    line = project.run("check").refusal()
    assert "`scenario.classes` has a step " in line
    assert not (project.folder / "work").exists()


def test_a_list_does_not_overwrite_the_dataset(project, tmp_path):
    """As `stages.pseudo_label` would by OUT / "/abs/x.png"."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        content = (project.root / folder / f"t0.{suffix}").read_bytes()
        (mine / f"x.{suffix}").write_bytes(content)
    path = project.root / "ImageSets/Segmentation/train.txt"
    path.write_text(f"{path.read_text()}{mine / 'x'}\n")
    line = project.run("check").refusal()
    assert "begins at the file system's root" in line


MADE = (
    "method=ssul_m",
    "method.replay.size=3",
)
INVERTED = (
    "method=mib",
    "method/replay=deepinversion",
    "method.replay.per_class=1",
    "method.replay.agreement=0",
    "method.replay.inversion.phases=[[1, 2]]",
)


@pytest.mark.parametrize("overrides", [MADE, INVERTED], ids=["exemplars", "inversion"])
@pytest.mark.slow
def test_no_stage_writes_outside_of_its_folders(
    tmp_path, dataset_root, monkeypatch, project, overrides
):
    folder = tmp_path / "watched"
    folder.mkdir()
    monkeypatch.chdir(folder)
    watched = scenes.Project(folder, dataset_root, *overrides)
    stages = [s for s in scenes.EVERY_STAGE if "step2" not in s and s != "report"]
    assert watched.run(*scenes.BEFORE_TRAINING).status == 0  # imports, with what they may cache
    with writes() as noted:
        assert watched.run(*stages).status == 0
        out = scenes.run_module(
            "stages.predict",
            "work/step1/model.safetensors",
            str(dataset_root / "JPEGImages"),
            "--out",
            "work/labelled",
        )
        assert out.status == 0, out
    inside = [folder / "work", folder / ".cssegcore"]
    outside = {
        path
        for path in noted
        if not any(path == place or place in path.parents for place in inside)
        and path.parts[1] not in ("dev", "proc")
        and not path.name.startswith("torchinductor_")  # PyTorch makes it when parts are imported
    }
    assert outside == set()
    assert len(noted) > 100
    names = {path.relative_to(folder / "work").parts[:2] for path in noted if "work" in path.parts}
    assert {("step1", "pseudo_labels"), ("step1", "memory"), ("step1", "synthesis")} <= names
    assert json.loads((folder / "work/step1/pseudo_labels/manifest.json").read_text())


def test_the_watch_sees_what_is_written(tmp_path):
    with writes() as noted:
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").rename(tmp_path / "b")
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "c.png")
        (tmp_path / "b").read_text()
        (tmp_path / "b").unlink()
        (tmp_path / "d").mkdir()
        (tmp_path / "d/e").touch()
        shutil.rmtree(tmp_path / "d")  # which names files below an open folder
    assert {str(path.relative_to(tmp_path)) for path in noted} == {"a", "b", "c.png", "d", "d/e"}
