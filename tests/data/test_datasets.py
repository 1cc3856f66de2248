"""Datasets as they are published, and one's own: where files lie and what labels mean."""

import hashlib
import itertools
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers import tiny_dataset as scenes
from tests.helpers.shared_data import SHARED

NAMES = {"train": ["2007_000032", "2008_000015"], "val": ["2007_000033"]}


def put(path, content="L"):
    """Writes an image of 4x3 pixels, or the lines of a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        Image.new(content, (4, 3), 1 if content == "L" else None).save(path)
    else:
        scenes.write_lines(path, content)


def conf(name, root):
    path = scenes.HOME / "conf" / "dataset" / f"{name}.yaml"
    return yaml.safe_load(path.read_text()) | {"root": str(root)}


def make_voc(root, photographs, labels, lists, pairs=False, lead="/"):
    """Lays out VOC; the labels' folder and the lists are those of the augmented set."""
    for part, names in NAMES.items():
        for name in names:
            put(root / photographs / "JPEGImages" / f"{name}.jpg", "RGB")
            put(root / labels / "SegmentationClassAug" / f"{name}.png")
        line = "{1}JPEGImages/{0}.jpg {1}SegmentationClassAug/{0}.png" if pairs else "{0}"
        stem = {"train": "train_aug", "val": "val"}[part]
        put(root / lists / f"{stem}.txt", [line.format(name, lead) for name in names])
    return root


FORMS = {
    "plain": ("", "", "ImageSets/Segmentation"),
    "MiB": ("PascalVOC12", "PascalVOC12", "PascalVOC12/splits", True),
    "MiB's own folder": ("", "", "splits", True),
    "MiB without slashes": ("", "", "splits", True, ""),
    "torchvision": (
        "VOCdevkit/VOC2012",
        "VOCdevkit/VOC2012",
        "VOCdevkit/VOC2012/ImageSets/Segmentation",
    ),
    "PLOP": ("VOCdevkit/VOC2012", "", "list", True),
    "PLOP by name": ("VOCdevkit/VOC2012", "", "list"),
}


def inside(path, root):
    return path.relative_to(root).as_posix()


class TestVoc:
    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_published_arrangements_are_recognised(self, tmp_path, form):
        dataset = open_dataset(conf("voc", make_voc(tmp_path, *form)))
        assert {part: dataset.names(part) for part in NAMES} == NAMES
        assert dataset.names("test") == NAMES["val"]
        folders = [f"{folder}/".lstrip("/") for folder in form[:2]]
        name = "2007_000032"
        photograph, label = dataset.photograph_path(name), dataset.label_path(name)
        assert inside(photograph, tmp_path) == f"{folders[0]}JPEGImages/{name}.jpg"
        assert inside(label, tmp_path) == f"{folders[1]}SegmentationClassAug/{name}.png"
        saliency = dataset.layout.saliency(tmp_path, name)
        assert inside(saliency, tmp_path) == f"{folders[0]}saliency_map/{name}.png"
        assert [e.name for e in build_index(dataset, lambda items, _: items)] == [
            *NAMES["train"],
            *NAMES["val"],
        ]

    def test_the_first_complete_arrangement_is_taken(self, tmp_path):
        for form in FORMS.values():
            make_voc(tmp_path, *form)
        first = open_dataset(conf("voc", tmp_path))
        assert inside(first.photograph_path("x"), tmp_path) == "JPEGImages/x.jpg"
        (tmp_path / "ImageSets/Segmentation/val.txt").unlink()
        shutil.rmtree(tmp_path / "splits")
        then = open_dataset(conf("voc", tmp_path))
        assert inside(then.photograph_path("x"), tmp_path) == "PascalVOC12/JPEGImages/x.jpg"

    def test_what_is_given_by_hand_comes_first(self, tmp_path):
        make_voc(tmp_path, "", "", "ImageSets/Segmentation")
        make_voc(tmp_path / "mine", "a", "b", "c")
        put(tmp_path / "mine" / "c" / "train_aug.txt", ["mine"])
        layout = {
            "part": "voc",
            "photographs": "mine/a/JPEGImages",
            "labels": str(tmp_path / "mine/b/SegmentationClassAug"),
            "lists": "mine/c",
            "train": "train_aug",
            "test": "train_aug",
        }
        dataset = open_dataset(conf("voc", tmp_path) | {"layout": layout})
        assert dataset.names("test") == ["mine"]
        assert inside(dataset.photograph_path("x"), tmp_path) == "mine/a/JPEGImages/x.jpg"
        assert inside(dataset.label_path("x"), tmp_path) == "mine/b/SegmentationClassAug/x.png"

    def test_where_nothing_is_complete_every_place_is_named(self, tmp_path):
        make_voc(tmp_path, "VOCdevkit/VOC2012", "", "VOCdevkit/VOC2012/ImageSets/Segmentation")
        with pytest.raises(InputError) as refused:
            open_dataset(conf("voc", tmp_path))
        line = str(refused.value)
        assert "\n" not in line
        # nearest: torchvision's with one folder missing
        assert f"the folder {tmp_path} holds no complete arrangement" in line
        assert "put VOCdevkit/VOC2012/SegmentationClassAug there. Looked for: JPEGImages, " in line
        for place in (
            "ImageSets/Segmentation/train_aug.txt",
            "splits/val.txt; or PascalVOC12/JPEGImages, PascalVOC12/SegmentationClassAug, Pascal",
            "; or VOCdevkit/VOC2012/JPEGImages, SegmentationClassAug, list/train_aug.txt, list/val",
        ):
            assert place in line

    def test_a_pair_of_two_names_is_refused(self, tmp_path):
        make_voc(tmp_path, *FORMS["MiB"])
        path = tmp_path / "PascalVOC12/splits/val.txt"
        path.write_text("/JPEGImages/a.jpg /SegmentationClassAug/b.png\n")
        with pytest.raises(InputError, match=rf"the list {path} pairs 'a' with 'b': a photograph"):
            open_dataset(conf("voc", tmp_path)).names("val")

    def test_names_may_hold_spaces_and_dots(self, tmp_path):
        make_voc(tmp_path, *FORMS["plain"])
        path = tmp_path / "ImageSets/Segmentation/val.txt"
        path.write_text("a b\nc.d\ne.jpg f\n")
        assert open_dataset(conf("voc", tmp_path)).names("val") == ["a b", "c.d", "e.jpg f"]


