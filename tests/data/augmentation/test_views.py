import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling

from cssegcore.models import checkpoint
from cssegcore.evaluation import examples as examples
from cssegcore.core.class_table import ClassTable
from cssegcore.data.augmentation import Augmentation, Crops
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from cssegcore.data.augmentation.scale_and_crop import ScaleAndCrop
from cssegcore.data.batches import Images, Replayed
from cssegcore.data.center_crop import CentralCrops, central_crop
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.crop_and_resize import MEAN, STD, crop_and_resize
from cssegcore.training.setup import Sources, padding, prepare
from cssegcore.method.method import Method, Recipe
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU, Lists, method_section, plan

torch.set_num_threads(1)


def bytes_of(view):
    """Undoes the normalisation of one view: float bytes, shape (h, w, 3)."""
    return (view.numpy().transpose(1, 2, 0).astype(np.float64) * STD + MEAN) * 255


def padded(pixels, size):
    """Pads a scaled map or photograph as the release does: the width, then the height, each time
    on all four sides. Returns it and how far its corner has moved."""
    moved = 0
    for axis in (1, 0):
        if pixels.shape[axis] < size:
            more = int((1 + size - pixels.shape[axis]) / 2)
            pixels = np.pad(pixels, [(more, more)] * 2 + [(0, 0)] * (pixels.ndim - 2))
            moved += more
    return pixels, moved


def corners(photograph, scale, size, rng, count):
    """Crops `count` times as published; where each crop starts in the scaled photograph."""
    height, width = (int(length * scale) for length in photograph)
    whole, moved = padded(np.zeros((height, width)), size)
    rows, columns = (length - size for length in whole.shape)
    drawn = [(rng.integers(rows + 1), rng.integers(columns + 1)) for _ in range(count)]
    return np.array(drawn) - moved


