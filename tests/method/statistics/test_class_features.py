import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method._old_regions import centre_pixels
from cssegcore.method.statistics import Statistic, StatisticContext
from cssegcore.method.statistics.class_features import ClassFeatures
from cssegcore.models.outputs import Features, Outputs

DEPTH, STRIDE, HEIGHT, WIDTH = 5, 4, 3, 4
RARE, NEVER = 3, 4
"""New classes of the increment: one sampled pixel in all, none."""


def context(num_old=1, added=2, before=None, iterations=3):
    index = int(num_old > 1)
    outputs = num_old + added
    return StatisticContext(index, {}, outputs, num_old, DEPTH, before, DEPTH, iterations)


def batches(seed, count, classes, num_old=1):
    """Outputs whose middle pixels have labels of their own; the pixels around them mislead."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        top = torch.tensor(rng.random((2, DEPTH, HEIGHT, WIDTH)), dtype=torch.float32)
        labels = rng.integers(0, 9, (2, STRIDE * HEIGHT, STRIDE * WIDTH))
        middle = np.s_[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        labels[middle] = rng.choice([0, *classes, 255], (2, HEIGHT, WIDTH))
        drawn = rng.normal(0, 1, (2, num_old, *labels.shape[1:]))
        logits = torch.tensor(drawn, dtype=torch.float32)
        logits[:, 0] = 1e3  # the background's place, which nobody may read
        yield Outputs(logits, logits, Features((), top, top)), torch.tensor(labels)


def middles(labels):
    return labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].numpy()


def vectors_of(seen, output):
    """Lists the feature vectors of an output's sampled pixels, in float64."""
    return [
        outputs.features.decoder_out[at, :, y, x].double().numpy()
        for outputs, labels in seen
        for at, y, x in zip(*np.nonzero(middles(labels) == output), strict=True)
    ]


def plain_rows(vectors, origin=None):
    """Returns prototype, lengths' mean and deviation, and spread of a class, from its vectors."""
    if not vectors:
        return np.zeros(DEPTH), 0.0, 0.0, np.zeros(DEPTH)
    lengths = [math.sqrt((v**2).sum()) for v in vectors]
    directions = [v / n for v, n in zip(vectors, lengths, strict=True)]
    prototype = np.sum(directions, 0) / np.linalg.norm(np.sum(directions, 0))
    deviation = np.std(lengths, ddof=1) if len(lengths) > 1 else 0.0
    from_ = prototype if origin is None else origin
    spread = np.sqrt(np.mean([(d - from_) ** 2 for d in directions], 0))
    return prototype, np.mean(lengths), deviation, spread


def plain_predicted(seen, num_old, threshold=0.5):
    counts = [0] * num_old
    for outputs, labels in seen:
        logits = outputs.logits[:, 1:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].numpy()
        for at, y, x in zip(*np.nonzero(middles(labels) == 0), strict=True):
            best = int(np.argmax(logits[at, :, y, x]))
            counts[best + 1 if logits[at, best, y, x] > threshold else 0] += 1
    return counts


@pytest.fixture(scope="module")
def base():
    """What a base step of two classes saves, and the batches it saw."""
    seen = list(batches(0, 3, (1, 2)))
    accumulator = ClassFeatures().start(context())
    accumulator.conclude(iter(seen))
    return seen, accumulator.result()


