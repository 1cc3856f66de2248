import math

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.errors import InputError, InputWarning
from cssegcore.core.files import read_manifest
from cssegcore.core.registry import build_part
from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels
from cssegcore.method.pseudo_labels.entropy import (
    BINS,
    THRESHOLDS,
    Entropy,
    accept,
    entropy_unit,
    histogram,
    median_thresholds,
    relabel,
    released_thresholds,
    scores,
)
from cssegcore.models import checkpoint
from tests.helpers import tiny_training as tiny

BASE = 0.001
RULES = ["released", "median"]


def plain_score(logits, total, rule):
    """Entropy of one pixel, by the paper or as the released code takes it."""
    shifted = [math.exp(z - max(logits)) for z in logits]
    p = [e / math.fsum(shifted) for e in shifted]
    entropy = -math.fsum(q * math.log(q) for q in p if q > 0)
    if rule == "median":
        return entropy / math.log(len(p))
    return entropy / len(p) / math.log(len(p)) / math.log(total)


def plain_released(counts, base):
    """The published search over one class's histogram of a hundred bins."""
    if not sum(counts):
        return base
    half, run, edge, held = sum(counts) / 2, 0.0, 0.0, 0
    for k in range(100):
        edge = k / 100
        held = counts[int(edge * 100)]
        if run <= half <= run + held:
            break
        run += edge * 100
    with np.errstate(divide="ignore", invalid="ignore"):
        found = edge + float(np.float64(half - run) / held / 100)
    return base if math.isnan(found) else max(base, found)


def counted(*rows, bins=100):
    """Histograms with the given first bins."""
    return torch.tensor([[*row, *[0] * (bins - len(row))] for row in rows])


def logits_of(seed, b=2, k=4, h=5, w=6, scale=3.0):
    return torch.tensor(scale * np.random.default_rng(seed).standard_normal((b, k, h, w)))


