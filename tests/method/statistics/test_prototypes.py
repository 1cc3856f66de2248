import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.statistics import Statistic, StatisticContext
from cssegcore.method.statistics.prototypes import Prototypes, update_prototypes, without_background
from cssegcore.models.outputs import Features, Outputs

DEPTH = 5
SETTINGS = ("overlapped", "disjoint", "sequential")


def scene(index=0, outputs=4, num_old=1, before=None):
    return StatisticContext(index, {}, outputs, num_old, DEPTH, before)


def batches(seed, count, classes, dtype=torch.float32):
    """Photographs twice as large as their features: the left upper pixel of four is the label."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        body = torch.tensor(rng.random((2, DEPTH, 3, 4)), dtype=dtype, requires_grad=True)
        labels = rng.choice([*range(classes), 255], (2, 6, 8))
        labels[:, 0, 0] = 0
        labels[0, 0, 2] = classes - 1
        logits = torch.zeros(2, classes, 6, 8)
        yield Outputs(logits, logits, Features((), body, body)), torch.tensor(labels)


def plain_means(seen, classes, left_out=(255,)):
    """The mean of every feature vector ever seen of each class."""
    means, counts = np.zeros((classes, DEPTH)), np.zeros(classes, int)
    for c in set(range(classes)) - set(left_out):
        found = [
            outputs.features.last_stage[i, :, y, x].detach().double().numpy()
            for outputs, labels in seen
            for i in range(2)
            for y in range(3)
            for x in range(4)
            if labels[i, 2 * y, 2 * x] == c
        ]
        if found:
            means[c], counts[c] = np.mean(found, 0), len(found)
    return means, counts


def shown(accumulator, seen):
    for outputs, labels in seen:
        accumulator.update_batch(outputs, labels)
    return accumulator


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_of_all_that_was_seen(setting, index, dtype):
    seen = list(batches(index, 5, 4, dtype))
    left_out = {"overlapped": {0}, "disjoint": {0} if index else set(), "sequential": set()}
    with torch.autocast("cpu", torch.bfloat16):
        state = shown(Prototypes(setting=setting).start(scene(index)), seen).state
    means, counts = plain_means(seen, 4, left_out[setting] | {255})
    assert state["means"].dtype == torch.float32
    assert state["means"].numpy() == pytest.approx(means, rel=1e-5)
    assert state["counts"].dtype == torch.int64
    assert np.array_equal(state["counts"], counts)
    assert not state["means"].requires_grad


def test_old_classes_go_on_and_new_ones_start():
    first = shown(Prototypes(setting="sequential").start(scene(outputs=3)), batches(0, 2, 3))
    saved = first.result()
    second = Prototypes(setting="sequential").start(scene(1, 5, 3, saved))
    assert torch.equal(second.state["means"][:3], saved["means"])
    assert (second.state["means"][3:] == 0).all()
    assert second.state["counts"].tolist() == [*saved["counts"].tolist(), 0, 0]
    both = [*batches(0, 2, 3), *batches(1, 2, 5)]
    means, counts = plain_means(both, 5)
    state = shown(second, batches(1, 2, 5)).state
    assert state["means"].numpy() == pytest.approx(means, rel=1e-5)
    assert np.array_equal(state["counts"], counts)
    assert torch.equal(saved["means"], first.state["means"])  # the file of the step before
    assert second.previous is saved


def test_prototypes_stay_where_their_classes_hide():
    before = {"means": torch.rand(3, DEPTH), "counts": torch.tensor([7, 8, 9])}
    accumulator = Prototypes(setting="disjoint").start(scene(1, 4, 3, before))
    for outputs, labels in batches(2, 2, 4):
        accumulator.update_batch(outputs, torch.where(labels == 3, 3, 0))
    assert torch.equal(accumulator.state["means"][:3], before["means"])
    assert accumulator.state["counts"][:3].tolist() == [7, 8, 9]
    assert accumulator.state["counts"][3] > 0


def test_a_gathering_goes_on_where_another_stopped():
    seen = list(batches(3, 4, 4))
    whole = shown(Prototypes().start(scene()), seen)
    half = {k: v.clone() for k, v in shown(Prototypes().start(scene()), seen[:2]).state.items()}
    resumed = Prototypes().start(scene())
    resumed.state = half
    shown(resumed, seen[2:])
    assert all(torch.equal(v, whole.state[k]) for k, v in resumed.state.items())


def test_many_pixels_cost_no_digits():
    means, counts = torch.full((1, 1), 0.3), torch.tensor([300_000_000])
    features, labels = torch.full((1, 1, 1, 1000), 0.3), torch.zeros(1, 1, 1000, dtype=torch.int64)
    for _ in range(50):
        means, counts = update_prototypes(means, counts, features, labels)
    assert means.item() == pytest.approx(0.3, rel=2e-7)
    assert counts.item() == 300_050_000


def test_nothing_labelled_changes_nothing():
    before = {"means": torch.rand(3, DEPTH), "counts": torch.tensor([7, 8, 0])}
    for gather in ("intended", "released"):
        accumulator = Prototypes(gather).start(scene(1, 4, 3, before))
        for label in (255, 0):
            for outputs, labels in batches(4, 1, 4):
                accumulator.update_batch(outputs, torch.full_like(labels, label))
        assert torch.equal(accumulator.state["means"][:3], before["means"])
        assert accumulator.state["counts"].tolist() == [7, 8, 0, 0]


class TestReleased:
    def test_first_batch_of_the_published_example(self):
        """Class 4 of two images, by the released code and by what it means."""
        at = np.arange(1, 65)
        features = torch.tensor(np.abs(np.sin(0.9 * at)).reshape(2, 8, 2, 2))
        labels = torch.tensor([[[0, 0], [0, 4]], [[0, 4], [0, 4]]])
        nothing = torch.zeros(6, 8, dtype=torch.float64), torch.zeros(6, dtype=torch.int64)
        expected = {
            "released": [0.73904, 0.6993, 0.43245, 0.72483, 0.52577, 0.62469, 0.68807, 0.70251],
            "intended": [0.66788, 0.7118, 0.67589, 0.73372, 0.64005, 0.50363, 0.52019, 0.68351],
        }
        for gather, row in expected.items():
            means, counts = update_prototypes(*nothing, features, labels, gather)
            assert means[4].tolist() == pytest.approx(row, abs=6e-6)
            assert counts.tolist() == [5, 0, 0, 0, 3, 0]

    def test_drops_the_smallest_class_of_a_batch_without_background(self):
        labels = torch.tensor([[[2, 3, 255]]])
        assert without_background(labels, "overlapped", 0).tolist() == [[[2, 3, 255]]]
        got = without_background(labels, "overlapped", 0, "released")
        assert got.tolist() == [[[255, 3, 255]]]

    @pytest.mark.parametrize("gather", ["intended", "released"])
    def test_which_settings_drop_background(self, gather):
        labels = torch.tensor([[[0, 3]]])
        dropped = {
            (s, i): without_background(labels, s, i, gather).tolist() == [[[255, 3]]]
            for s in SETTINGS
            for i in (0, 1)
        }
        assert [at for at, is_so in dropped.items() if is_so] == [
            ("overlapped", 0),
            ("overlapped", 1),
            ("disjoint", 1),
        ]


def saved(means, counts):
    return {"means": torch.zeros(means), "counts": torch.zeros(counts, dtype=torch.int64)}


class TestRefusals:
    @pytest.mark.parametrize(
        ("before", "message"),
        [
            (
                None,
                "Step 2 needs `means` of the old classes.*`prototypes` in `method.base.statistics`",
            ),
            (
                {"means": torch.zeros(3, 9), "counts": torch.zeros(3)},
                r"`means`.*\(3, 5\).*\(3, 9\)",
            ),
            (
                {"means": torch.zeros(2, 5), "counts": torch.zeros(2)},
                r"`means`.*\(3, 5\).*\(2, 5\)",
            ),
            ({"means": torch.zeros(3, 5), "counts": torch.zeros(2)}, r"`counts`.*\(3,\).*\(2,\)"),
        ],
    )
    def test_what_the_step_before_saved_must_fit(self, before, message):
        with pytest.raises(InputError, match=message):
            Prototypes().start(scene(2, 4, 3, before))

    @pytest.mark.parametrize("key", ["gather", "setting"])
    def test_numbers(self, key):
        with pytest.raises(InputError, match=rf"`x\.{key}` must be one of"):
            build_part(
                "cssegcore.method.statistics", Statistic, {"part": "prototypes", key: "other"}, "x"
            )