LABEL_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}


@pytest.fixture
def cityscapes(tmp_path):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for place in ("train/ulm/ulm_000001_000019", "train/aachen/aachen_000002_000019"):
        put_city(tmp_path, place, stored)
    put_city(tmp_path, "train/aachen/aachen_000000_000019", stored)
    put_city(tmp_path, "val/lindau/lindau_000000_000019", stored)
    put(tmp_path / "leftImg8bit/train/ulm/notes.png", "RGB")
    return tmp_path


def put_city(root, name, stored):
    photograph = root / "leftImg8bit" / f"{name}_leftImg8bit.png"
    label = root / "gtFine" / f"{name}_gtFine_labelIds.png"
    for path in (photograph, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).convert("RGB").save(photograph)
    Image.fromarray(stored).save(label)


class TestCityscapes:
    def test_names_and_cities(self, cityscapes):
        dataset = open_dataset(conf("cityscapes", cityscapes))
        assert dataset.names("train") == [
            "train/aachen/aachen_000000_000019",
            "train/aachen/aachen_000002_000019",
            "train/ulm/ulm_000001_000019",
        ]
        assert dataset.names("val") == ["val/lindau/lindau_000000_000019"]
        assert dataset.names("test") == dataset.names("val")
        assert list(map(dataset.domain, dataset.names("train"))) == ["aachen", "aachen", "ulm"]

    def test_labels(self, cityscapes):
        dataset = open_dataset(conf("cityscapes", cityscapes))
        labels = dataset.label("train/ulm/ulm_000001_000019").ravel()
        found = {dataset.classes[raw]: at for at, raw in enumerate(labels.tolist()) if raw < 255}
        assert found == LABEL_IDS
        assert list(LABEL_IDS) == list(dataset.classes[1:])
        assert (labels == 255).sum() == 256 - 19
        entry = build_index(dataset, lambda items, _: items)[0]
        assert (entry.pixels, entry.void) == ((0, *[1] * 19), 237)

    @pytest.mark.parametrize(("name", "base"), [("17-2", 17), ("13-6", 13)])
    def test_scenarios(self, name, base):
        params = scenes.composed(f"scenario=cityscapes/{name}")
        steps = params["scenario"]["classes"]
        assert [len(names) for names in steps.values()] == [base, 19 - base]
        assert steps["step0"] + steps["step1"] == list(LABEL_IDS)
        assert params["dataset"]["name"] == "cityscapes"
        assert [(s["epochs"], s["lr"]) for s in params["steps"].values()] == [
            (50, 1e-2),
            (50, 1e-3),
        ]

    def test_a_folder_without_photographs_is_named(self, cityscapes):
        shutil.rmtree(cityscapes / "leftImg8bit" / "val")
        dataset = open_dataset(conf("cityscapes", cityscapes))
        with pytest.raises(InputError, match=r"leftImg8bit/val holds no photograph \(CITY/NAME_"):
            dataset.names("val")