class TestScores:
    @pytest.mark.parametrize("rule", RULES)
    def test_against_plain_loops(self, rule):
        logits = logits_of(0)
        got, predicted = scores(logits, entropy_unit(4, 7, rule))
        for b, i, j in np.ndindex(2, 5, 6):
            pixel = logits[b, :, i, j].tolist()
            assert got[b, i, j].item() == pytest.approx(plain_score(pixel, 7, rule), rel=1e-7)
            assert predicted[b, i, j] == pixel.index(max(pixel))

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            pytest.param("released", 0.175491, id="mean over classes, divided twice"),
            pytest.param("median", 0.801819 / math.log(3), id="share of the most it can be"),
        ],
    )
    def test_by_hand(self, rule, expected):
        logits = torch.tensor([0.7, 0.2, 0.1]).log().reshape(1, 3, 1, 1)
        got, _ = scores(logits, entropy_unit(3, 4, rule))
        assert got.item() == pytest.approx(expected, abs=1e-6)

    def test_released_scores_end_where_the_paper_s_are_one(self):
        flat = torch.zeros(1, 16, 1, 1)
        assert scores(flat, entropy_unit(16, 17, "median"))[0].item() == pytest.approx(1)
        released = scores(flat, entropy_unit(16, 17, "released"))[0].item()
        assert released == pytest.approx(0.0221, abs=5e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_sure_beyond_all_digits(self, dtype):
        logits = torch.tensor([1e4, 0.0, -1e4]).to(dtype).reshape(1, 3, 1, 1)
        got, predicted = scores(logits, 1.0)
        assert got.dtype == torch.float32
        assert got.item() == 0
        assert predicted.item() == 0


class TestHistogram:
    def test_by_hand(self):
        uncertainty = torch.tensor([[[0.0, 0.009, 0.01, 0.995, 1.0, 0.5]]])
        predicted = torch.tensor([[[0, 0, 1, 1, 1, 0]]])
        open_to_rule = torch.tensor([[[True, True, True, True, True, False]]])
        got = histogram(uncertainty, predicted, open_to_rule, (3, 100))
        expected = torch.zeros(3, 100, dtype=torch.int64)
        expected[0, 0], expected[1, 1], expected[1, 99] = 2, 1, 2
        assert torch.equal(got, expected)

    def test_nothing_to_count(self):
        nothing = torch.zeros(1, 2, 2, dtype=torch.bool)
        logits = logits_of(1, b=1, h=2, w=2)
        assert (histogram(*scores(logits, 1.0), nothing, (4, 100)) == 0).all()


class TestReleasedThresholds:
    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            pytest.param([60, 40], 0.0083333, id="in the first bin"),
            pytest.param([40, 60], 0.0183333, id="counted from the start of the second"),
            pytest.param([10, 20, 70], 0.0270, id="one is added for the second bin"),
            pytest.param([40, 30, 30], BASE, id="no bin holds half of few"),
            pytest.param([40_000_000, 30_000_000, 30_000_000], math.inf, id="nor of many"),
            pytest.param([], BASE, id="no pixel"),
        ],
    )
    def test_by_hand(self, row, expected):
        got = released_thresholds(counted(row), BASE)
        assert got.item() == pytest.approx(expected, abs=1e-7)

    def test_bins_read_one_too_low(self):
        # all pixels are in bin 29, in whose place the empty bin 28 is read; those of 28 count twice
        assert released_thresholds(counted([0] * 29 + [1000]), BASE).item() == BASE
        run = sum(range(29))
        got = released_thresholds(counted([0] * 28 + [810]), BASE).item()
        assert got == pytest.approx(0.28 + (405 - (run - 28)) / 810 / 100)
        got = released_thresholds(counted([0] * 28 + [40, 800]), BASE).item()
        assert got == pytest.approx(0.29 + (420 - run) / 40 / 100)

    @pytest.mark.parametrize("seed", range(4))
    def test_against_plain_loops(self, seed):
        rng = np.random.default_rng(seed)
        # few and many pixels, spread wide and narrow, so that searches stop early, late and never
        sizes, widths = rng.integers(0, 10 ** rng.integers(1, 6, 60)), rng.uniform(0.1, 60, 60)
        rows = [
            np.bincount(rng.exponential(w, n).astype(int).clip(0, 99), minlength=100)
            for n, w in zip(sizes, widths, strict=True)
        ]
        got = released_thresholds(torch.tensor(np.stack(rows)), BASE)
        assert got.tolist() == pytest.approx([plain_released(r.tolist(), BASE) for r in rows])

    def test_nothing_is_no_number(self):
        # 2 x 4950 pixels, none in the last bin: the search ends with 0 / 0
        row = [0] * 100
        row[0:98] = [101] * 98
        row[97] += 2 * 4950 - sum(row)
        assert released_thresholds(counted(row), BASE).item() == BASE


class TestMedianThresholds:
    def test_by_hand(self):
        # half of 100 pixels: 50 of the first 60; the 10th of the 60 in the second bin
        # of a gap in the middle, its lower end
        got = median_thresholds(counted([60, 40], [40, 60], [50, 0, 50], []), BASE)
        assert got.tolist() == pytest.approx([0.0083333, 0.0116667, 0.01, BASE], abs=1e-7)

    def test_base_is_the_least(self):
        assert median_thresholds(counted([60, 40]), 0.5).item() == 0.5

    def test_half_of_the_pixels_lie_below(self):
        logits = logits_of(2, b=4, k=3, h=50, w=60)
        uncertainty, predicted = scores(logits, entropy_unit(3, 5, "median"))
        everywhere = torch.ones_like(predicted, dtype=torch.bool)
        counts = histogram(uncertainty, predicted, everywhere, (3, BINS["median"]))
        thresholds = median_thresholds(counts, BASE)
        for c in range(3):
            of_class = uncertainty[predicted == c]
            assert thresholds[c].item() == pytest.approx(of_class.median().item(), abs=1e-3)