class TestMeasured:
    def test_base_step_against_plain_loops(self, base):
        seen, saved = base
        for row, output in enumerate((1, 2)):
            prototype, mean, deviation, spread = plain_rows(vectors_of(seen, output))
            assert np.allclose(saved["prototypes"][row], prototype, atol=1e-6)
            assert np.allclose(saved["norms"][:, row], [mean, deviation], atol=1e-6)
            assert np.allclose(saved["spread"][row], spread, atol=1e-6)
        want = [len(vectors_of(seen, output)) for output in range(3)]
        assert saved["counts"].tolist() == want
        assert min(want) > 1

    def test_a_class_costs_2_d_and_3_numbers(self, base):
        numbers = sum(value.numel() for value in base[1].values())
        assert numbers == 2 * (2 * DEPTH + 2 + 1) + 1

    @pytest.mark.parametrize("spread", ["intended", "released"])
    def test_an_increment_adds_rows_and_hands_old_ones_on(self, base, spread):
        seen = list(batches(1, 3, (RARE, 5), num_old=3))
        rare = [(outputs, labels.clone()) for outputs, labels in seen]
        for _, labels in rare:
            labels[labels == RARE] = 255
        rare[1][1][0, STRIDE // 2, STRIDE // 2] = RARE
        accumulator = ClassFeatures(spread).start(context(3, 3, base[1]))
        accumulator.conclude(iter(rare))
        saved = accumulator.result()
        assert torch.equal(saved["prototypes"][:2], base[1]["prototypes"])
        assert torch.equal(saved["norms"][:, :2], base[1]["norms"])
        assert torch.equal(saved["spread"][:2], base[1]["spread"])
        table = saved["prototypes"].double().numpy()
        for row, output in enumerate((RARE, NEVER, 5)):
            vectors = vectors_of(rare, output)
            origin = table[row] if spread == "released" else None
            prototype, mean, deviation, spread_ = plain_rows(vectors, origin)
            assert np.allclose(saved["prototypes"][2 + row], prototype, atol=1e-6)
            assert np.allclose(saved["norms"][:, 2 + row], [mean, deviation], atol=1e-6)
            assert np.allclose(saved["spread"][2 + row], spread_, atol=1e-6)
            assert saved["counts"][3 + row] == len(vectors)
        assert saved["counts"][3:5].tolist() == [1, 0]

    def test_in_the_base_step_both_spreads_are_the_same(self, base):
        seen, saved = base
        accumulator = ClassFeatures("released").start(context())
        accumulator.conclude(iter(seen))
        assert torch.equal(accumulator.result()["spread"], saved["spread"])

    def test_silent_features_give_zeros(self):
        ((outputs, labels),) = batches(2, 1, (1, 2))
        top = torch.zeros_like(outputs.features.decoder_out)
        silent = Outputs(outputs.logits, outputs.logits, Features((), top, top))
        accumulator = ClassFeatures().start(context())
        accumulator.conclude(iter([(silent, labels)]))
        saved = accumulator.result()
        assert all((saved[name] == 0).all() for name in ("prototypes", "norms", "spread"))

    def test_middle_pixels_are_those_published(self):
        at = torch.arange(64).expand(48, 64)
        assert centre_pixels(at, (3, 4))[0].tolist() == [8, 24, 40, 56]
        assert centre_pixels(at.T, (4, 3))[:, 0].tolist() == [8, 24, 40, 56]


def plain_schedule(part, counts, predicted, added, iterations):
    """The formulas of the specification, number by number."""
    n, b = len(counts) - 1, counts[0]
    if part.setting == "disjoint":
        rate = [int(counts[c] / iterations) for c in range(1, n + 1)]
        extra = b / predicted[0]
        after = [predicted[0] + b, *(counts[c] + predicted[c] for c in range(1, n + 1))]
    else:
        b = b * (1 - part.future_share * added)
        rate = [max(0, int((counts[c] - predicted[c]) / iterations)) for c in range(1, n + 1)]
        extra = max(0, b / predicted[0] - part.shared_background)
        after = [part.shared_background * predicted[0] + b, *counts[1:]]
    return rate, extra, after


class TestSchedule:
    @pytest.mark.parametrize(
        "part",
        [
            ClassFeatures(),
            ClassFeatures(setting="disjoint"),
            ClassFeatures(setting="partitioned", future_share=0.2, shared_background=0.25),
        ],
    )
    def test_a_pass_of_the_old_model_decides_what_is_replayed(self, base, part):
        seen = list(batches(3, 4, (3, 4), num_old=3))
        accumulator = part.start(context(3, 2, base[1]))
        assert len(accumulator.state["replayed"]) == 0
        accumulator.prepare(iter(seen))
        state, predicted = accumulator.state, plain_predicted(seen, 3)
        assert state["predicted"].tolist() == predicted
        assert min(predicted) > 0
        counts = base[1]["counts"].tolist()
        rate, extra, after = plain_schedule(part, counts, predicted, 2, 3)
        assert state["replayed"].tolist() == [c for c in (0, 1) for _ in range(rate[c])]
        assert state["extra_background"].item() == pytest.approx(extra)
        accumulator.conclude(iter(seen))
        told = accumulator.result()["counts"].tolist()
        assert told[:3] == pytest.approx(after)
        assert told[3:] == [len(vectors_of(seen, output)) for output in (3, 4)]

    def test_the_threshold_is_on_the_raw_logit(self, base):
        seen = list(batches(4, 4, (3,), num_old=3))
        accumulator = ClassFeatures(raw_threshold=0.0).start(context(3, 2, base[1]))
        accumulator.prepare(iter(seen))
        assert accumulator.state["predicted"].tolist() == plain_predicted(seen, 3, 0)
        assert plain_predicted(seen, 3, 0) != plain_predicted(seen, 3, 0.5)

    def test_what_is_always_seen_is_not_replayed_and_no_background_weighs_nothing(self):
        part = ClassFeatures()
        counts, predicted = torch.tensor([7.0, 5, 10]), torch.tensor([0, 8, 1])
        schedule = part.replay_schedule(counts, predicted, 1, 2)
        assert schedule.per_iteration.tolist() == [0, 4]
        assert schedule.extra_background == 0

    def test_a_class_that_never_was_seen_is_not_replayed(self, base):
        before = {**base[1], "prototypes": base[1]["prototypes"].clone()}
        before["prototypes"][0] = 0
        accumulator = ClassFeatures(setting="disjoint").start(context(3, 2, before, iterations=1))
        accumulator.prepare(iter([]))
        assert set(accumulator.state["replayed"].tolist()) == {1}

    def test_a_resumed_training_has_the_same(self, base):
        seen = list(batches(5, 4, (3, 4), num_old=3))
        whole = ClassFeatures().start(context(3, 2, base[1]))
        whole.prepare(iter(seen))
        resumed = ClassFeatures().start(context(3, 2, base[1]))
        resumed.state = {name: value.clone() for name, value in whole.state.items()}
        for accumulator in (whole, resumed):
            accumulator.conclude(iter(seen))
        for one, other in ((whole.state, resumed.state), (whole.result(), resumed.result())):
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[name]) for name, value in one.items())


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (
                {},
                "Step 1 needs `prototypes` of the old classes.*`class_features` in `method.base.st",
            ),
            ({"spread": torch.zeros(2, 4)}, r"`spread` of .* \(2, 5\), and .* \(2, 4\): train"),
            ({"counts": torch.zeros(4)}, r"`counts` of .* \(3,\), and .* \(4,\): train"),
        ],
    )
    def test_what_the_step_before_saved_must_fit(self, base, changed, message):
        before = {**base[1], **changed} if changed else None
        with pytest.raises(InputError, match=message):
            ClassFeatures().start(context(3, 1, before))

    @pytest.mark.parametrize(
        ("numbers", "message"),
        [
            ({"spread": "other"}, r"`x\.spread` must be one of intended, released; got 'other'"),
            ({"setting": "sequential"}, r"`setting` 'sequential'.*to disjoint or overlapped"),
            ({"future_share": 2}, r"`future_share` must lie in \[0, 1\], got 2"),
            ({"shared_background": -1}, r"`shared_background` must lie in \[0, 1\], got -1"),
            ({"raw_threshold": math.nan}, r"`raw_threshold` must be a finite number >= 0, got nan"),
        ],
    )
    def test_wrong_numbers_are_refused(self, numbers, message):
        recipe = {"part": "class_features", **numbers}
        with pytest.raises(InputError, match=message):
            build_part("cssegcore.method.statistics", Statistic, recipe, "x")
