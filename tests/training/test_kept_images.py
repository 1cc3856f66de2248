"""Trainings whose images do not all fit into memory."""

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import Dataset
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.hooks import Hooks
from tests.helpers.tiny_training import plan, run, state, whole

NEED = 2 * 2 * 5 * 24 * 24
"""Bytes of two batches of two images, decoded."""


def gibibytes(count):
    return f"{count / 2**30:.12f}"


@pytest.fixture
def decoded(monkeypatch):
    names, decode = [], Dataset.photograph
    monkeypatch.setattr(
        Dataset, "photograph", lambda d, name: names.append(name) or decode(d, name)
    )
    return names


def test_it_ends_the_same_whatever_fits_killed_and_resumed_or_not(
    lists, base, tmp_path, monkeypatch, decoded
):
    class KilledError(Exception):
        pass

    def die(row):
        raise KilledError(row)

    def started(memory):
        monkeypatch.setenv("CSSEGCORE_MEMORY", memory)
        decoded.clear()
        return lists.prepare(plan("mib", epochs=3), "step1", base)

    with_all, images = started("1"), len(lists.of("step1").images)
    result = run(with_all, tmp_path / "all")
    assert len(decoded) == images

    with_none = started(gibibytes(NEED + 1))
    assert run(with_none, tmp_path / "none").rows == result.rows
    assert len(decoded) >= images + 3 * (images // 2 * 2)
    assert state(with_none.segmenter) == state(with_all.segmenter)

    with pytest.raises(KilledError):
        started(gibibytes(NEED + 1)).train(ResumeFile(tmp_path / "killed"), Hooks(die, whole))
    resumed = started(gibibytes(NEED + 3 * 5 * 24 * 24))
    assert run(resumed, tmp_path / "killed").rows == result.rows
    assert state(resumed.segmenter) == state(with_all.segmenter)


def test_less_than_batches_take_is_refused_before_training(lists, monkeypatch, decoded):
    monkeypatch.setenv("CSSEGCORE_MEMORY", gibibytes(NEED - 1))
    said = (
        "step0: the images of a batch and of the next one take 0.01 MiB, and CSSEGCORE_MEMORY"
        r" leaves them 0.01 MiB: set it to 0.001 \(GiB\) or more"
    )
    with pytest.raises(InputError, match=said):
        lists.prepare(plan("ft"), "step0")
    assert not decoded


def test_if_nobody_sets_it_a_batch_is_not_too_much(lists, monkeypatch, tmp_path):
    monkeypatch.delenv("CSSEGCORE_MEMORY", raising=False)
    monkeypatch.setattr("cssegcore.runtime.memory.free_memory", lambda: 0)
    assert len(run(lists.prepare(plan("ft"), "step0"), tmp_path / "r").rows) == 2


def test_each_process_needs_its_share_of_a_batch(lists, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CSSEGCORE_MEMORY", gibibytes(NEED + 2))
    lists.prepare(plan("ft"), "step0")
    monkeypatch.setenv("CSSEGCORE_MEMORY", gibibytes(NEED - 4))
    with pytest.raises(InputError, match="a batch of each of 2 processes and of the next one"):
        lists.prepare(plan("ft"), "step0")