class TestPlaces:
    # height, width, scale; the crop has 8 pixels
    CASES = (
        (11, 13, 1.0),  # room to move both ways
        (8, 8, 1.0),  # one place
        (12, 5, 1.0),  # too narrow: padded above and below as well
        (5, 12, 1.0),  # too low: padded left and right as well
        (3, 6, 1.0),  # too narrow, and still too low after that
        (7, 4, 1.0),  # the width's padding makes it high enough
        (7, 7, 1.0),
        (10, 15, 0.77),  # 7.7 by 11.55 pixels
    )

    @pytest.mark.parametrize("case", CASES)
    def test_they_are_those_of_the_published_procedure(self, case):
        *photograph, scale = case
        count = 8000
        rule = ScaleAndCrop(size=8, scale=(scale, scale))
        sizes = np.tile(np.array(photograph, np.int64), (count, 1))
        boxes = rule.draw(sizes, np.random.default_rng(1)).boxes
        ratio = np.array(photograph) / [int(length * scale) for length in photograph]
        assert np.allclose(boxes[:, 2:], 8 * ratio, rtol=1e-12)
        exact = boxes[:, :2] / ratio
        found = np.round(exact).astype(int)
        assert np.abs(exact - found).max() < 1e-9
        expected = corners(photograph, scale, 8, np.random.default_rng(2), count)
        places, often = np.unique(found, axis=0, return_counts=True)
        there, likely = np.unique(expected, axis=0, return_counts=True)
        assert np.array_equal(places, there)
        # both are counts of `count` draws from the same places, each as likely as another
        spread = np.sqrt(count / len(there))
        assert np.abs(often - count / len(there)).max() < 5 * spread
        assert np.abs(often - likely).max() < 7 * spread

    def test_scales_are_uniform_and_sizes_cut_off(self):
        sizes = np.tile(np.array([[375, 500]], np.int64), (4000, 1))
        boxes = ScaleAndCrop(size=513).draw(sizes, np.random.default_rng(3)).boxes
        scaled = 513 * sizes / boxes[:, 2:]
        assert np.abs(scaled - np.round(scaled)).max() < 1e-9
        scaled = np.round(scaled).astype(int)
        assert scaled.min(0).tolist() == [187, 250]
        assert scaled.max(0).tolist() == [749, 999]
        low, high = scaled / sizes, (scaled + 1) / sizes  # where the scale lies
        assert (np.maximum(low[:, 0], low[:, 1]) < np.minimum(high[:, 0], high[:, 1])).all()
        share = np.histogram((scaled[:, 1] + 0.5) / 500, 6, (0.5, 2.0))[0] / len(sizes)
        assert np.abs(share - 1 / 6).max() < 0.03

    def test_views_depend_on_the_generator_alone(self):
        sizes = np.array([[375, 500], [500, 333], [1, 1]])
        first, again, other = (
            ScaleAndCrop().draw(sizes, np.random.default_rng(s)) for s in (1, 1, 2)
        )
        assert np.array_equal(first.boxes, again.boxes)
        assert np.array_equal(first.flips, again.flips)
        assert not np.array_equal(first.boxes, other.boxes)
        assert np.isfinite(first.boxes).all()  # a pixel is scaled to one, not to none

    @pytest.mark.parametrize(("flip", "share"), [(0.0, 0), (1.0, 1), (0.5, 0.5)])
    def test_as_many_views_are_mirrored_as_asked_for(self, flip, share):
        sizes = np.full((2000, 2), 10)
        flips = ScaleAndCrop(size=8, flip=flip).draw(sizes, np.random.default_rng(1)).flips
        assert abs(flips.mean() - share) < (0.05 if 0 < share < 1 else 1e-9)

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ({"size": 0}, r"`size` must be >= 1 pixel, got 0"),
            ({"scale": (0.0, 1.0)}, r"`scale` must be 0 < low <= high, got 0\.0, 1\.0"),
            ({"scale": (2.0, 1.0)}, r"`scale` must be 0 < low <= high, got 2\.0, 1\.0"),
            ({"scale": (1.0, float("inf"))}, r"`scale` must be 0 < low <= high, got 1\.0, inf"),
            ({"flip": 1.1}, r"`flip` must lie in \[0, 1\], got 1\.1"),
        ],
    )
    def test_senseless_numbers_are_refused(self, numbers, words):
        with pytest.raises(ValueError, match=words):
            ScaleAndCrop(**numbers)


def halfway(first, length, scaled, size):
    """Which of `size` scaled pixels from `first` on have their centre between two source pixels."""
    return (2 * (first + np.arange(size)) + 1) * length % (2 * scaled) == 0


