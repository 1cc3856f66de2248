import numpy as np
import pytest

from cssegcore.core.errors import InputError
from cssegcore.inversion.finished_batches import FinishedBatches
from cssegcore.inversion.invert import InvertedBatch
from cssegcore.runtime.resume import ResumeFile
from tests.helpers import tiny_dataset as scenes


def batch(seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 3), np.uint8)
    return InvertedBatch(images, [{"iteration": 1.0, "lr": 0.1 + seed}])


@pytest.fixture
def state(tmp_path):
    return ResumeFile(tmp_path / "step1-synthesis.pt")


@pytest.fixture
def left(state):
    """Batches of a run that was killed."""
    finished = FinishedBatches(state)
    for at in range(3):
        assert finished.get(at, [1, 2]) is None
        finished.add(at, [1, 2], batch(at))
    return FinishedBatches(state)


class TestFinishedBatches:
    def test_every_batch_reads_back(self, left):
        for at in range(3):
            found = left.get(at, [1, 2])
            assert np.array_equal(found.images, batch(at).images)
            assert found.rows == batch(at).rows
        assert left.get(3, [1, 2]) is None

    def test_a_batch_is_written_once(self, state, left):
        before = {path: path.stat() for path in state.path.parent.iterdir()}
        left.add(3, [1, 2], batch(3))
        after = {path: path.stat() for path in state.path.parent.iterdir()}
        assert {path: after[path] for path in before} == before
        assert after.keys() - before.keys() == {state.batch(3).path}

    def test_a_batch_counts_for_the_classes_it_was_made_for(self, state, left):
        """A batch that is made again may be other images, and the next round's classes others."""
        assert left.get(2, [2, 1]) is None
        left.add(2, [2, 1], batch(12))
        again = FinishedBatches(state)
        assert again.get(2, [2, 1]).rows == batch(12).rows
        assert again.get(2, [1, 2]) is None
        state.batch(0).path.unlink()
        assert again.get(0, [1, 2]) is None
        assert again.get(1, [1, 2]).rows == batch(1).rows

    def test_a_full_disk_costs_one_batch(self, state):
        finished = FinishedBatches(state)
        finished.add(0, [1, 2], batch(0))
        with scenes.disk_full_beyond(5), pytest.warns(match="cannot write"):
            finished.add(1, [1, 2], batch(1))
        finished.add(2, [1, 2], batch(2))
        again = FinishedBatches(state)
        for at in (0, 2):
            assert np.array_equal(again.get(at, [1, 2]).images, batch(at).images)
        assert again.get(1, [1, 2]) is None

    def test_a_damaged_one_is_named(self, state, left):
        path = state.batch(1).path
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(
            InputError, match=r"step1-synthesis\.batch0001\.pt is damaged: delete it"
        ):
            left.get(1, [1, 2])