def test_datasets_without_domains_have_one(tmp_path):
    dataset = open_dataset(conf("voc", make_voc(tmp_path, *FORMS["plain"])))
    assert dataset.domain("2007_000032") == ""


def make_folder(root, names, suffix=".jpg"):
    for name in names:
        put(root / "images" / f"{name}{suffix}", "RGB")
        put(root / "labels" / f"{name}.png")
    put(root / "classes.txt", ["nothing", "thing"])
    return root


def parts(root):
    dataset = open_dataset(conf("folder", root))
    return {part: dataset.names(part) for part in ("train", "val", "test")}


class TestFolder:
    def test_suffixes_may_be_mixed(self, tmp_path):
        for name, suffix in (("a", ".jpg"), ("b.c", ".jpeg"), ("d", ".png"), ("E", ".JPG")):
            make_folder(tmp_path, [name], suffix)
        (tmp_path / "images" / "._a.jpg").write_text("of the system")
        (tmp_path / "images" / "notes.txt").write_text("mine")
        dataset = open_dataset(conf("folder", tmp_path))
        entries = build_index(dataset, lambda items, _: items)
        assert sorted(e.name for e in entries) == ["E", "a", "b.c", "d"]
        assert all(e.pixels == (0, 12) for e in entries)
        assert dataset.classes == ("nothing", "thing")

    def test_endings_of_labels_may_be_in_capitals(self, tmp_path):
        make_folder(tmp_path, ["a", "b", "c"])
        (tmp_path / "labels/b.png").rename(tmp_path / "labels/b.PNG")
        (tmp_path / "train.txt").write_text("a\nb\n")
        (tmp_path / "test.txt").write_text("c\n")
        dataset = open_dataset(conf("folder", tmp_path))
        entries = build_index(dataset, lambda items, _: items)
        assert sorted(e.name for e in entries) == ["a", "b", "c"]
        put(tmp_path / "labels/b.png")
        with pytest.raises(InputError, match="holds two label images 'b'"):
            dataset.names("train")

    def test_images_may_lie_in_folders(self, tmp_path):
        make_folder(tmp_path, ["a", "june/a", "june/late/b"])
        put(tmp_path / "images" / ".cache" / "c.jpg", "RGB")
        dataset = open_dataset(conf("folder", tmp_path))
        names = ("train", "val", "test")
        assert sorted(itertools.chain(*map(dataset.names, names))) == ["a", "june/a", "june/late/b"]
        assert dataset.photograph_path("june/a") == tmp_path / "images/june/a.jpg"
        assert dataset.label("june/late/b").shape == (3, 4)

    def test_without_lists_names_draw_their_parts(self, tmp_path):
        names = [f"image {i}" for i in range(57)]
        found = parts(make_folder(tmp_path, names))
        numbers = {n: int(hashlib.sha256(n.encode()).hexdigest()[:16], 16) / 2**64 for n in names}
        assert found["test"] == sorted(n for n in names if numbers[n] < 0.1)
        assert found["val"] == sorted(n for n in names if 0.1 <= numbers[n] < 0.2)
        assert sorted(itertools.chain(*found.values())) == sorted(names)
        assert not {*found["test"]} <= {*sorted(names)[:20]}  # not by the alphabet

    def test_images_that_come_later_move_no_other(self, tmp_path):
        names = [f"image {i}" for i in range(40)]
        before = parts(make_folder(tmp_path / "one", names))
        more = [*(f"june/{i}" for i in range(25)), *reversed(names)]
        after = parts(make_folder(tmp_path / "two", more, ".png"))
        for part, of in before.items():
            assert [name for name in after[part] if name in names] == of
        assert any(name not in names for name in after["test"])

    def test_too_few_images_to_test_on_are_refused(self, tmp_path):
        assert parts(make_folder(tmp_path, "abd")) == {
            "train": ["a", "b"],
            "val": [],
            "test": ["d"],
        }
        for folder, suffix in (("images", "jpg"), ("labels", "png")):
            (tmp_path / folder / f"d.{suffix}").unlink()
        with pytest.raises(InputError, match="has 2 images, too few to draw some to test by"):
            parts(tmp_path)

    @pytest.mark.parametrize("given", ["val", "test"])
    def test_lists(self, tmp_path, given):
        make_folder(tmp_path, "abcdef")
        put(tmp_path / "train.txt", ["c", "a"])
        put(tmp_path / f"{given}.txt", ["b"])
        assert parts(tmp_path) == {"train": ["c", "a"], "val": ["b"], "test": ["b"]}

    def test_three_lists(self, tmp_path):
        make_folder(tmp_path, "abcdef")
        given = {"train": ["c", "a"], "val": ["f"], "test": ["b"]}
        for part, names in given.items():
            put(tmp_path / f"{part}.txt", names)
        assert parts(tmp_path) == given

    def test_a_list_for_training_alone_is_too_few(self, tmp_path):
        put(make_folder(tmp_path, "abc") / "train.txt", ["a"])
        with pytest.raises(InputError, match=r"test\.txt cannot be read \(No such file"):
            parts(tmp_path)

    def test_a_label_without_photograph_is_refused(self, tmp_path):
        put(make_folder(tmp_path, "abc") / "labels" / "d.png")
        with pytest.raises(InputError, match=r"labels/d\.png has no photograph: put d\.jpg or d\."):
            parts(tmp_path)

    def test_a_photograph_without_label_is_refused_by_the_index(self, tmp_path):
        put(make_folder(tmp_path, "abc") / "images" / "d.jpg", "RGB")
        dataset = open_dataset(conf("folder", tmp_path))
        with pytest.raises(InputError, match=r"label image .*labels/d\.png does not exist"):
            build_index(dataset, lambda items, _: items)

    def test_two_photographs_of_a_name_are_refused(self, tmp_path):
        put(make_folder(tmp_path, "abc") / "images" / "b.png", "RGB")
        with pytest.raises(InputError, match=r"images holds two photographs of the name 'b': ren"):
            parts(tmp_path)

    @pytest.mark.parametrize("folder", ["images", "labels"])
    def test_a_missing_or_empty_folder_is_named(self, tmp_path, folder):
        shutil.rmtree(make_folder(tmp_path, "abc") / folder)
        with pytest.raises(InputError, match=rf"{folder} cannot be listed \(No such file"):
            parts(tmp_path)
        (tmp_path / folder).mkdir()
        with pytest.raises(InputError, match=rf"{folder} holds no image \(NAME\."):
            parts(tmp_path)


