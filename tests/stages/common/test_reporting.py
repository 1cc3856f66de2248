import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from cssegcore.metrics.record import Evaluated
from stages.common.once import dvc_md5
from stages.common.params import read_params
from stages.common.reporting import log_run, open_tracked_run
from tests.helpers import tiny_dataset as scenes


class Told:
    """A run that keeps what it is told."""

    def __init__(self):
        self.points = {}
        self.steps = {}

    def metrics(self, values, *, step):
        self.points |= {(name, step): value for name, value in values.items()}

    def step(self, name):
        return self.steps.setdefault(name, Told())

    def artifacts(self, path, folder):
        pass

    def finish(self):
        pass


def test_a_finished_run_is_told_with_all_its_numbers(tmp_path):
    for index in range(2):
        step = tmp_path / f"step{index}"
        step.mkdir()
        matrix = np.arange(1, 3 * (index + 2) + 1).reshape(3, index + 2).tolist()
        record = Evaluated(
            step.name, index, ["background", "a", "b"], [0, 0, 1], index + 2, 9, matrix
        )
        (step / "confusion.json").write_text(json.dumps(vars(record)))
        (step / "epochs.csv").write_text("epoch,loss\n1,0.5\n")
    (step / "further.json").write_text('{"sharp": {"all": 12.5}, "alone": 3.25}')
    (step / "costs.json").write_text('{"trainable_weights": 7, "kept_bytes": {"exemplars": 9}}')
    told = Told()
    log_run(told, tmp_path, tmp_path, "background", {"step1": 4.5})
    assert told.points["sharp/all", 1] == 12.5
    assert told.points["alone", 1] == 3.25
    assert told.points["trainable_weights", 1] == 7
    assert told.points["kept_bytes/exemplars", 1] == 9
    assert told.steps["step1"].points["seconds", 0] == 4.5
    assert told.steps["step0"].points["seconds", 0] is None
    assert told.steps["step1"].points["kept_bytes/exemplars", 0] == 9
    names = {name for name, step in told.points if step == 0}
    assert names >= {"miou/all", "miou/new_nobg", "harmonic", "accuracy", "fw_iou"}
    assert not any(name.startswith(("sharp", "alone")) for name in names)


@pytest.fixture
def key(tmp_path, monkeypatch):
    """Opens the run of the folder as a stage does; returns the key that it is found by."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSSEGCORE_TRACKING", "later")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("params.yaml").write_text(yaml.safe_dump(scenes.composed()))
    for path, text in (("code/train.json", "{}"), ("split/step0/train.json", '[["a", "1"]]')):
        file = Path("work", path)
        file.parent.mkdir(parents=True)
        file.write_text(text)

    def ask():
        open_tracked_run(read_params(), Path("work/code")).close()
        (journal,) = Path(".cssegcore/tracking").glob("*.jsonl")
        opened = json.loads(journal.read_text().splitlines()[0])
        journal.unlink()
        return opened["key"]

    return ask


def test_other_images_are_another_run_and_the_same_ones_the_same(key):
    images = Path("work/split/step0/train.json")
    before = key()
    images.write_text('[["a", "2"]]')  # a label was corrected
    assert key() != before
    images.write_text('[["a", "1"]]')
    assert key() == before


def test_stages_find_one_run_though_not_all_lists_were_pulled(key):
    before, split = key(), Path("work/split")
    out = {"path": split.as_posix(), "hash": "md5", "md5": dvc_md5(split), "nfiles": 1}
    lock = {"schema": "2.0", "stages": {"split": {"cmd": "split", "outs": [out]}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    (split / "step0" / "train.json").unlink()
    assert key() == before
    Path("dvc.lock").write_text("[")
    assert key() != before
