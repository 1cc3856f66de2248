import re
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.core.palette import palette
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation import evaluate
from cssegcore.evaluation import examples as examples
from cssegcore.evaluation.predict import Labelling, label_photographs, overlay
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads.linear import Linear
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter, classify
from tests.helpers.tiny_dataset import disk_full_beyond
from tests.helpers.tiny_training import CPU, Layers, new_segmenter, whole

CLASSES = ["background", "a", "b", "c", "d"]
SIZES = [(20, 24), (20, 24), (17, 24), (20, 24), (24, 20), (24, 20), (24, 20)]


def make_images(root, labels):
    """Noise with the given labels; classes in the order a, b and d, c, the last two to come."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"n{i}" for i in range(len(labels))]
    for name, label in zip(names, labels, strict=True):
        photograph = rng.integers(0, 256, (*label.shape, 3), np.uint8)
        Image.fromarray(photograph).save(root / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(label.astype(np.uint8)).save(root / "SegmentationClass" / f"{name}.png")
    for part in ("train", "val"):
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names))
    dataset = open_dataset(
        {"name": "noise", "root": str(root), "layout": {"part": "voc"}, "classes": CLASSES}
    )
    classes = ClassTable.of([["background", "b", "a"], ["d", "c"]], [[0, 2, 1], [4, 3]])
    image_list = ImageList("step0", 0, classes, [1, 2, 3, 4], [[name, ""] for name in names])
    return ImageStore(dataset, image_list)


@pytest.fixture(scope="module")
def labels():
    """Labels of all classes and void, in several sizes."""
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 5, size) for size in SIZES]
    for label in made:
        label[rng.random(label.shape) < 0.2] = 255
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory, labels):
    return make_images(tmp_path_factory.mktemp("noise"), labels)


def sizes(network):
    return [head.classifier.out_channels for head in network.groups]


def segmenter(seed=0, outputs=(3,), unknown=None):
    """A network that says different things of different pixels, in training mode."""
    torch.manual_seed(seed)
    network = new_segmenter(list(outputs), unknown)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, 3, 24, 24))
        for head in network.groups:
            head.classifier.weight.normal_()
            head.classifier.bias.zero_()
        network.eval()
        means = network(torch.randn(4, 3, 24, 24)).logits.mean((0, 2, 3)).split(sizes(network))
        for head, mean in zip(network.groups, means, strict=True):
            head.classifier.bias -= mean
        for head in network.groups[:2] if unknown else ():
            head.classifier.bias -= 1  # two scores make one class
        network.train()
    return network


class TestConfusion:
    def count(self, network, images, size=3, keep=frozenset()):
        return evaluate.count_confusion(network, images, 5, size, CPU, whole, set(keep))

    @pytest.mark.parametrize("unknown", [None, "sigmoid"])
    @pytest.mark.parametrize("outputs", [(3,), (3, 2)])
    @pytest.mark.parametrize("seed", range(3))
    def test_counts_as_the_reference_does(self, images, seed, outputs, unknown):
        network = segmenter(seed, outputs, unknown)
        matrix, kept = self.count(network, images, keep=images.names)
        truths = {name: label for name, _, label in images.decoded()}
        expected = np.zeros((5, 5), np.int64)
        for name, label in truths.items():
            assert kept[name].dtype == np.uint8
            for pair in zip(label.flat, kept[name].flat, strict=True):
                if pair[0] != 255:
                    expected[pair] += 1
        assert matrix.shape == (5, sum(outputs))
        assert np.array_equal(matrix, expected[:, : sum(outputs)])
        assert matrix.sum() == sum((label != 255).sum() for label in truths.values())
        assert np.count_nonzero(matrix.sum(0)) > 1  # a model that says but one thing tests little

    @pytest.mark.parametrize("unknown", [None, "softmax", "sigmoid"])
    def test_predictions_are_those_of_the_network_in_evaluation_mode(self, images, unknown):
        network = segmenter(unknown=unknown)
        _, kept = self.count(network, images, keep=images.names)
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET.mean, IMAGENET.std))
        for name, photograph, _ in images.decoded():
            seen = (torch.tensor(photograph).permute(2, 0, 1) / 255 - mean) / std
            expected = classify(network.eval()(seen[None]).logits, unknown)[0]
            assert np.array_equal(kept[name], expected.numpy())

    @pytest.mark.parametrize("size", [1, 2, 100])
    def test_batching_changes_nothing(self, images, size):
        network = segmenter()
        matrix, kept = self.count(network, images, 3, images.names)
        again, kept_again = self.count(network, images, size, images.names)
        assert np.array_equal(matrix, again)
        assert all(np.array_equal(kept[name], kept_again[name]) for name in images.names)

    def test_labels_are_positions_in_the_order_of_learning(self, images, labels):
        class Constant(FeatureExtractor):
            channels = last_stage_channels = 1
            backbone = Layers()

            def forward(self, photographs):
                pooled = F.avg_pool2d(photographs[:, :1], 4)
                return Features((pooled,), pooled, pooled)

        network = Segmenter(Constant(), Linear(), [3])
        for weight in network.groups[0].parameters():
            weight.data.zero_()
        network.groups[0].classifier.bias.data[1] = 1.0  # always the output of "b", raw label 2
        matrix, _ = self.count(network, images)
        counts = np.bincount(np.concatenate([label.ravel() for label in labels]))
        assert matrix[:, 1].tolist() == counts[[0, 2, 1, 4, 3]].tolist()
        assert matrix[:, [0, 2]].sum() == 0

    def test_only_what_is_asked_for_is_kept(self, images):
        assert self.count(segmenter(), images, keep={"n2"})[1].keys() == {"n2"}
        assert self.count(segmenter(), images)[1] == {}

    def test_progress_covers_every_photograph(self, images):
        seen = []

        def progress(batches, total):
            for names, batch in batches:
                seen.append((names, tuple(batch.labels.shape), total))
                yield names, batch

        evaluate.count_confusion(segmenter(), images, 5, 3, CPU, progress, set())
        assert [name for names, *_ in seen for name in names] == images.names
        shapes = [(2, 20, 24), (1, 17, 24), (1, 20, 24), (3, 24, 20)]
        assert [shape for _, shape, _ in seen] == shapes
        assert {total for *_, total in seen} == {len(SIZES)}


class TestPredict:
    @pytest.fixture
    def photographs(self, tmp_path):
        rng = np.random.default_rng(1)
        (tmp_path / "in").mkdir()
        paths = [tmp_path / "in" / name for name in ("one.png", "two.png", "grey.png")]
        for path, shape in zip(paths, [(20, 31, 3), (45, 16, 3), (16, 16)], strict=True):
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
        return paths

    @pytest.mark.parametrize("unknown", [None, "sigmoid"])
    def test_labels_are_what_the_network_says(self, photographs, tmp_path, unknown):
        network = segmenter(0, (3, 1), unknown)
        done = label_photographs(network, photographs, tmp_path / "out", Labelling(0.6), CPU, whole)
        assert (done.before, done.failures) == (0, [])
        counts = np.zeros(4)
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET.mean, IMAGENET.std))
        for path in photographs:
            with Image.open(path) as image:
                photograph = torch.tensor(np.asarray(image.convert("RGB")))
            seen = (photograph.permute(2, 0, 1) / 255 - mean) / std
            expected = classify(network.eval()(seen[None]).logits, unknown)[0].numpy()
            with Image.open(tmp_path / "out" / f"{path.stem}.png") as image:
                assert image.mode == "P"
                assert np.array_equal(np.asarray(image), expected)
                assert np.array_equal(np.asarray(image.convert("RGB")), palette()[expected])
            with Image.open(tmp_path / "out" / f"{path.stem}.overlay.jpg") as image:
                assert image.size == photograph.shape[1::-1]
            counts += np.bincount(expected.ravel(), minlength=4)
        total = sum(one.counts for one in done.each)
        assert total.tolist() == counts.tolist()
        assert [one.path for one in done.each] == photographs
        written = {file.name for file in (tmp_path / "out").iterdir()}
        stems = ("one", "two", "grey")
        assert written == {f"{stem}{end}" for stem in stems for end in (".png", ".overlay.jpg")}

    def test_an_unreadable_photograph_is_named(self, photographs, tmp_path):
        photographs[1].write_bytes(photographs[1].read_bytes()[:200])
        done = label_photographs(
            segmenter(), photographs, tmp_path / "out", Labelling(0.6), CPU, whole
        )
        (failure,) = done.failures
        assert re.search(r"photograph .*two\.png cannot be read", failure)
        assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"one.png", "grey.png"}

    def test_overlay_leaves_the_background_as_it_is(self):
        rng = np.random.default_rng(2)
        photograph = rng.integers(0, 256, (6, 7, 3), np.uint8)
        labels = rng.integers(0, 3, (6, 7)).astype(np.uint8)
        got = np.asarray(overlay(photograph, labels, 0.25))
        assert np.array_equal(got[labels == 0], photograph[labels == 0])
        mixed = 0.75 * photograph + 0.25 * palette()[labels]
        assert np.abs(got - mixed)[labels > 0].max() <= 0.5

    @pytest.mark.parametrize("opacity", [0.0, 1.0])
    def test_overlay_at_both_ends(self, opacity):
        photograph = np.full((2, 2, 3), 77, np.uint8)
        labels = np.array([[0, 1], [2, 20]], np.uint8)
        got = np.asarray(overlay(photograph, labels, opacity))
        expected = np.where((labels > 0)[..., None] & (opacity == 1), palette()[labels], 77)
        assert np.array_equal(got, expected)


class TestPanels:
    def test_chosen_images_show_every_class(self, images):
        image_list = examples.choose_examples(images, 2)
        assert len(set(image_list)) == 2
        shown = {c for name, _, label in images.decoded() if name in image_list for c in label.flat}
        assert shown == {0, 1, 2, 3, 4, 255}

    def test_a_rare_class_is_not_missed(self, tmp_path):
        labels = [np.array([[0, 1], [2, 2]])] * 9
        labels[6] = np.array([[0, 0], [0, 3]])
        assert "n6" in examples.choose_examples(make_images(tmp_path, labels), 2)

    def test_two_names_of_one_file_are_not_both_shown(self):
        images = mock.create_autospec(ImageStore, instance=True)
        images.names = ["june/a", "june_a", "b"]
        images.labels_shown.return_value = [{0}, {1}, {2}]
        assert set(examples.choose_examples(images, 9)) == {"june/a", "b"}

    @pytest.mark.parametrize(("count", "expected"), [(0, 0), (99, len(SIZES))])
    def test_as_many_as_there_are(self, images, count, expected):
        assert len(examples.choose_examples(images, count)) == expected

    def test_files(self, images, tmp_path):
        rng = np.random.default_rng(3)
        truths = {name: label for name, _, label in images.decoded()}
        said = {name: rng.integers(0, 3, truths[name].shape, np.uint8) for name in ("n1", "n4")}
        examples.write_examples(tmp_path / "examples", images, ["n1", "n4"], said)
        kinds = ("photo.jpg", "truth.png", "prediction.png")
        files = {file.name for file in (tmp_path / "examples").iterdir()}
        assert files == {f"{name}.{kind}" for name in said for kind in kinds}
        for name in said:
            for kind, want in (("truth", truths[name]), ("prediction", said[name])):
                with Image.open(tmp_path / "examples" / f"{name}.{kind}.png") as image:
                    assert np.array_equal(np.asarray(image), want)

    def test_a_full_disk_is_one_line_and_leaves_no_half_file(self, images, tmp_path):
        said = {"n1": np.zeros(SIZES[1], np.uint8)}
        (tmp_path / "examples").mkdir()
        with disk_full_beyond(100), pytest.raises(InputError) as refused:
            examples.write_examples(tmp_path / "examples", images, ["n1"], said)
        assert str(refused.value).startswith(f"cannot write {tmp_path}/examples/n1.photo.jpg: File")
        assert not list((tmp_path / "examples").iterdir())
