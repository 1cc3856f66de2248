import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index, read_index, write_index
from cssegcore.errors import InputError
from tests import scenes

CAMVID = ("background", "sky", "building", "pole")


def quiet(items, total):
    return items


def settings(root, **changed):
    return {"name": "tiny", "root": str(root), "layout": {"part": "voc"}} | changed


def test_the_index_counts_every_pixel(dataset_root):
    entries = build_index(open_dataset(settings(dataset_root)), quiet)
    shown = {f"t{i}": k for i, k in enumerate(scenes.train_images(4))}
    shown |= {f"v{i}": k for i, k in enumerate(scenes.val_images(4))}
    assert [e.name for e in entries] == list(shown)
    for entry in entries:
        _, labels = scenes.draw(shown[entry.name], 4)
        counts = Counter(labels.ravel().tolist())
        assert entry.pixels == tuple(counts[k] for k in range(5))
        assert entry.void == counts[255]
        assert (entry.height, entry.width) == labels.shape
        assert entry.present == {0, *shown[entry.name]}
        assert entry.parts == (("train",) if entry.name[0] == "t" else ("val", "test"))


def test_the_table_reads_back_and_is_what_a_spreadsheet_reads(dataset_root, tmp_path):
    dataset = open_dataset(settings(dataset_root))
    entries = build_index(dataset, quiet)
    write_index(tmp_path / "index.csv", entries, dataset.classes)
    assert read_index(tmp_path / "index.csv") == (entries, dataset.classes)
    with (tmp_path / "index.csv").open() as lines:
        first = next(csv.DictReader(lines))
    assert (first["name"], first["red"], first["green"]) == ("t0", "64", "0")


def test_a_changed_photograph_or_label_changes_its_digest_alone(dataset_root):
    dataset = open_dataset(settings(dataset_root))
    before = {e.name: e.digest for e in build_index(dataset, quiet)}
    assert len({before[f"t{i}"] for i in range(8)}) == 8
    Image.new("RGB", (24, 24)).save(dataset.photograph_path("t2"))
    Image.new("L", (24, 24), 1).save(dataset.label_path("v1"))
    after = {e.name: e.digest for e in build_index(dataset, quiet)}
    assert {name for name in before if before[name] != after[name]} == {"t2", "v1"}


def test_palette_and_grey_label_images_read_alike(dataset_root):
    dataset = open_dataset(settings(dataset_root))
    grey = dataset.label("t6")
    image = Image.fromarray(grey).convert("P")
    image.putpalette(bytes(range(256)) * 3)
    image.save(dataset.label_path("t6"))
    assert np.array_equal(dataset.label("t6"), grey)


def test_grey_photographs_become_rgb(dataset_root):
    dataset = open_dataset(settings(dataset_root))
    Image.new("L", (30, 20), 7).save(dataset.photograph_path("t0"))
    assert np.array_equal(dataset.photograph("t0"), np.full((20, 30, 3), 7))


def test_list_files_may_have_blank_lines_and_crlf(dataset_root):
    path = dataset_root / "ImageSets/Segmentation/train.txt"
    path.write_bytes(b"t1\r\n\r\nt0")
    assert open_dataset(settings(dataset_root)).names("train") == ["t1", "t0"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text("\n"), "is empty"),
        (lambda path: path.write_text("t0\nt1\nt0\n"), "names 't0' twice"),
        (lambda path: path.unlink(), "cannot be read .No such file"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8"),
    ],
    ids=["empty", "twice", "missing", "encoding"],
)
def test_a_wrong_list_file_is_named(dataset_root, spoil, words):
    path = dataset_root / "ImageSets/Segmentation/train.txt"
    spoil(path)
    with pytest.raises(InputError, match=f"the list {path} {words}"):
        build_index(open_dataset(settings(dataset_root)), quiet)


def test_a_dataset_without_a_class_table_says_where_one_goes(dataset_root):
    (dataset_root / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"`dataset\.classes` .*classes\.txt does not exist: name"):
        open_dataset(settings(dataset_root))
    named = open_dataset(settings(dataset_root, classes=["none", "a", "b", "c", "d"]))
    assert named.classes == ("none", "a", "b", "c", "d")


@pytest.mark.parametrize("classes", [["background"], ["background", "a", "a"], ["x"] * 256])
def test_a_senseless_class_table_is_refused(dataset_root, classes):
    with pytest.raises(InputError, match=r"must hold 2 to 255 different names"):
        open_dataset(settings(dataset_root, classes=classes))


@pytest.fixture
def camvid(tmp_path):
    """Two images in CamVid's layout, whose stored labels start at 0 with the first class."""
    stored = np.array([[0, 1, 2], [11, 255, 0]], np.uint8)
    for part in ("train", "val", "test"):
        scenes.write_lines(tmp_path / f"{part}.txt", ["one"])
        for folder in (part, f"{part}annot"):
            (tmp_path / folder).mkdir()
        Image.new("RGB", (3, 2)).save(tmp_path / part / "one.jpg")
        Image.fromarray(stored).save(tmp_path / f"{part}annot" / "one.png")
    return tmp_path


def camvid_settings(root):
    return settings(root, layout={"part": "camvid"}, classes=CAMVID)


def test_camvid_s_labels_make_room_for_the_background(camvid):
    dataset = open_dataset(camvid_settings(camvid))
    assert dataset.label("train/one").tolist() == [[1, 2, 3], [255, 255, 1]]
    entries = build_index(dataset, quiet)
    assert [(e.name, e.parts) for e in entries] == [
        ("train/one", ("train",)),
        ("val/one", ("val",)),
        ("test/one", ("test",)),
    ]


def test_an_unknown_label_is_named_as_it_is_stored(camvid):
    Image.fromarray(np.full((2, 3), 5, np.uint8)).save(camvid / "valannot" / "one.png")
    words = r"valannot/one\.png holds the value 5, .* are 0 to 2 \(pole\), void is 11, 255: mend"
    with pytest.raises(InputError, match=words):
        build_index(open_dataset(camvid_settings(camvid)), quiet)