class TestPixels:
    @pytest.mark.parametrize("flip", [0.0, 1.0])
    @pytest.mark.parametrize("scale", [1.0, 1.55, 1.9])
    def test_views_are_those_of_pillow(self, scale, flip):
        """Scaled, padded and cropped by Pillow and NumPy; photographs are rounded to bytes on the
        way, and of two pixels that are equally near a label may be either's."""
        rng = np.random.default_rng(7)
        sizes = [(9, 23), (25, 13), (6, 7), (22, 27)]
        rule = ScaleAndCrop(size=24, scale=(scale, scale), flip=flip)
        views = rule.draw(np.array(sizes), rng)
        photographs = rng.integers(1, 256, (4, 25, 27, 3), np.uint8)
        labels = rng.integers(1, 6, (4, 25, 27, 2), np.uint8)
        added = torch.tensor([0, 1, 0, 9])
        given = (torch.from_numpy(x) for x in (photographs, labels, np.array(sizes)))
        seen, maps = crop_and_resize(*given, views, 24, added)
        found = set()
        for at, (height, width) in enumerate(sizes):
            scaled = int(width * scale), int(height * scale)
            ratio = np.array([height / scaled[1], width / scaled[0]])
            top, left = np.round(views.boxes[at, :2] / ratio).astype(int)

            def view(pixels, method, fill):
                image = Image.fromarray(pixels[:height, :width]).resize(scaled, method)  # noqa: B023
                one = np.asarray(image).astype(int)
                whole = np.pad(
                    one, [(30, 30)] * 2 + [(0, 0)] * (one.ndim - 2), constant_values=fill
                )
                crop = whole[30 + top : 54 + top, 30 + left : 54 + left]  # noqa: B023
                return crop[:, ::-1] if flip else crop

            expected = view(photographs[at], Resampling.BILINEAR, 0)
            black = (expected == 0).all(-1)
            assert np.abs(bytes_of(seen[at]) - expected).max() < 1.01
            assert (bytes_of(seen[at])[black] < 1e-4).all()
            fill = int(added[at])
            either = halfway(top, height, scaled[1], 24)[:, None] | halfway(
                left, width, scaled[0], 24
            )
            either = either[:, ::-1] if flip else either
            assert either.mean() < 0.7
            for kind in range(2):
                wanted = view(labels[at, ..., kind].copy(), Resampling.NEAREST, fill)
                differs = maps[kind, at].numpy() != wanted
                assert not (differs & ~either).any()
                assert not (differs & black).any()
                assert (wanted[black] == fill).all()
            found |= {"padded"} if black.any() else {"full"}
        assert found >= {"padded"}

    def test_without_a_label_for_it_what_is_added_is_ignored(self):
        photograph = torch.full((1, 4, 4, 3), 200, dtype=torch.uint8)
        labels = torch.ones(1, 4, 4, 1, dtype=torch.uint8)
        views = Crops(np.array([[-2.0, -2, 8, 8]]), np.array([False]))
        seen, (near,) = crop_and_resize(photograph, labels, torch.tensor([[4, 4]]), views, 8)
        assert np.abs(bytes_of(seen[0]) - 200).max() < 1e-3  # goes on as it ends
        assert near[0, 2:6, 2:6].eq(1).all()
        assert near.eq(255).sum() == 64 - 16


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def method(name, unknown, **replay):
    section = json.loads(json.dumps(method_section(name)))
    section["base"]["unknown_class"] = {"part": unknown}
    section["replay"] |= replay
    return Method.of(Recipe.of(section))


SPACIOUS = {"part": "scale_and_crop", "size": 40, "scale": [1, 1], "flip": 0.5}
"""A photograph of 24 by 24 pixels has one place in it: 8 pixels of padding on each side."""


