import hashlib
import itertools
import shutil

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers.laid_out_datasets import conf, put


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