class TestLabels:
    def test_accepted_below_the_class_s_own_threshold(self):
        uncertainty = torch.tensor([[[0.1, 0.2, 0.3, 0.3]]])
        predicted = torch.tensor([[[0, 0, 1, 2]]])
        thresholds = torch.tensor([0.2, 0.4, math.inf])
        assert accept(uncertainty, predicted, thresholds).tolist() == [[[True, False, True, True]]]

    def test_only_background_changes(self):
        labels = torch.tensor([[[0, 0, 0, 4, 255]]])
        predicted = torch.tensor([[[2, 2, 0, 2, 2]]])
        accepted = torch.tensor([[[True, False, True, True, True]]])
        got = relabel(labels, labels == 0, predicted, accepted)
        assert got.tolist() == [[[2, 255, 0, 4, 255]]]


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return tiny.Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def previous(lists, tmp_path_factory):
    """A trained base model, as the stage before leaves it, made as sure as one of many epochs."""
    path = tmp_path_factory.mktemp("previous") / "model.safetensors"
    trainer = lists.prepare(tiny.plan("ft", epochs=4), "step0")
    tiny.run(trainer, path.with_name("resume.pt"))
    with torch.no_grad():
        trainer.segmenter.groups[0].classifier.weight *= 6
    checkpoint.save(path, trainer.segmenter, trainer.model, {})
    return path


def write(lists, model, out, rule, step_lists):
    request = LabelRequest(lists.dataset, step_lists, model, lambda batches, _: batches)
    Entropy(rule=rule, batch_size=3).write(out, request)
    return read_manifest(out)


def plain_labels(lists, listed, model, rule):
    """Yields annotation, score and prediction of each photograph, one at a time."""
    segmenter = checkpoint.load_model(model, tiny.CPU).segmenter
    total = len(listed.classes.names)
    table = listed.label_table()
    for name in listed.names:
        photograph = lists.dataset.photograph(name).astype(np.float32) / 255
        image = (photograph - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        with torch.no_grad():
            batch = torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None]
            logits = segmenter(batch).logits[0].double().numpy()
        score = np.array(
            [
                plain_score(pixel, total, rule)
                for pixel in logits.reshape(len(logits), -1).T.tolist()
            ]
        ).reshape(logits.shape[1:])
        yield name, table[lists.dataset.label(name)], score, logits.argmax(0)


