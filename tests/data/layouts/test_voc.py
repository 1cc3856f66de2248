import shutil

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers.laid_out_datasets import conf, put

NAMES = {"train": ["2007_000032", "2008_000015"], "val": ["2007_000033"]}


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


def test_datasets_without_domains_have_one(tmp_path):
    dataset = open_dataset(conf("voc", make_voc(tmp_path, *FORMS["plain"])))
    assert dataset.domain("2007_000032") == ""