class TestCamvid:
    def make(self, root, suffix):
        for part in ("train", "val", "test"):
            put(root / part / f"a{suffix}", "RGB")
            put(root / f"{part}annot" / "a.png")
            put(
                root / f"{part}.txt",
                [f"/SegNet/CamVid/{part}/a.png /SegNet/CamVid/{part}annot/a.png"],
            )
        return open_dataset(conf("camvid", root))

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_the_tutorial_s_own_lists_and_photographs(self, tmp_path, suffix):
        dataset = self.make(tmp_path, suffix)
        assert dataset.names("val") == ["val/a"]
        entries = build_index(dataset, lambda items, _: items)
        assert [(e.name, e.pixels[2]) for e in entries] == [
            ("train/a", 12),
            ("val/a", 12),
            ("test/a", 12),
        ]

    def test_the_real_one(self):
        if not (SHARED / "data" / "camvid").is_dir():
            pytest.skip(
                "CamVid is not there; point CSSEGCORE_SHARED to the folder with data/camvid"
            )
        dataset = open_dataset(conf("camvid", SHARED / "data" / "camvid"))
        assert [len(dataset.names(part)) for part in ("train", "val", "test")] == [367, 101, 233]


@pytest.mark.parametrize("above", ["", "ADEChallengeData2016"])
def test_ade_may_lie_in_the_folder_of_its_archive(tmp_path, above):
    for folder in ("training", "validation"):
        put(tmp_path / above / "images" / folder / "a.jpg", "RGB")
        put(tmp_path / above / "annotations" / folder / "a.png")
    dataset = open_dataset(conf("ade", tmp_path))
    entries = build_index(dataset, lambda items, _: items)
    assert [(e.name, e.parts) for e in entries] == [
        ("training/a", ("train",)),
        ("validation/a", ("val", "test")),
    ]