class TestWrite:
    @pytest.mark.parametrize("rule", RULES)
    def test_images_and_manifest(self, lists, previous, tmp_path, rule):
        listed = lists.of("step1")
        manifest = write(lists, previous, tmp_path, rule, {"train": listed})
        seen = list(plain_labels(lists, listed, previous, rule))

        counts = np.zeros((3, BINS[rule]), np.int64)
        for _, annotated, score, predicted in seen:
            at = annotated == 0
            bins = (score[at] * BINS[rule]).astype(int).clip(0, BINS[rule] - 1)
            np.add.at(counts, (predicted[at], bins), 1)
        found = {"released": released_thresholds, "median": median_thresholds}[rule]
        expected = found(torch.tensor(counts), BASE).clamp(max=1).numpy()
        thresholds = [row["threshold"] for row in manifest["classes"]]
        assert thresholds == pytest.approx(expected, rel=1e-3)

        accepted = {c: 0 for c in range(3)}
        for name, annotated, score, predicted in seen:
            labels = lists.dataset.layout.raw(read(tmp_path / "train" / f"{name}.png"))
            sure = score < expected[predicted]
            want = np.where(annotated != 0, annotated, np.where(sure, predicted, 255))
            # scores within rounding of their threshold may fall either way
            assert (labels != want).mean() < 0.01
            for c in range(3):
                accepted[c] += int(((annotated == 0) & sure & (predicted == c)).sum())
        assert manifest["images"] == {"train": listed.names}
        assert manifest["background"] == counts.sum()
        assert [row["class"] for row in manifest["classes"]] == [
            name for names in listed.classes.names_by_step[:-1] for name in names
        ]
        assert [row["predicted"] for row in manifest["classes"]] == counts.sum(1).tolist()
        got = [row["accepted"] for row in manifest["classes"]]
        assert got == pytest.approx(list(accepted.values()), rel=0.01, abs=3)
        assert 0 < sum(got) < counts.sum()

    def test_exemplars_have_the_step_s_thresholds_and_keep_what_is_annotated(
        self, lists, previous, tmp_path
    ):
        train, memory = lists.of("step1"), lists.of("step1", "seen")
        alone = write(lists, previous, tmp_path / "a", "median", {"train": train})
        both = write(lists, previous, tmp_path / "b", "median", {"train": train, "memory": memory})
        assert [c["threshold"] for c in both["classes"]] == [
            c["threshold"] for c in alone["classes"]
        ]
        assert both["images"] == {"train": train.names, "memory": memory.names}
        assert both["background"] > alone["background"]
        table, differ = memory.label_table(), 0
        for name in memory.names:
            annotated = table[lists.dataset.label(name)]
            labels = read(tmp_path / "b" / "memory" / f"{name}.png")
            assert (labels[annotated != 0] == annotated[annotated != 0]).all()
            differ += int((labels[annotated == 0] != 0).sum())
        assert differ > 0

    def test_infinity_is_written_as_one_which_no_score_exceeds(
        self, lists, previous, tmp_path, monkeypatch
    ):
        monkeypatch.setitem(THRESHOLDS, "released", lambda of, _: torch.full((len(of),), math.inf))
        manifest = write(lists, previous, tmp_path, "released", {"train": lists.of("step1")})
        assert [row["threshold"] for row in manifest["classes"]] == [1, 1, 1]
        assert sum(row["accepted"] for row in manifest["classes"]) == manifest["background"]

    @pytest.mark.parametrize(("rule", "way"), [("released", "median"), ("median", "threshold")])
    def test_a_class_of_which_nothing_is_accepted_is_named(
        self, lists, previous, tmp_path, monkeypatch, rule, way
    ):
        listed = {"train": lists.of("step1")}
        monkeypatch.setitem(THRESHOLDS, rule, lambda of, _: torch.tensor([0.0, 1, 1]))
        with pytest.warns(InputWarning) as warned:
            manifest = write(lists, previous, tmp_path, rule, listed)
        count = manifest["classes"][0]["predicted"]
        (said,) = [str(w.message) for w in warned]
        assert said.startswith(
            f"no pixel is accepted that the previous model takes for background ({count} pixels): "
        )
        assert way in said

    def test_a_few_pixels_are_no_class(self, lists, previous, tmp_path, monkeypatch, recwarn):
        monkeypatch.setattr("cssegcore.method.pseudo_labels.entropy.LOST", 1.0)
        monkeypatch.setitem(THRESHOLDS, "median", lambda of, _: torch.zeros(len(of)))
        write(lists, previous, tmp_path, "median", {"train": lists.of("step1")})
        assert not [w for w in recwarn if w.category is InputWarning]


def read(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value"),
        [("threshold", -1.0), ("threshold", math.nan), ("threshold", math.inf), ("batch_size", 0)],
    )
    def test_number(self, name, value):
        recipe = {"part": "entropy", name: value}
        with pytest.raises(InputError, match=rf"`x`: `{name}`.*got {value}"):
            build_part("cssegcore.method.pseudo_labels", PseudoLabels, recipe, "x")

    def test_rule(self):
        recipe = {"part": "entropy", "rule": "mean"}
        with pytest.raises(InputError, match=r"`x\.rule` must be one of released, median"):
            build_part("cssegcore.method.pseudo_labels", PseudoLabels, recipe, "x")
