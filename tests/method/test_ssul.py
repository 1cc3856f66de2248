import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.core.types import UpdateFactors
from cssegcore.method._confident_labels import complete_labels, confident_labels
from cssegcore.method.classifier_init import ClassifierInit
from cssegcore.method.freeze import Freeze
from cssegcore.method.losses.bce import binary_cross_entropy
from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels
from cssegcore.method.unknown_class import Unknown
from cssegcore.models import checkpoint
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads import HeadKind
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter
from tests.helpers.tiny_training import CPU, MODEL, Layers, Lists, state

torch.set_num_threads(1)


def head_kind(part="conv"):
    return build_part("cssegcore.models.heads", HeadKind, {"part": part}, "x")


def rule(**recipe):
    return build_part("cssegcore.method.unknown_class", Unknown, recipe, "x")


def make_heads(part, *outputs, depth=5):
    """Heads of random numbers, running statistics too."""
    rng = torch.Generator().manual_seed(sum(outputs))
    heads = [head_kind(part).build(depth, n) for n in outputs]
    for number, head in enumerate(heads):
        for value in head.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + torch.rand(value.shape, generator=rng))
            else:
                value.fill_(7 * (number + 1 < len(heads)))  # the last head is new
    return heads


def bytes_of(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


class TestConvHead:
    def test_scores_are_those_of_a_pixel_by_pixel_reference(self):
        (head,) = make_heads("conv", 2, depth=3)
        features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
        numbers = {name: value.double().numpy() for name, value in head.state_dict().items()}
        padded = np.pad(features.double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
        expected = np.empty((2, 2, 4, 5))
        for image, row, column in np.ndindex(2, 4, 5):
            window = padded[image, :, row : row + 3, column : column + 3]
            seen = (numbers["convolution.weight"] * window).sum((1, 2, 3))
            spread = np.sqrt(numbers["norm.running_var"] + 1e-5)
            seen = (seen - numbers["norm.running_mean"]) / spread
            seen = np.maximum(seen * numbers["norm.weight"] + numbers["norm.bias"], 0)
            scores = numbers["classifier.weight"][:, :, 0, 0] @ seen
            expected[image, :, row, column] = scores + numbers["classifier.bias"]
        with torch.no_grad():
            got = head.eval()(features)
        assert got.numpy() == pytest.approx(expected, rel=1e-4)

    def test_only_the_last_layer_has_a_bias_beside_the_norm(self):
        head = head_kind().build(6, 4)
        shapes = {name: tuple(weight.shape) for name, weight in head.named_parameters()}
        assert shapes == {
            "convolution.weight": (6, 6, 3, 3),
            "norm.weight": (6,),
            "norm.bias": (6,),
            "classifier.weight": (4, 6, 1, 1),
            "classifier.bias": (4,),
        }

    def test_fresh_weights(self):
        torch.manual_seed(0)
        head = head_kind().build(64, 64)
        for layer, inputs in ((head.convolution, 64 * 9), (head.classifier, 64)):
            spread = math.sqrt(2 / inputs)  # variance 2 over the inputs
            assert layer.weight.std().item() == pytest.approx(spread, rel=0.03)
            assert layer.weight.abs().max() > 3 * spread  # normal, not uniform
        assert (head.norm.weight == 1).all()
        assert (head.norm.bias == 0).all()
        assert 0 < head.classifier.bias.abs().max() <= 1 / math.sqrt(64)  # PyTorch's own


class TestFromUnknown:
    start = build_part("cssegcore.method.classifier_init", ClassifierInit, {"part": "unknown"}, "x")

    @pytest.mark.parametrize("part", ["conv", "linear"])
    @pytest.mark.parametrize("outputs", [(1, 1, 3, 1), (1, 1, 3, 2, 4)])
    def test_new_classes_are_the_unknown_class_and_nothing_else_moves(self, part, outputs):
        heads = make_heads(part, *outputs)
        before = [bytes_of(head) for head in heads]
        self.start(heads)
        assert [bytes_of(head) for head in heads[:-1]] == before[:-1]
        unknown, new = heads[0].state_dict(), heads[-1].state_dict()
        for name, value in new.items():
            if name == "norm.num_batches_tracked":
                assert value == 0
            elif name.startswith("classifier"):
                assert len(value) == outputs[-1]
                assert all(torch.equal(row, unknown[name][0]) for row in value)
            else:
                assert torch.equal(value, unknown[name])
        features = torch.randn(2, 5, 4, 4)
        scores = [heads[at].eval()(features) for at in (0, -1)]
        assert torch.allclose(scores[0].expand_as(scores[1]), scores[1])

    @pytest.mark.parametrize("part", ["conv", "linear"])
    def test_the_new_head_is_trained_apart(self, part):
        heads = make_heads(part, 1, 1, 2, 3)
        self.start(heads)
        before = bytes_of(heads[0])
        for weight in heads[-1].parameters():
            assert weight.requires_grad
            assert weight.is_leaf
            weight.data[0] += 1
        rows = heads[-1].classifier.weight
        assert not torch.equal(rows[0], rows[1])
        assert bytes_of(heads[0]) == before

    def test_it_is_said_that_an_unknown_class_is_needed(self):
        assert self.start.needs_unknown


class TestUnknown:
    LABELS = np.array([[0, 0, 1, 3, 255, 255]], np.uint8)
    SALIENT = np.array([[False, True, True, False, True, False]])

    @pytest.mark.parametrize(
        ("part", "expected"),
        [
            ("salient", [1, 0, 2, 4, 255, 255]),
            ("everything", [0, 0, 2, 4, 255, 255]),
            ("none", [0, 0, 1, 3, 255, 255]),
        ],
    )
    def test_by_hand(self, part, expected):
        chosen = rule(part=part)
        salient = self.SALIENT if chosen.by_saliency else None
        got = chosen.relabel(self.LABELS, salient)
        assert got.tolist() == [expected]
        assert got.dtype == np.uint8
        assert self.LABELS.tolist() == [[0, 0, 1, 3, 255, 255]]

    @pytest.mark.parametrize("part", ["salient", "everything"])
    @pytest.mark.parametrize("stands_out", [None, False, True])
    def test_against_a_plain_loop(self, part, stands_out):
        rng = np.random.default_rng(0)
        labels = rng.choice(np.array([0, 0, 1, 2, 100, 253, 255], np.uint8), (7, 9))
        salient = rng.random((7, 9)) < 0.5
        if stands_out is not None:
            salient[:] = stands_out
        got = rule(part=part).relabel(labels, salient if part == "salient" else None)
        for at in np.ndindex(labels.shape):
            unknown = labels[at] == 0 and (part == "everything" or salient[at])
            void = labels[at] == 255
            assert got[at] == (255 if void else 0 if unknown else int(labels[at]) + 1)

    def test_what_they_say_of_themselves(self):
        said = {
            p: (rule(part=p).present, rule(part=p).by_saliency) for p in ("salient", "everything")
        }
        assert said == {"salient": (True, True), "everything": (True, False)}
        assert rule(part="salient").maps == "auto"
        with pytest.raises(InputError, match=r"`x\.maps` must be one of auto, published, computed"):
            rule(part="salient", maps="none")


class Blurred(FeatureExtractor):
    """An extractor with all that freezing has to tell apart: weights, a norm, dropout."""

    channels = last_stage_channels = 4

    def __init__(self):
        super().__init__()
        self.backbone = Layers(nn.Conv2d(3, 4, 3, padding=1))
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        body = self.backbone(images)
        return Features((body,), body, self.dropout(F.relu(self.norm(body))))


def grown(part="conv", outputs=(3, 1)):
    torch.manual_seed(0)
    segmenter = Segmenter(Blurred(), head_kind(part), list(outputs), "sigmoid")
    segmenter(torch.randn(2, 3, 8, 8))  # moves the statistics of the norms
    segmenter.grow(2)
    return segmenter


def freeze(segmenter, **numbers):
    part = build_part("cssegcore.method.freeze", Freeze, {"part": "all_but_newest", **numbers}, "x")
    return part(segmenter)


CONVOLUTIONS = ("convolution.weight", "classifier.weight", "classifier.bias")
TRAINED = {f"heads.{head}.{name}" for head in (0, 1, 4) for name in CONVOLUTIONS}


class TestAllButNewest:
    def test_what_is_trained_and_how_fast(self):
        segmenter = grown()
        rates = freeze(segmenter)
        assert {n for n, p in segmenter.named_parameters() if p.requires_grad} == TRAINED
        assert rates == {f"heads.1.{name}": UpdateFactors(lr=1e-4) for name in CONVOLUTIONS}
        assert set(freeze(grown(), background_lr=0.5).values()) == {UpdateFactors(lr=0.5)}

    def test_linear_heads(self):
        segmenter = grown("linear")
        rates = freeze(segmenter)
        trained = {n for n, p in segmenter.named_parameters() if p.requires_grad}
        assert trained == {
            f"heads.{h}.classifier.{n}" for h in (0, 1, 4) for n in ("weight", "bias")
        }
        assert set(rates) == {"heads.1.classifier.weight", "heads.1.classifier.bias"}

    def test_nothing_else_moves_in_training_and_these_do(self):
        segmenter = grown()
        rates = freeze(segmenter)
        before = state(segmenter)
        images, labels = torch.randn(4, 3, 8, 8), torch.randint(0, 6, (4, 8, 8))
        steps = {name: 0.0 for name in TRAINED}
        for _ in range(3):
            segmenter.train()
            loss = binary_cross_entropy(segmenter(images).logits, labels)
            segmenter.zero_grad()
            loss.backward()
            with torch.no_grad():
                for name, weight in segmenter.named_parameters():
                    if weight.requires_grad:
                        change = (
                            0.1
                            * rates.get(name, UpdateFactors()).lr
                            * (weight.grad + 0.01 * weight)
                        )
                        weight -= change
                        steps[name] += change.abs().max().item()
            segmenter.eval()
        after = state(segmenter)
        assert {name for name in before if before[name] != after[name]} == TRAINED
        slow = max(steps[name] for name in rates)
        assert 0 < slow < 0.01 * min(steps[name] for name in TRAINED - rates.keys())

    def test_training_keeps_dropout_and_takes_statistics_as_they_are(self):
        segmenter = grown().eval()
        images = torch.randn(2, 3, 8, 8)
        quiet = segmenter(images).logits
        freeze(segmenter)
        segmenter.train()
        first, second = segmenter(images), segmenter(images)
        assert not torch.equal(first.logits, second.logits)
        segmenter.extractor.dropout.eval()
        assert torch.allclose(segmenter(images).logits, quiet, atol=1e-6)

    def test_the_base_heads_count_as_old_one_step_later(self):
        segmenter = grown(outputs=(3, 1, 2))
        freeze(segmenter)
        trained = {int(n.split(".")[1]) for n, p in segmenter.named_parameters() if p.requires_grad}
        assert trained == {0, 1, 5}

    @pytest.mark.parametrize("number", [-1, math.inf, math.nan])
    def test_refusals(self, number):
        with pytest.raises(InputError, match=rf"`x`: `background_lr`.*got {float(number)}"):
            freeze(grown(), background_lr=number)


def plain_labels(logits, labels, threshold, first_class, scores):
    """The rule of SSUL, one pixel at a time."""
    found = labels.copy()
    for b, y, x in np.ndindex(labels.shape):
        z = [float(v) for v in logits[b, :, y, x]]
        if scores == "sigmoid":
            probabilities = [1 / (1 + math.exp(-v)) for v in z]
        else:
            total = math.fsum(math.exp(v) for v in z)
            probabilities = [math.exp(v) / total for v in z]
        best = max(range(len(z)), key=probabilities.__getitem__)
        sure = best >= first_class and probabilities[best] >= threshold
        if labels[b, y, x] < first_class and sure:
            found[b, y, x] = best
    return found


def predictions(seed=0, outputs=6, shape=(2, 7, 8)):
    """Logits of an old model, and labels of all kinds: background, a new class, ignored."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((shape[0], outputs, *shape[1:]))
    return logits, rng.choice([0, 0, 1, outputs, 255], shape)


class TestConfidentLabels:
    @pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
    @pytest.mark.parametrize("first_class", [1, 2])
    @pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9, 1.0])
    def test_against_a_plain_loop(self, scores, first_class, threshold):
        logits, labels = predictions()
        got = confident_labels(
            torch.tensor(logits), torch.tensor(labels), threshold, first_class, scores
        )
        expected = plain_labels(logits, labels, threshold, first_class, scores)
        assert np.array_equal(got.numpy(), expected)
        assert (expected != labels).any() == (threshold < 1)

    @pytest.mark.parametrize(
        ("logits", "label", "expected"),
        [
            pytest.param([0, 0, 2, 1], 0, 2, id="over unknown"),
            pytest.param([0, 0, 2, 1], 1, 2, id="over background"),
            pytest.param([3, 0, 2, 1], 1, 1, id="unknown is above it"),
            pytest.param([0, 3, 2, 1], 0, 0, id="background is above it"),
            pytest.param([0, 0, 0.84, 0], 1, 1, id="not sure: 0.6985"),
            pytest.param([0, 0, 0.85, 0], 1, 2, id="sure: 0.7006"),
            pytest.param([0, 0, 2, 1], 3, 3, id="an annotated class"),
            pytest.param([0, 0, 2, 1], 4, 4, id="a new class"),
            pytest.param([0, 0, 2, 1], 255, 255, id="ignored"),
            pytest.param([0, 0, 40, 41], 1, 3, id="scores of 1 in float32 are told apart"),
        ],
    )
    def test_by_hand(self, logits, label, expected):
        old = torch.tensor(logits, dtype=torch.float32)[None, :, None, None]
        got = confident_labels(old, torch.tensor([[[label]]]), 0.7, 2, "sigmoid")
        assert got.item() == expected

    def test_a_score_that_is_the_threshold_is_believed(self):
        old, labels = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64)
        classes = torch.cat([old - 1, old], 1)
        assert confident_labels(classes, labels, 0.5, 1, "sigmoid").item() == 1

    def test_softmax_shares_out_what_sigmoid_does_not(self):
        old = torch.tensor([0.0, 0, 4, 4])[None, :, None, None]  # 0.98 each, or a half each
        labels = torch.zeros(1, 1, 1, dtype=torch.int64)
        found = {s: confident_labels(old, labels, 0.7, 2, s).item() for s in ("sigmoid", "softmax")}
        assert found == {"sigmoid": 2, "softmax": 0}

    @pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
    def test_halves_are_compared_in_full(self, scores):
        z = torch.linspace(0.8, 0.9, 64).bfloat16()  # scores of 0.69 to 0.711; 0.7 is at 0.847
        old = torch.stack([torch.zeros_like(z), z])[None, :, None]
        labels = torch.zeros(1, 1, 64, dtype=torch.int64)
        got = confident_labels(old, labels, 0.7, 1, scores)
        assert torch.equal(got[0, 0], (z.float() > 0.8473).long())
        assert set(got.unique().tolist()) == {0, 1}

    @pytest.mark.parametrize("background", [0, 1])
    def test_in_classes_it_is_the_same_with_the_unknown_class_left_out(self, background):
        logits, labels = predictions(2)
        labels[labels == 1] = 0  # of this step: background, new classes, void
        outputs = np.where(labels == 255, 255, labels + background)
        sure = plain_labels(logits, outputs, 0.7, 1 + background, "sigmoid")
        got = complete_labels(
            torch.tensor(logits), torch.tensor(labels), 0.7, background, "sigmoid"
        )
        assert np.array_equal(got.numpy(), np.where(sure == 255, 255, sure - background))
        assert (got.numpy() != labels).any()


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


class TestSigmoid:
    @staticmethod
    def save(path, step, unknown):
        """Saves a model that is sure of itself here and there."""
        torch.manual_seed(24)
        known = checkpoint.Model(step.step, MODEL, {"part": "conv"}, unknown, step.classes)
        segmenter = known.segmenter()
        for head in segmenter.groups:
            head.classifier.weight.data *= 40
        checkpoint.save(path, segmenter, known, {})
        return checkpoint.load_model(path, CPU).segmenter

    @staticmethod
    def request(lists, path):
        chosen = {"train": lists.of("step1"), "memory": lists.of("step1", "seen")}
        return LabelRequest(lists.dataset, chosen, path, lambda batches, _: batches)

    @pytest.mark.parametrize("unknown", ["sigmoid", None])
    def test_images_and_counts_are_those_of_a_plain_loop(
        self, tmp_path, lists, unknown, monkeypatch
    ):
        monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
        segmenter = self.save(tmp_path / "model", lists.of("step0"), unknown)
        request = self.request(lists, tmp_path / "model")
        part = build_part(
            "cssegcore.method.pseudo_labels",
            PseudoLabels,
            {"part": "sigmoid", "batch_size": 3},
            "x",
        )
        part.write(tmp_path / "out", request)

        shift, counts, background = int(unknown is not None), np.zeros((2, 3), int), 0
        for which, chosen in request.lists.items():
            table = chosen.label_table()
            for name in chosen.names:
                labels = table[lists.dataset.label(name)].astype(int)
                pixels = torch.from_numpy(lists.dataset.photograph(name).copy())[None]
                with torch.inference_mode():
                    logits = segmenter(normalised(pixels)).logits.numpy()
                outputs = np.where(labels == 255, 255, labels + shift)[None]
                sure = plain_labels(logits, outputs, 0.7, 1 + shift, "sigmoid")
                expected = np.where(sure == 255, 255, sure - shift)[0]
                with Image.open(tmp_path / "out" / which / f"{name}.png") as image:
                    assert np.array_equal(np.asarray(image), expected)
                empty = labels == 0
                background += empty.sum()
                for k in range(3):
                    counts[0, k] += (empty & (logits.argmax(1)[0] == k + shift)).sum()
                    counts[1, k] += (empty & (expected == k)).sum() * (k > 0)
        assert counts[1, 1:].all()  # the test says something
        assert (counts[1, 1:] < counts[0, 1:]).any()
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["images"] == {key: chosen.names for key, chosen in request.lists.items()}
        assert manifest["background"] == background
        names, thresholds = ("background", "red", "green"), (None, 0.7, 0.7)
        assert manifest["classes"] == [
            {"class": n, "threshold": t, "predicted": p, "accepted": a}
            for n, t, p, a in zip(names, thresholds, *counts.tolist(), strict=True)
        ]

    @pytest.mark.parametrize(
        ("key", "number"), [("threshold", -0.1), ("threshold", 1.5), ("batch_size", 0)]
    )
    def test_refusals(self, key, number):
        with pytest.raises(InputError, match=rf"`x`: `{key}`.*got {number}"):
            build_part(
                "cssegcore.method.pseudo_labels",
                PseudoLabels,
                {"part": "sigmoid", key: number},
                "x",
            )


def normalised(photographs):
    """Network input, from bytes (b, h, w, 3)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((photographs / 255 - mean) / std).permute(0, 3, 1, 2)
