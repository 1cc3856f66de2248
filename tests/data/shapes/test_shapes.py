import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.palette import palette
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.shapes import CLASSES, make_dataset, make_scene
from tests.helpers.tiny_dataset import disk_full_beyond

pytestmark = pytest.mark.slow

OBJECTS = range(1, len(CLASSES))


@pytest.fixture(scope="module")
def scenes():
    """Photographs and labels of 200 scenes, half the size of the dataset's: four times as fast."""
    pairs = [make_scene(np.random.default_rng([7, place]), 48) for place in range(200)]
    return np.stack([photo for photo, _ in pairs]), np.stack([labels for _, labels in pairs])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "data"
    make_dataset(root, seed=3, train=20, val=4)
    return root


def files(root):
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def images(root):
    return {name: data for name, data in files(root).items() if not name.endswith(".txt")}


def presence(labels):
    """Which of the scenes hold which object class, scenes x 8."""
    return np.stack([(labels == label).any((1, 2)) for label in OBJECTS], 1)


def neighbours(plane):
    """Pairs of planes: every pixel with its right one, every pixel with its lower one."""
    yield plane[..., :, :-1], plane[..., :, 1:]
    yield plane[..., :-1, :], plane[..., 1:, :]


def test_layout_is_that_of_pascal_voc(root):
    lists = root / "ImageSets" / "Segmentation"
    names = {part: (lists / f"{part}.txt").read_bytes() for part in ("train", "val")}
    for part, count in (("train", 20), ("val", 4)):
        assert names[part].endswith(b"\n")
        assert b"\r" not in names[part]
        assert len(names[part].split()) == count
        assert names[part].split() == sorted(names[part].split())
    everything = [name.decode() for part in names.values() for name in part.split()]
    assert sorted(images(root)) == sorted(
        [f"JPEGImages/{name}.jpg" for name in everything]
        + [f"SegmentationClass/{name}.png" for name in everything]
    )
    assert (root / "classes.txt").read_text() == "".join(f"{name}\n" for name in CLASSES)
    assert CLASSES[BACKGROUND] == "background"
    assert len(set(CLASSES)) == 9


def test_images_are_jpegs_and_palette_pngs_of_one_size(root):
    for path in (root / "JPEGImages").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (96, 96))
    for path in (root / "SegmentationClass").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "P", (96, 96))
            labels = np.asarray(image)
            assert np.array_equal(np.asarray(image.convert("RGB")), palette()[labels])
        assert set(np.unique(labels)) <= {BACKGROUND, *OBJECTS, IGNORE}


def test_dataset_stays_small_enough_for_a_repository(root):
    # 750 images in 4 MB
    assert sum(map(len, images(root).values())) / 24 < 4_000_000 / 750


def test_same_seed_gives_the_same_bytes_and_another_does_not(root, tmp_path):
    make_dataset(tmp_path / "again", seed=3, train=20, val=4)
    assert files(tmp_path / "again") == files(root)
    make_dataset(tmp_path / "other", seed=4, train=2, val=1)
    made = images(root)
    assert all(data != made[name] for name, data in images(tmp_path / "other").items())


def test_an_image_does_not_depend_on_how_many_there_are(root, tmp_path):
    make_dataset(tmp_path / "few", seed=3, train=2, val=3)
    made = images(root)
    assert all(data == made[name] for name, data in images(tmp_path / "few").items())


def test_no_image_is_made_twice(root):
    for folder in ("JPEGImages", "SegmentationClass"):
        made = [data for name, data in files(root).items() if name.startswith(folder)]
        assert len(set(made)) == len(made) == 24


def test_a_border_parts_every_object_from_what_is_beside_it(scenes):
    _, labels = scenes
    for here, beside in neighbours(labels):
        apart = (here == IGNORE) | (beside == IGNORE)
        assert np.all(apart | (here == beside))


def test_the_border_is_one_pixel_wide(scenes):
    _, labels = scenes
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    sides = np.stack(
        [padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]]
    )
    beside_object = ((sides != IGNORE) & (sides != BACKGROUND)).any(0)
    # Where three objects meet, borders meet too.
    assert beside_object[labels == IGNORE].mean() > 0.97


def test_the_border_lies_on_the_edges_of_the_photograph(scenes):
    photos, labels = scenes
    steepness = np.hypot(*np.gradient(photos.mean(3), axis=(1, 2)))
    assert steepness[labels == IGNORE].mean() > 2 * steepness[labels == BACKGROUND].mean()