class TestPadding:
    @pytest.mark.parametrize(
        ("name", "unknown", "value"),
        [("ssul", "salient", 1), ("ssul", "everything", 0), ("mib", "none", 0)],
    )
    def test_it_is_black_background(self, tmp_path, lists, name, unknown, value):
        how = plan(name, augmentation=SPACIOUS)
        how.method["base"]["unknown_class"] = {"part": unknown}
        sources = lists.sources(how, "step0", None, tmp_path)
        job = lists.prepare(how, "step0", sources=sources)
        assert padding(job.method, "train") == value
        decoded = {name: (p, x) for name, p, x in job.task.images.decoded()}
        assert {0, 255} < set(np.unique([x for _, x in decoded.values()]).tolist())
        views = {}
        for place, (photograph, labels) in decoded.items():
            black, filled = padded(photograph, 40)[0], np.pad(labels, 8, constant_values=value)
            views[place] = (black, filled), (black[:, ::-1], filled[:, ::-1])
        left = set(decoded)
        for batch in job.task.images.epoch(job.augmentation, 1, np.random.default_rng(1), CPU):
            seen, labels = bytes_of(batch.images[0]), batch.labels[0].numpy()
            assert torch.equal(batch.labels, batch.annotated)
            left.remove(
                next(
                    place
                    for place, both in views.items()
                    for p, x in both
                    if np.abs(seen - p).max() < 1e-3 and np.array_equal(labels, x)
                )
            )
        assert not left

    @pytest.mark.parametrize(
        ("labels", "kind", "value"),
        [("shifted", "memory", 1), ("released", "memory", 0), ("released", "train", 1)],
    )
    def test_in_exemplars_it_is_what_their_background_is(self, labels, kind, value):
        assert padding(method("ssul_m", "salient", labels=labels), kind) == value

    def test_a_job_asks_for_the_padding_of_exemplars(self, tmp_path, lists):
        how = plan("ssul_m", augmentation=SPACIOUS)
        how.method["replay"] |= {"labels": "released", "share": 0.5}
        job = lists.prepare(how, "step0", sources=lists.sources(how, "step0", None, tmp_path))
        path = tmp_path / "model"
        checkpoint.save(path, job.segmenter, job.model, {})
        memory = tmp_path / "memory"
        lists.of("step0").write(memory / "list.json")
        sources = Sources(memory=memory, saliency=lists.folder / "saliency")
        step = lists.prepare(how, "step1", path, sources)
        (batch,) = list(
            step.task.images.epoch(
                step.augmentation, 4, np.random.default_rng(1), CPU, step.task.replayed
            )
        )[:1]
        assert sorted(batch.labels[:, 0, 0].tolist()) == [0, 0, 1, 1]

    def test_all_maps_get_it_and_each_image_has_its_own(self, lists):
        def revise(_, annotated):
            made = (np.arange(annotated.size) % 200 + 20).astype(np.uint8).reshape(24, 24)
            return made, made // 2

        own = Images(lists.dataset, lists.of("step0"), revise, 5)
        others = Replayed(Images(lists.dataset, lists.of("step0"), revise, 7), 0.5)
        rule = ScaleAndCrop(size=40, scale=(0.7, 1.4))
        fills = set()
        for batch in own.epoch(rule, 2, np.random.default_rng(4), CPU, others):
            assert len(batch.labels) == 2
            for labels, annotated in zip(
                batch.labels.numpy(), batch.annotated.numpy(), strict=True
            ):
                outside = (labels == 5) | (labels == 7)
                assert len(np.unique(labels[outside])) == 1
                assert np.array_equal(annotated, np.where(outside, labels, labels // 2))
                assert (~outside).sum() > 100
                fills |= set(labels[outside].tolist())
        assert fills == {5, 7}

    def test_a_rule_that_does_not_pad_ignores_what_it_adds(self, lists):
        class Around(Augmentation):
            size = 40

            def draw(self, sizes, rng):
                boxes = np.tile([[-8.0, -8, 40, 40]], (len(sizes), 1))
                return Crops(boxes, np.zeros(len(sizes), bool))

        (batch,) = list(
            Images(lists.dataset, lists.of("step0"), None, 5).epoch(
                Around(), 2, np.random.default_rng(1), CPU
            )
        )[:1]
        assert (batch.labels[:, :8] == 255).all()
        assert (batch.labels != 5).all()


class TestRandomResizedCropAsPublished:
    def test_the_fallback_is_as_frequent_as_in_the_published_procedure(self):
        """MiB's spec: about 14 % at 500x375, 28 % at 500x334, 76 % at 2048x1024; accepted boxes
        have 0.66 of the area on average."""
        rule = RandomResizedCrop()
        for (height, width), share in {
            (375, 500): 0.14,
            (334, 500): 0.28,
            (1024, 2048): 0.76,
        }.items():
            sizes = np.tile(np.array([[height, width]]), (2000, 1))
            _, _, tall, wide = rule.draw(sizes, np.random.default_rng(5)).boxes.T
            aspect = min(max(width / height, 3 / 4), 4 / 3)
            central = (tall == height) & (wide == min(width, round(height * aspect)))
            assert abs(central.mean() - share) < 0.03
            if height == 375:
                areas = (tall * wide / (height * width))[~central]
                assert 0.6 < areas.mean() < 0.72


def resized(length, other, size):
    """torchvision's size of a side of a resized image, by its rule for the shorter side."""
    return size if length <= other else int(size * length / other)


class TestCrops:
    @pytest.mark.parametrize(
        ("shape", "tall_wide", "corner"),
        [
            ((375, 500), (512, 682), (0, 85)),
            ((500, 375), (682, 512), (85, 0)),
            ((333, 500), (512, 768), (0, 128)),
            ((334, 500), (512, 766), (0, 127)),
            ((512, 517), (512, 517), (0, 2)),  # 2.5 goes to the even number
            ((519, 512), (519, 512), (4, 0)),  # 3.5 too
            ((512, 512), (512, 512), (0, 0)),
            ((1024, 2048), (512, 1024), (0, 256)),
            ((120, 100), (614, 512), (51, 0)),
        ],
    )
    def test_they_are_torchvision_s(self, shape, tall_wide, corner):
        rng = np.random.default_rng(1)
        photograph = rng.integers(0, 256, (*shape, 3), np.uint8)
        labels = rng.integers(0, 256, shape, np.uint8)
        (tall, wide), (top, left) = tall_wide, corner
        for pixels, how in ((photograph, Resampling.BILINEAR), (labels, Resampling.NEAREST)):
            image = Image.fromarray(pixels).resize((wide, tall), how)
            expected = np.asarray(image.crop((left, top, left + 512, top + 512)))
            assert np.array_equal(central_crop(pixels, 512, how), expected)

    def test_sizes_by_torchvision_s_formulas(self):
        rng = np.random.default_rng(2)
        for height, width in rng.integers(5, 60, (60, 2)).tolist():
            # what tells a pixel's place: rows in one map, columns in another
            rows, columns = np.mgrid[:height, :width].astype(np.uint8)
            tall, wide = resized(height, width, 20), resized(width, height, 20)
            top, left = round((tall - 20) / 2.0), round((wide - 20) / 2.0)
            for pixels in (rows, columns):
                image = Image.fromarray(pixels).resize((wide, tall), Resampling.NEAREST)
                expected = np.asarray(image)[top : top + 20, left : left + 20]
                found = central_crop(pixels, 20, Resampling.NEAREST)
                assert found.shape == (20, 20)
                assert np.array_equal(found, expected)

    def test_a_dataset_is_seen_through_them(self, dataset_root, tmp_path):
        dataset = open_dataset({"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}})
        rng = np.random.default_rng(3)
        for name, size in {"t0": (10, 30), "t1": (30, 12), "t2": (24, 24)}.items():
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(
                dataset.photograph_path(name)
            )
            Image.fromarray(rng.choice([0, 3, 255], size).astype(np.uint8)).save(
                dataset.label_path(name)
            )
        classes = ClassTable.of([["background", "red", "green"], ["blue"]], [[0, 1, 2], [3]])
        image_list = ImageList("step1", 1, classes, [3], [["t0", ""], ["t1", ""], ["t2", ""]])
        images = Images(CentralCrops.of(dataset, 16), image_list)
        for name, photograph, labels in images.decoded():
            with Image.open(dataset.photograph_path(name)) as image:
                seen = np.asarray(image)
            expected = central_crop(seen, 16, Resampling.BILINEAR)
            assert np.array_equal(photograph, expected)
            assert np.array_equal(labels, central_crop(dataset.label(name), 16, Resampling.NEAREST))
        ((names, batch),) = images.whole(8, CPU)  # one size, one batch
        assert names == ["t0", "t1", "t2"]
        assert batch.images.shape == (3, 3, 16, 16)
        said = {name: np.zeros((16, 16), np.uint8) for name in names}
        examples.write_examples(tmp_path / "examples", images, examples.choose_examples(images, 2), said)
        with Image.open(next((tmp_path / "examples").glob("*.truth.png"))) as image:
            assert image.size == (16, 16)


class TestVoid:
    def test_it_is_ignored_or_background(self, lists):
        image_list = lists.of("step0")
        read = {
            void: {
                name: labels
                for name, _, labels in Images(
                    lists.dataset, dataclasses.replace(image_list, void=void)
                ).decoded()
            }
            for void in ("ignore", "background")
        }
        for name in image_list.names:
            raw = lists.dataset.label(name)
            expected = np.where(np.isin(raw, [1, 2]), raw, 0)
            assert (raw == 255).any()
            assert np.array_equal(read["background"][name], expected)
            assert np.array_equal(read["ignore"][name], np.where(raw == 255, 255, expected))

    def test_a_list_s_file_does_not_say(self, lists, tmp_path):
        image_list = lists.of("step1", "test")
        dataclasses.replace(image_list, void="background").write(tmp_path / "list.json")
        assert ImageList.read(tmp_path / "list.json") == image_list
        assert "void" not in (tmp_path / "list.json").read_text()

    def test_a_job_s_exemplars_read_it_as_its_images_do(self, tmp_path, lists):
        how = plan("ssul_m", augmentation=SPACIOUS)
        how.method["base"]["unknown_class"] = {"part": "everything"}
        job = lists.prepare(how, "step0")
        checkpoint.save(tmp_path / "model", job.segmenter, job.model, {})
        lists.of("step0").write(tmp_path / "memory" / "list.json")
        for void, held in (("ignore", True), ("background", False)):
            image_list = dataclasses.replace(lists.of("step1"), void=void)
            sources = Sources(memory=tmp_path / "memory")
            task = prepare(how, lists.dataset, image_list, tmp_path / "model", CPU, sources).task
            for images in (task.images, task.replayed.images):
                assert {255 in labels for _, _, labels in images.decoded()} == {held}


class TestStages:
    def test_void_is_the_training_s_and_its_labels_choice(self, project):
        """Trains on void as background, then on void ignored; tests do not change."""
        weights, made = [], []
        project.set("method.pseudo_labels", {"part": "sigmoid", "threshold": 0.0})
        project.set("method.losses", {"bce": {"part": "bce"}})
        project.set("method.base.losses", {"bce": {"part": "bce"}})
        assert project.run(*scenes.BEFORE_TRAINING).status == 0
        test = (project.folder / "work/split/step0/test.json").read_bytes()
        for void in ("ignore", "background"):
            project.set("labels.void", void)
            assert project.run("train@step0", "pseudo_label@step1").status == 0
            weights.append((project.folder / "work/step0/model.safetensors").read_bytes())
            labels = (project.folder / "work/step1/pseudo_labels/train").glob("*.png")
            made.append({255 in np.asarray(Image.open(path)) for path in labels})
        assert weights[0] != weights[1]
        assert made == [{True}, {False}]
        assert (project.folder / "work/split/step0/test.json").read_bytes() == test

    def test_a_test_on_crops_says_so(self, project):
        project.run(*scenes.BEFORE_TRAINING, "train@step0")
        numbers = []
        for view in ("whole", "crop"):
            project.set("evaluation.view", view)
            project.set("evaluation.size", 31)
            assert project.run("evaluate@step0").status == 0
            step = project.folder / "work/step0"
            confusion = json.loads((step / "evaluation/step0/confusion.json").read_text())
            numbers.append(sum(map(sum, confusion["matrix"])))
            protocol = json.loads((step / "metrics.json").read_text())["protocol"]
            said = "whole photographs at their own size"
            crops = "shorter side resized to 31, central crop of 31 by 31"
            assert (said in protocol, crops in protocol) == (view == "whole", view == "crop")
        dataset = open_dataset(project.params["dataset"])
        names = ImageList.read(project.folder / "work/split/step0/test.json").names
        raws = [dataset.label(name) for name in names]
        crops = [central_crop(raw, 31, Resampling.NEAREST) for raw in raws]
        assert numbers == [sum((x != 255).sum() for x in each) for each in (raws, crops)]

    def test_a_crop_of_nothing_is_refused(self, project):
        project.set("evaluation.size", 0)
        assert "`size` must be >= 1 pixel, got 0" in project.run("check").refusal()
