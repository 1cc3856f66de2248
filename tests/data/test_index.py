import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index, read_index, write_index
from tests.helpers import tiny_dataset as scenes

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
    photographs = {e.name: e.photograph for e in build_index(dataset, quiet)}
    before = {e.name: e.digest for e in build_index(dataset, quiet)}
    assert len({before[f"t{i}"] for i in range(8)}) == 8
    Image.new("RGB", (24, 24)).save(dataset.photograph_path("t2"))
    Image.new("L", (24, 24), 1).save(dataset.label_path("v1"))
    entries = build_index(dataset, quiet)
    assert {e.name for e in entries if before[e.name] != e.digest} == {"t2", "v1"}
    assert {e.name for e in entries if photographs[e.name] != e.photograph} == {"t2"}
    content = dataset.photograph_path("t2").read_bytes()
    assert {e.name: e.photograph for e in entries}["t2"] == digest(content)


def test_a_table_of_before_is_asked_for_again(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text("name,parts,domain,digest,height,width,void,red\n")
    with pytest.raises(
        InputError, match=r"\(its first line is another\): run `dvc repro -f index`"
    ):
        read_index(path)


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


@pytest.mark.parametrize(
    "text", [b"t1\r\n\r\nt0", b"t1\nt0\n", b"\xef\xbb\xbft1\r\nt0\r\n", b" t1 \n\tt0"]
)
def test_list_files_may_have_blank_lines_crlf_a_bom_and_spaces(dataset_root, text):
    path = dataset_root / "ImageSets/Segmentation/train.txt"
    path.write_bytes(text)
    assert open_dataset(settings(dataset_root)).names("train") == ["t1", "t0"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text("\n"), "is empty"),
        (lambda path: path.write_text("t0\nt1\nt0\n"), "names 't0' twice"),
        (lambda path: [path.unlink(), path.mkdir()], "cannot be read .it is no regular file"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8"),
    ],
    ids=["empty", "twice", "folder", "encoding"],
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
    words = r"valannot/one\.png holds the value 5, .* are 0 to 2 \(pole\), void is 11, 255: fix"
    with pytest.raises(InputError, match=words):
        build_index(open_dataset(camvid_settings(camvid)), quiet)


def test_every_image_is_opened_once_and_nothing_is_decoded_for_it_alone(dataset_root, monkeypatch):
    """What a photograph holds is read for its digest and its check at the same time."""
    opened = Counter()
    read = type(dataset_root).read_bytes

    def counted(path):
        opened[path.name] += 1
        return read(path)

    monkeypatch.setattr(type(dataset_root), "read_bytes", counted)
    build_index(open_dataset(settings(dataset_root)), quiet)
    assert set(opened.values()) == {1}
    assert {name for name in opened if name.endswith(("jpg", "png"))} == {
        f"{entry}.{suffix}" for entry in names() for suffix in ("jpg", "png")
    }


def names():
    train = [f"t{i}" for i in range(len(scenes.train_images(4)))]
    return [*train, *(f"v{i}" for i in range(len(scenes.val_images(4))))]


def noise(size=(61, 47)):
    rng = np.random.default_rng(2)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_photograph_is_checked_to_its_end(dataset_root, kind, progressive):
    dataset = open_dataset(settings(dataset_root))
    path = dataset.photograph_path("t0")
    if kind == "JPEG":
        noise().save(path, kind, progressive=progressive)
    else:
        noise().save(path, kind)
    whole = path.read_bytes()
    assert dataset.check_photograph("t0") == (whole, (47, 61))
    for kept in (len(whole) - 60, len(whole) * 9 // 10, len(whole) // 2, 100, 3, 0):
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=rf"photograph {path} cannot be read \([^\n]*\): rep"):
            dataset.check_photograph("t0")


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA"])
def test_photographs_of_every_mode_are_measured(dataset_root, mode):
    dataset = open_dataset(settings(dataset_root))
    path = dataset.photograph_path("t0")
    noise((30, 20)).convert(mode).save(path, "JPEG" if mode in ("L", "CMYK") else "PNG")
    assert dataset.check_photograph("t0")[1] == dataset.photograph("t0").shape[:2] == (20, 30)


def test_names_and_folders_may_be_in_any_script(tmp_path, dataset_root):
    before = {e.name: e.digest for e in build_index(open_dataset(settings(dataset_root)), quiet)}
    root = dataset_root.rename(tmp_path / "Bücher 数据")
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (root / folder / f"t0.{suffix}").rename(root / folder / f"größe, 猫.{suffix}")
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_text(path.read_text().replace("t0", "größe, 猫"), encoding="utf-8")
    dataset = open_dataset(settings(root))
    entries = build_index(dataset, quiet)
    assert [e.digest for e in entries] == list(before.values())
    write_index(tmp_path / "index.csv", entries, dataset.classes)
    again = read_index(tmp_path / "index.csv")[0]
    assert again == entries
    assert again[0].name == "größe, 猫"


def test_nothing_is_written_into_a_dataset(dataset_root):
    def state():
        return {path: path.stat().st_mtime_ns for path in dataset_root.rglob("*")}

    before = state()
    for path in (dataset_root, *dataset_root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(build_index(open_dataset(settings(dataset_root)), quiet)) == len(names())
    finally:
        for path in (dataset_root, *dataset_root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert state() == before


def test_counts_are_those_of_the_labels(camvid):
    dataset = open_dataset(camvid_settings(camvid))
    content, shape, counts = dataset.count_labels("train/one")
    assert content == dataset.label_path("train/one").read_bytes()
    assert shape == (2, 3)
    assert {raw: n for raw, n in enumerate(counts.tolist()) if n} == {1: 2, 2: 1, 3: 1, 255: 2}


@pytest.mark.parametrize(("first", "hint"), [("background", False), ("cow", True)])
def test_a_class_table_without_background_is_named_where_a_value_is_one_too_many(
    first, hint, tmp_path
):
    """Another name at its end would shift every class by one, without a word."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.full((4, 4), 3, np.uint8)).save(tmp_path / "labels" / "a.png")
    scenes.write_lines(tmp_path / "classes.txt", [first, "horse", "sheep"])
    layout = {"part": "folder"}
    dataset = open_dataset({"name": "mine", "root": str(tmp_path), "layout": layout})
    with pytest.raises(InputError, match="holds the value 3") as refused:
        dataset.count_labels("a")
    assert ("cow is 0, the background: if it is 1, put one" in str(refused.value)) == hint