def test_every_scene_holds_one_to_four_objects(scenes):
    _, labels = scenes
    held = presence(labels).sum(1)
    assert held.min() == 1
    assert held.max() == 4
    assert 0.6 < (labels == BACKGROUND).mean() < 0.85


def test_no_object_is_a_mere_sliver(scenes):
    _, labels = scenes
    areas = np.stack([(labels == label).sum((1, 2)) for label in OBJECTS], 1)
    # 35 % of the smallest outline, 2.2 (0.15 x 48)^2, are 40 pixels, less borders of objects above
    assert areas[presence(labels)].min() >= 20


def test_labels_name_what_is_drawn(scenes):
    """A ring, and no other outline but the crescent's, is open in the middle."""
    open_middle = {name: [] for name in CLASSES[1:]}
    for labels in scenes[1]:
        for label in np.flatnonzero(presence(labels[None])[0]) + 1:
            mask = labels == label
            if not (mask[[0, -1]].any() or mask[:, [0, -1]].any()):
                row, column = np.argwhere(mask).mean(0).round().astype(int)
                open_middle[CLASSES[label]].append(not mask[row, column])
    usual = {name: np.median(seen) for name, seen in open_middle.items() if name != "crescent"}
    assert usual == {name: float(name == "ring") for name in usual}


def test_some_objects_are_cut_by_the_frame(scenes):
    _, labels = scenes
    rim = np.concatenate([labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]], 1)
    assert 0.5 < presence(rim[:, None]).any(1).mean() < 0.95


def test_classes_are_equally_frequent(scenes):
    _, labels = scenes
    share = presence(labels).mean(0)
    assert share.min() > 0.18
    assert share.max() < 0.4
    pixels = np.bincount(labels.ravel(), minlength=256)[1 : len(CLASSES)]
    assert pixels.max() < 2 * pixels.min()


def test_every_class_occurs_beside_every_other(scenes):
    _, labels = scenes
    holds = presence(labels).astype(int)
    assert (holds.T @ holds).min() >= 4


@pytest.mark.parametrize("step", [[1, 2, 3, 4], [5, 6], [7, 8]])
def test_steps_of_the_default_scenario_have_images_enough(scenes, step):
    _, labels = scenes
    # at least 200 of 600
    assert presence(labels)[:, np.array(step) - 1].any(1).mean() > 1 / 3


def test_colour_does_not_tell_the_class(scenes):
    photos, labels = scenes
    scene, label = np.nonzero(presence(labels))
    label += 1
    colours = np.stack(
        [photos[i][labels[i] == k].mean(0) for i, k in zip(scene, label, strict=True)]
    )
    learned = scene < 100
    means = np.stack([colours[learned & (label == k)].mean(0) for k in OBJECTS])
    distance = np.linalg.norm(colours[~learned, None] - means, axis=2)
    # by chance: 1/8
    assert (distance.argmin(1) + 1 == label[~learned]).mean() < 0.25


def test_sizes_other_than_the_default(tmp_path):
    make_dataset(tmp_path, seed=0, train=1, val=1, size=64)
    with Image.open(tmp_path / "JPEGImages" / "val_00000.jpg") as image:
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, r"`seed` must be at least 0, got -1"),
        ({"train": 0}, r"`train` must be at least 1, got 0"),
        ({"val": 0}, r"`val` must be at least 1, got 0"),
        ({"size": 31}, r"`size` must be at least 32, got 31"),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        make_dataset(tmp_path / "data", **{"seed": 0, "train": 1, "val": 1, **wrong})
    assert not (tmp_path / "data").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match=r"is in use: name a folder that is empty"):
            make_dataset(taken, seed=0, train=1, val=1)
    assert files(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("room", "file"),
    [(10, "classes.txt"), (500, "JPEGImages/train_00000.jpg")],
)
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, room, file):
    with disk_full_beyond(room), pytest.raises(InputError) as refused:
        make_dataset(tmp_path, seed=0, train=1, val=1, size=64)
    assert str(refused.value).startswith(f"cannot write {tmp_path / file}: File too large. Free")
    assert not (tmp_path / file).exists()


def command(*arguments):
    line = [sys.executable, "-m", "stages.make_shapes", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_command_makes_what_the_library_makes(root, tmp_path):
    done = command(tmp_path / "data", "--seed", 3, "--train", 20, "--val", 4)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "data") == files(root)


def test_command_says_in_one_line_that_the_folder_is_in_use(root):
    done = command(root)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {root} is in use")
    assert done.stderr.count("\n") == 1


def test_scenes_need_numpy_and_pillow_only():
    heavy = "{'torch', 'torchvision', 'scipy', 'matplotlib'}"
    code = f"import sys, cssegcore.data.shapes; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
