"""Benches whose work takes seconds when little is measured are run to their end, as commands."""

import pytest

from cssegcore.data.shapes import make_dataset
from tests.helpers.tiny_dataset import HOME, run_module

pytestmark = pytest.mark.slow

LITTLE = ("-S", "augmentation.size=32", "-S", "optimizer.batch_size=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The override that has a bench read a small dataset."""
    root = tmp_path_factory.mktemp("data") / "data"
    make_dataset(root, seed=0, train=24, val=8, size=32)
    return "-S", f"dataset.root={root}"


def said(monkeypatch, *words):
    monkeypatch.chdir(HOME)
    monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
    outcome = run_module(*words)
    assert outcome.status == 0, outcome.err
    return outcome.out


def test_losses(monkeypatch):
    table = said(
        monkeypatch, "bench.losses", "--size", "64", "--batch", "1", "--turns", "2", "--processor"
    )
    assert "Local POD" in table


def test_loader(monkeypatch):
    drawn = ("--photographs", "32x32", "--count", "4", "--turns", "2", "--iterations", "1")
    table = said(monkeypatch, "bench.loader", "--processor", *drawn, *LITTLE)
    assert "kept decoded, batch 2, 32 x 32" in table


def test_train_step(monkeypatch, data):
    turns = ("--iterations", "1", "--turns", "2")
    table = said(monkeypatch, "bench.train_step", "--methods", "ft", "mib", *turns, *LITTLE, *data)
    assert "mib" in table


def test_sweep(monkeypatch, data):
    methods = ("--methods", "ft", "mib")
    scenario = ("-S", "scenario=shapes/4-2")
    table = said(monkeypatch, "bench.sweep", *methods, *scenario, *data)
    assert "saved" in table
