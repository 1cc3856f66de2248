"""Every form of labels, drawn small, becomes the same dataset; what cannot be read is refused."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from cssegcore.data.dataset import open_dataset
from cssegcore.data.layouts.folder import Folder
from tests.helpers.shared_data import data
from tests.helpers.tiny_dataset import run_module

HEIGHT, WIDTH = 16, 20
CAT, DOG = (128, 0, 0), (0, 128, 0)
STRANGE = ("c\x1bt", "c\tt", "c\0t", "c\u2028t", "c\rat", " cat ", "", "c\ud800t")
"""Names that no class of a dataset may have."""


def truth():
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[2:8, 3:9] = 1
    labels[6:12, 7:17] = 2
    return labels


def photograph(path, exif=None, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), np.uint8)
    tag = Image.Exif()
    if exif:
        tag[0x0112] = exif
    Image.fromarray(pixels).save(path, exif=tag)
    return path


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def coloured(labels):
    return np.array([(0, 0, 0), CAT, DOG], np.uint8)[labels]


def colours(root):
    for name in ("a", "june/b"):
        photograph(root / "photos" / f"{name}.jpg")
        save(coloured(truth()), root / "masks" / f"{name}.png")
    (root / "table.csv").write_text("name,red,green,blue\ncat,128,0,0\ndog,#008000\n")
    words = ["--photographs", root / "photos", "--table", root / "table.csv"]
    return "colours", root / "masks", words


def coco(root):
    for name in ("a", "june/b"):
        photograph(root / "photos" / f"{name}.jpg")
    dog = np.zeros((HEIGHT, WIDTH), int)
    dog[6:12, 7:17] = 1
    flat = dog.T.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    runs = [int(n) for n in np.diff(edges)]
    outline = [3, 2, 9, 2, 9, 8, 3, 8]
    images, annotations = [], []
    for at, name in enumerate(("a", "june/b")):
        file = f"{name}.jpg"
        images.append({"id": at, "file_name": file, "height": HEIGHT, "width": WIDTH})
        for category, region in (
            (3, [outline]),
            (7, {"size": [HEIGHT, WIDTH], "counts": runs}),
            (3, []),
        ):
            annotations.append({"image_id": at, "category_id": category, "segmentation": region})
    names = [{"id": 0, "name": "animals"}, {"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": names}
    (root / "labels.json").write_text(json.dumps(content))
    return "coco", root / "labels.json", ["--photographs", root / "photos"]


def labelme(root):
    inside = io.BytesIO()
    Image.fromarray(np.full((6, 10), 255, np.uint8)).save(inside, "PNG")
    mask = base64.b64encode(inside.getvalue()).decode()
    for name in ("a", "june/b"):
        path = photograph(root / f"{name}.jpg")
        shapes = [
            {"label": "cat", "shape_type": "rectangle", "points": [[3, 2], [9, 8]]},
            {"label": "dog", "shape_type": "mask", "points": [[7, 6], [16, 11]], "mask": mask},
            {"label": "dog", "shape_type": "point", "points": [[1, 1]]},
        ]
        content = {"imagePath": path.name, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        path.with_suffix(".json").write_text(json.dumps(content | {"shapes": shapes}))
    return "labelme", root, []


def cvat(root):
    for name in ("a", "june/b"):
        photograph(root / "JPEGImages" / f"{name}.jpg")
        save(coloured(truth()), root / "SegmentationClass" / f"{name}.png")
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "cat:128,0,0::"]
    (root / "labelmap.txt").write_text("\n".join([*lines, "dog:0,128,0::"]) + "\n")
    return "cvat", root, []


def roboflow(root):
    for part, name in (("train", "a"), ("valid", "june/b")):
        photograph(root / part / f"{name}.jpg")
        save(truth(), root / part / f"{name}_mask.png")
        (root / part / "_classes.csv").write_text(
            "Pixel Value, Class\n0, background\n1, cat\n2, dog\n"
        )
    return "roboflow", root, []


def voc(root):
    for name in ("a", "june/b"):
        photograph(root / "JPEGImages" / f"{name}.jpg")
        save(truth(), root / "SegmentationClass" / f"{name}.png")
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("june/b\n")
    return "voc", root, []


FORMS = {f.__name__: f for f in (colours, coco, labelme, cvat, roboflow, voc)}


def bring(form, labels, words, out):
    given = [form, str(labels), "--out", str(out), *map(str, words)]
    return run_module("stages.import_labels", *given)


def labels_of(out, name):
    with Image.open(out / "labels" / f"{name}.png") as image:
        return np.asarray(image)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_dataset(tmp_path, form):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    given = FORMS[form](source)
    done = bring(*given, out)
    assert (done.status, done.err) == (0, "")
    assert "2 images of 2 classes" in done.out
    assert (out / "classes.txt").read_text() == "background\ncat\ndog\n"
    for name in ("a", "june/b"):
        assert np.array_equal(labels_of(out, name), truth())
        (photo,) = source.rglob(f"{name.split('/')[-1]}.jpg")
        assert (out / "images" / f"{name}.jpg").read_bytes() == photo.read_bytes()
    if form in ("roboflow", "voc"):
        assert Folder().names(out, "train") == ["a"]
        assert Folder().names(out, "val") == Folder().names(out, "test") == ["june/b"]
    else:
        assert not (out / "train.txt").exists()
    if form == "coco":
        assert "2 annotations without an outline are left out" in done.out
        assert "categories without a region are left out: animals" in done.out
    if form == "labelme":
        assert "2 shapes without an area (point) are left out" in done.out

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert bring(*given, out).status == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_next_month_classes_keep_their_numbers(tmp_path):
    out = tmp_path / "out"
    bring(*colours(tmp_path / "march"), out)
    april = tmp_path / "april"
    photograph(april / "photos/c.jpg")
    save(coloured(truth()), april / "masks/c.png")
    (april / "table").write_text("sheep,128,0,0\ncat,0,128,0\nvoid,9,9,9\n")
    words = ["--photographs", april / "photos", "--table", april / "table"]
    assert bring("colours", april / "masks", words, out).status == 0
    assert (out / "classes.txt").read_text() == "background\ncat\ndog\nsheep\n"
    assert np.array_equal(labels_of(out, "c"), np.array([0, 3, 1], np.uint8)[truth()])
    assert np.array_equal(labels_of(out, "a"), truth())


def test_the_first_lists_of_a_folder_name_all_that_is_there(tmp_path):
    """Else what had no list, and belonged to the dataset, would be out of it without a word."""
    out = tmp_path / "out"
    assert bring(*colours(tmp_path / "march"), out).status == 0
    april = tmp_path / "april"
    form, root, words = roboflow(april)
    for path in [p for p in april.rglob("*") if p.is_file() and p.suffix != ".csv"]:
        path.rename(path.with_name(f"new_{path.name}"))
    line = bring(form, root, words, out).refusal()
    assert "its 2 other images (a, …) belong to the dataset" in line
    assert sorted(p.name for p in out.rglob("*.jpg")) == ["a.jpg", "b.jpg"]
    (out / "train.txt").write_text("a\njune/b\n")
    assert bring(form, root, words, out).status == 0
    assert (out / "train.txt").read_text() == "a\njune/b\nnew_a\n"


def test_a_name_that_is_taken_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    photograph(out / "images/june/b.jpg", size=(3, 3))
    assert "june/b.jpg is there already" in bring(*colours(tmp_path / "s"), out).refusal()
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["b.jpg"]


def test_a_table_without_the_background_is_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "classes.txt").write_text("cat\ndog\n")
    said = bring(*colours(tmp_path / "s"), out).refusal()
    assert f"the first line of {out / 'classes.txt'} is 'cat', and label 0 is the back" in said
    assert [path.name for path in out.rglob("*")] == ["classes.txt"]
    (out / "classes.txt").write_text("_background_\ndog\n")
    assert bring(*colours(tmp_path / "t"), out).status == 0
    assert (out / "classes.txt").read_text() == "_background_\ndog\ncat\n"
    assert np.array_equal(labels_of(out, "a"), np.array([0, 2, 1])[truth()])


def test_voc_s_table_begins_with_the_background(tmp_path):
    form, root, words = voc(tmp_path / "s")
    (root / "classes.txt").write_text("cat\ndog\nsheep\n")
    said = bring(form, root, words, tmp_path / "out").refusal()
    assert f"the first line of {root / 'classes.txt'} is 'cat'" in said


def test_void_among_the_classes_of_voc_s_table_moves_no_other(tmp_path):
    form, root, words = voc(tmp_path / "s")
    (root / "classes.txt").write_text("background\nvoid\ncat\ndog\n")
    stored = np.where(truth() == 2, 3, truth()).astype(np.uint8)
    for name in ("a", "june/b"):
        save(stored, root / f"SegmentationClass/{name}.png")
    assert bring(form, root, words, tmp_path / "out").status == 0
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\ndog\n"
    assert np.array_equal(labels_of(tmp_path / "out", "a"), np.array([0, 255, 9, 2])[stored])


@pytest.mark.parametrize("value", [1, 300, -1])
def test_a_pixel_value_of_roboflow_s_table_means_one_class(tmp_path, value):
    form, root, words = roboflow(tmp_path / "s")
    table = root / "train/_classes.csv"
    table.write_text(table.read_text() + f"{value}, sheep\n")
    said = bring(form, root, words, tmp_path / "out").refusal()
    assert f"gives 'sheep' the pixel value {value}, which is there already" in said


def test_an_image_in_two_of_voc_s_lists_is_refused(tmp_path):
    form, root, words = voc(tmp_path / "s")
    (root / "ImageSets/Segmentation/val.txt").write_text("june/b\na\n")
    said = bring(form, root, words, tmp_path / "out").refusal()
    assert "Segmentation/val.txt names 'a', which train.txt names too" in said
    assert not (tmp_path / "out").exists()


def test_a_phone_s_jpeg_of_several_pictures_is_copied(tmp_path):
    form, masks, words = colours(tmp_path / "s")
    path = tmp_path / "s/photos/a.jpg"
    with Image.open(path) as first, Image.open(tmp_path / "s/photos/june/b.jpg") as second:
        first.save(path, "MPO", save_all=True, append_images=[second])
    with Image.open(path) as image:
        assert image.format == "MPO"
        pixels = np.asarray(image)
    done = bring(form, masks, words, tmp_path / "out")
    assert done.status == 0
    assert "written anew" not in done.out
    copy = tmp_path / "out/images/a.jpg"
    assert copy.read_bytes() == path.read_bytes()
    settings = {"name": "x", "root": str(tmp_path / "out"), "layout": {"part": "folder"}}
    assert np.array_equal(open_dataset(settings).photograph("a"), pixels)


def test_a_colour_that_the_table_lacks(tmp_path):
    form, masks, words = colours(tmp_path / "s")
    strange = coloured(truth())
    strange[5, 6] = (1, 2, 3)
    save(strange, masks / "a.png")
    said = bring(form, masks, words, tmp_path / "out").refusal()
    assert "the first (1, 2, 3) in 1 pixels, as at x 6, y 5" in said
    assert not (tmp_path / "out").exists()
    done = bring(form, masks, [*words, "--other-colours", "void"], tmp_path / "out")
    assert done.status == 0
    assert labels_of(tmp_path / "out", "a")[5, 6] == 255


@pytest.mark.parametrize(
    ("exif", "drawn", "words", "said"),
    [
        (6, "shown", [], ""),
        (6, "stored", [], ""),
        (3, "shown", [], "say which by --drawn-over"),
        (3, "shown", ["--drawn-over", "shown"], ""),
        (3, "stored", ["--drawn-over", "stored"], ""),
    ],
)
def test_photographs_that_phones_turn(tmp_path, exif, drawn, words, said):
    root, out = tmp_path / "s", tmp_path / "out"
    stored = photograph(root / "photos/a.jpg", exif)
    with Image.open(stored) as image:
        pixels = np.asarray(image).astype(int)
    quarter = {6: -1, 3: 2}[exif]
    if drawn == "shown":
        pixels = np.rot90(pixels, quarter)
    labels = np.rot90(truth(), quarter) if drawn == "shown" else truth()
    save(coloured(labels), root / "masks/a.png")
    (root / "table").write_text("cat,128,0,0\ndog,0,128,0\n")
    words = [*words, "--photographs", root / "photos", "--table", root / "table"]
    done = bring("colours", root / "masks", words, out)
    if said:
        assert said in done.refusal()
        return
    assert (done.status, done.err) == (0, "")
    assert "1 photographs are written anew" in done.out
    with Image.open(out / "images/a.jpg") as image:
        assert not image.getexif()
        assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 6
    assert np.array_equal(labels_of(out, "a"), labels)


def test_a_tiff_that_is_turned_is_refused(tmp_path):
    """Pillow turns its pixels when it decodes them, whichever way the labels lie."""
    root = tmp_path / "s"
    form, masks, words = colours(root)
    with Image.open(root / "photos/a.jpg") as image:
        tag = Image.Exif()
        tag[0x0112] = 3
        image.save(root / "photos/a.tif", exif=tag)
    (root / "photos/a.jpg").unlink()
    for over in ([], ["--drawn-over", "stored"], ["--drawn-over", "shown"]):
        line = bring(form, masks, [*words, *over], tmp_path / "out").refusal()
        assert "a.tif is a TIFF with the orientation 3" in line
    assert not (tmp_path / "out").exists()


def test_other_formats_become_png(tmp_path):
    form, masks, words = colours(tmp_path / "s")
    with Image.open(tmp_path / "s/photos/a.jpg") as image:
        image.save(tmp_path / "s/photos/a.bmp")
        pixels = np.asarray(image)
    (tmp_path / "s/photos/a.jpg").unlink()
    assert bring(form, masks, words, tmp_path / "out").status == 0
    with Image.open(tmp_path / "out/images/a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c.pop("categories"), "is no COCO JSON of instances"),
        (lambda c: c["annotations"][0].update(category_id=99), "`categories` lacks the id 99"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "cannot be drawn"),
        *(
            (
                lambda c, far=far: c["annotations"][0].update(segmentation=[[1, 1, far, 1, 9, 9]]),
                "cannot be drawn (a corner is no place in an image)",
            )
            for far in (float("nan"), float("inf"), -1e308)
        ),
        (lambda c: c["annotations"][1]["segmentation"].update(counts=[5]), "not 320"),
        (lambda c: c["annotations"][1]["segmentation"].update(counts=[2**70]), "a run of 118059"),
        (
            lambda c: c["annotations"][0].update(image_id="1"),
            "`images` lacks the id '1', which the annotation None has as `image_id`, but 1:",
        ),
        (lambda c: c["annotations"][0].update(image_id=5), "`images` lacks the id 5"),
        (lambda c: c["images"][1].update(id=0), "two `images` have the id 0, one of them 'june/b."),
        (lambda c: c["categories"][0].update(id=7), "have the id 7, 'animals' and 'dog'"),
        (lambda c: c["categories"][2].update(name=None), "the name of the category 3 is None"),
        *(
            (
                lambda c, name=name: c["categories"][2].update(name=name),
                f"a class {name!r}: give it a name without control characters",
            )
            for name in STRANGE
        ),
        *(
            (
                lambda c, side=side: c["images"][0].update(height=side),
                f"the image 'a.jpg' has the `height` {side!r}: give a whole number",
            )
            for side in (-3, 0, "tall", float("inf"), None, 15.5)
        ),
        (lambda c: c["images"][0].update(height=10**9), "has 20x1000000000 pixels by its file"),
        (lambda c: c["images"][0].update(file_name="../a.jpg"), "leaves its folder"),
        (lambda c: c["images"][0].update(file_name="z.jpg"), "no photograph"),
        (lambda c: c["images"][0].update(height=15), "its mask has 20x16 pixels"),
        (
            lambda c: (c["images"][0].update(height=15), c["annotations"].pop(1)),
            "must be of one size",
        ),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_said(tmp_path, spoil, said):
    form, path, words = coco(tmp_path)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    assert said in bring(form, path, words, tmp_path / "out").refusal()
    assert not (tmp_path / "out").exists()


def test_ids_of_a_coco_file_may_be_text(tmp_path):
    form, path, words = coco(tmp_path)
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        one["image_id"] = str(one["image_id"])
    for image in content["images"]:
        image["id"] = str(image["id"])
    path.write_text(json.dumps(content))
    assert bring(form, path, words, tmp_path / "out").status == 0
    assert np.array_equal(labels_of(tmp_path / "out", "a"), truth())


@pytest.mark.parametrize("form", [colours, labelme, roboflow, voc])
def test_a_class_that_a_dataset_cannot_name_is_refused_in_every_form(tmp_path, form):
    given = form(tmp_path / "s" if form is not labelme else photographs_in(tmp_path / "s"))
    for path in (tmp_path / "s").rglob("*"):
        if path.suffix in (".csv", ".json", ".txt"):
            sign = "\\u001b" if path.suffix == ".json" else "\x1b"
            path.write_text(path.read_text().replace("cat", f"c{sign}t"))
    assert "a class 'c\\x1bt': give it a name" in bring(*given, tmp_path / "out").refusal()
    assert not (tmp_path / "out").exists()


def photographs_in(root):
    root.mkdir()
    return root


def labelme_file(root, **changed):
    """Writes one photograph of Labelme with one mask, whose keys are changed."""
    path = photograph(root / "a.jpg")
    shape = {"label": "cat", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": ""}
    content = {"imagePath": path.name, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    content |= {key: value for key, value in changed.items() if key in content}
    shape |= {key: value for key, value in changed.items() if key not in content}
    path.with_suffix(".json").write_text(json.dumps(content | {"shapes": [shape]}))
    return "labelme", root, []


def png_text(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("corner", [(-2, -1), (15, 13), (-30, 2), (3, 99), (4, 5)])
def test_a_mask_of_labelme_lies_at_its_corner_and_is_cut_off(tmp_path, corner):
    inside = np.random.default_rng(0).random((6, 10)) < 0.5
    left, top = corner
    given = labelme_file(
        tmp_path / "s", points=[[left, top], [left + 9, top + 5]], mask=png_text(inside)
    )
    assert bring(*given, tmp_path / "out").status == 0
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for y, x in np.argwhere(inside):
        if 0 <= y + top < HEIGHT and 0 <= x + left < WIDTH:
            expected[y + top, x + left] = 1
    assert np.array_equal(labels_of(tmp_path / "out", "a"), expected)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"imageHeight": -3}, "has the `imageHeight` -3: give a whole number of pixels"),
        ({"imageWidth": "wide"}, "has the `imageWidth` 'wide'"),
        ({"label": None}, "a shape has the `label` None"),
        ({"points": [[float("inf"), 0]]}, "a mask of 'cat' cannot be drawn"),
        ({"mask": "AAAA"}, "cannot be read (no image of the formats PNG)"),
        ({"mask": png_text(np.ones((9, 9), bool))[:60]}, "cannot be read ("),
        ({"mask": png_text(np.ones((40, 40), bool))}, "has more than 400 pixels"),
    ],
)
def test_what_is_wrong_with_a_file_of_labelme_is_said(tmp_path, monkeypatch, changed, said):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the run changes it
    monkeypatch.setenv("CSSEGCORE_MAX_PIXELS", "400")
    given = labelme_file(tmp_path / "s", **changed)
    line = bring(*given, tmp_path / "out").refusal()
    assert said in line
    assert "a.json" in line
    assert "BytesIO" not in line
    assert not (tmp_path / "out").exists()


def test_a_folder_of_voc_s_own(tmp_path):
    """The embedded names of its classes, void, and a list that lacks an image."""
    form, root, words = voc(tmp_path / "s")
    (root / "classes.txt").unlink()
    labels = np.where(truth() == 2, 20, truth()).astype(np.uint8)
    labels[0] = 255
    save(labels, root / "SegmentationClass/a.png")
    save(truth(), root / "SegmentationClass/z.png")
    done = bring(form, root, words, tmp_path / "out")
    assert "1 masks that no list names are left out" in done.out
    assert np.array_equal(labels_of(tmp_path / "out", "a"), labels)
    names = (tmp_path / "out/classes.txt").read_text().split()
    assert (len(names), names[1], names[20]) == (21, "aeroplane", "tvmonitor")
    assert "has no classes.txt: 1 to 20 are taken for Pascal VOC's classes" in done.out


def test_the_table_that_labelme2voc_writes(tmp_path):
    form, root, words = voc(tmp_path / "s")
    (root / "classes.txt").rename(root / "class_names.txt")
    assert bring(form, root, words, tmp_path / "out").status == 0
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\ndog\n"


@pytest.mark.parametrize("form", ["labelme", "roboflow", "coco"])
def test_photographs_without_labels_are_told(tmp_path, form):
    root = tmp_path / "s"
    root.mkdir()
    given = FORMS[form](root)
    if form == "coco":
        content = json.loads((root / "labels.json").read_text())
        size = {"height": HEIGHT, "width": WIDTH}
        content["images"].append({"id": 9, "file_name": "bare.jpg", **size})
        (root / "labels.json").write_text(json.dumps(content))
        photograph(root / "photos/bare.jpg")
        said = "1 images without a region are background throughout"
    else:
        photograph(root / ("train/bare.jpg" if form == "roboflow" else "june/bare.jpg"))
        kind = "mask" if form == "roboflow" else "JSON"
        said = f"1 photographs without a {kind} are left out"
    assert said in bring(*given, tmp_path / "out").out


def test_a_link_to_a_folder_is_not_passed_over(tmp_path):
    form, root, words = labelme(tmp_path / "s")
    (tmp_path / "away").mkdir()
    (root / "july").symlink_to(tmp_path / "away", target_is_directory=True)
    assert "july is a link to a folder" in bring(form, root, words, tmp_path / "out").refusal()


def test_real_photographs(tmp_path):
    """Six of the animals: their colours give back the values that their label images store."""
    animals = data("voc2012_animals")
    masks = sorted(animals.rglob("SegmentationClass*/*.png"))[:6]
    (tmp_path / "masks").mkdir()
    (tmp_path / "photos").mkdir()
    stored = {}
    from cssegcore.core.palette import palette

    for path in masks:
        with Image.open(path) as image:
            stored[path.stem] = np.asarray(image)
            image.convert("RGB").save(tmp_path / "masks" / path.name)
        (photo,) = animals.rglob(f"JPEGImages/{path.stem}.jpg")
        (tmp_path / "photos" / photo.name).write_bytes(photo.read_bytes())
    seen = sorted({int(v) for labels in stored.values() for v in np.unique(labels)} - {0, 255})
    rows = [f"class{v},{','.join(map(str, palette()[v]))}" for v in seen]
    (tmp_path / "table").write_text("\n".join([*rows, "void,224,224,192"]))
    words = ["--photographs", tmp_path / "photos", "--table", tmp_path / "table"]
    done = bring("colours", tmp_path / "masks", words, tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    places = {0: 0, 255: 255} | {value: at for at, value in enumerate(seen, 1)}
    for name, labels in stored.items():
        expected = np.vectorize(places.get)(labels)
        assert np.array_equal(labels_of(tmp_path / "out", name), expected)
