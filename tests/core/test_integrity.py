"""Files that carry results: every bit is as it was written, or it is said; none is half there."""

import dataclasses
import fcntl
import functools
import json
import os
import random
import re
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cssegcore.core import files
from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.files import (
    read_manifest,
    replacing,
    write_json,
    write_manifest,
    write_text,
)
from cssegcore.core.training_files import (
    read_costs,
    read_timing,
    write_curve_and_costs,
    write_timing,
)
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry, read_index, write_index
from cssegcore.evaluation.folder import read_evaluation, seal_files, write_nothing
from cssegcore.metrics.record import Evaluated
from cssegcore.models import checkpoint
from cssegcore.models.checkpoint import KEY, Model
from cssegcore.runtime.resume import ResumeFile
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU, LINEAR, MODEL, new_segmenter

pytestmark = pytest.mark.slow

KNOWN = Model(
    "step1", MODEL, LINEAR, None, ClassTable.of([["background", "red"], ["grün"]], [[0, 2], [1]])
)
STATE = {"model": {"w": torch.arange(300.0)}, "velocities": [None], "rows": [{"epoch": 1.0}]}


def flipped(content, count, seed=0):
    """Yields the content with one bit flipped, in places all over it."""
    rng = random.Random(seed)
    for at in rng.sample(range(8 * len(content)), count):
        spoilt = bytearray(content)
        spoilt[at // 8] ^= 1 << at % 8
        yield bytes(spoilt)


def test_no_flipped_bit_of_a_resume_file_passes(tmp_path):
    file = ResumeFile(tmp_path / "s.pt")
    file.save(STATE)
    for content in flipped(file.path.read_bytes(), 300):
        file.path.write_bytes(content)
        with pytest.raises(InputError, match=r"s\.pt is damaged: delete it"):
            file.load(CPU)


def test_no_flipped_bit_of_a_model_passes(tmp_path):
    path = tmp_path / "model.safetensors"
    statistics = {"fisher": {"w": torch.arange(40.0)}, "counts": {"n": torch.tensor([3, 2**40])}}
    checkpoint.save(path, new_segmenter([2, 1]), KNOWN, statistics)
    said = set()
    for content in flipped(path.read_bytes(), 300):
        path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            checkpoint.load_model(path, CPU)
        line = str(refused.value)
        assert str(path) in line
        assert "\n" not in line
        said.add("is damaged" in line)
    assert True in said


def spoilt_anywhere(path, read, count=200):
    """Counts what is refused when bits of a file flip; all else must be read as it was."""
    content, wanted, said = path.read_bytes(), read(), []
    for spoilt in flipped(content, count):
        path.write_bytes(spoilt)
        try:
            found = read()
        except InputError as error:
            said.append(str(error))
            continue
        assert found == wanted
    path.write_bytes(content)
    assert all(str(path) in line and "\n" not in line for line in said)
    return len(said)


class TestStagesOwnFiles:
    def test_a_manifest(self, tmp_path):
        write_manifest(tmp_path, {"images": {"train": ("t0", "t1")}, "share": 0.25, "1": None})
        read = functools.partial(read_manifest, tmp_path)
        assert read() == {"images": {"train": ["t0", "t1"]}, "share": 0.25, "1": None}
        assert spoilt_anywhere(tmp_path / "manifest.json", read) > 150

    def test_a_list_of_images(self, tmp_path):
        path = tmp_path / "train.json"
        ImageList("step1", 1, KNOWN.classes, [1], [["t0", "5f"], ["grün", "6e"]]).write(path)
        assert spoilt_anywhere(path, functools.partial(ImageList.read, path)) > 150

    def test_an_index(self, tmp_path):
        path = tmp_path / "index.csv"
        entries = [Entry(name, ("train", "val"), "5f", 3, 4, 0, (7, 5)) for name in ("t0", "t1")]
        write_index(path, entries, ["background", "grün"])
        read = functools.partial(read_index, path)
        assert read() == (entries, ("background", "grün"))
        assert spoilt_anywhere(path, read) > 150
        whole = path.read_text()
        for lines in range(4):  # as if the rest of the file had never come to the disk
            path.write_text("".join(whole.splitlines(keepends=True)[:lines]))
            with pytest.raises(InputError, match=r"index\.csv is damaged"):
                read()

    @pytest.mark.parametrize("name", ["costs.json", "epochs.csv"])
    def test_costs_and_the_curve(self, tmp_path, name):
        curve, costs = tmp_path / "epochs.csv", tmp_path / "costs.json"
        spent = {"trainable_weights": 7, "kept_bytes": {"exemplars": 900}}
        write_curve_and_costs(curve, [{"epoch": 1, "loss": 0.5}], costs, spent)
        read = functools.partial(read_costs, costs, curve)
        assert read() == spent
        flips = min(200, 8 * (tmp_path / name).stat().st_size)
        assert spoilt_anywhere(tmp_path / name, read, flips) == flips
        curve.unlink()
        with pytest.raises(InputError, match=r"epochs\.csv cannot be read .*: run `dvc checkout`"):
            read()

    def test_seconds(self, tmp_path):
        write_timing(tmp_path / "timing.json", 61.5, {"device": "cpu"})
        read = functools.partial(read_timing, tmp_path / "timing.json")
        assert read() == 61.5
        assert spoilt_anywhere(tmp_path / "timing.json", read) > 150

    @pytest.mark.parametrize("text", ["", "[" * 90000, "[]", "7", "{}", '{"seconds": "x"}'])
    def test_seconds_of_another_shape(self, tmp_path, text):
        path = tmp_path / "timing.json"
        path.write_text(text)
        with pytest.raises(InputError, match=r"timing\.json .*: run `dvc checkout`, or delete it"):
            read_timing(path)

    def test_costs_of_before_there_were_digests(self, tmp_path):
        write_text(tmp_path / "epochs.csv", "epoch,loss\n1,0.5\n")
        write_json(tmp_path / "costs.json", {"trainable_weights": 7})
        assert read_costs(tmp_path / "costs.json", tmp_path / "epochs.csv") == {
            "trainable_weights": 7
        }

    def test_an_evaluation(self, tmp_path):
        record = Evaluated("step0", 0, ["background", "red"], [0, 0], 2, 1, [[3, 1], [0, 5]])
        content = dataclasses.asdict(record)
        write_json(tmp_path / "step0/confusion.json", content)
        write_json(tmp_path / "step0/further.json", {"sharp": {"all": 0.5}})
        write_text(tmp_path / "step0/epochs.csv", "epoch,lr,loss\n1,0.1,2.5\n")
        write_text(tmp_path / "step0/examples/a.photo.jpg", "pixels")
        write_nothing(tmp_path)
        left = tmp_path / f"step0/{files.TEMPORARY}left"  # by a process that was killed
        left.write_text("half")
        seal_files(tmp_path)
        left.unlink()
        read = functools.partial(read_evaluation, tmp_path)
        assert read().records == [record]
        for path in sorted(tmp_path.glob("step0/**/*.*")):
            assert spoilt_anywhere(path, read, 40) == 40
        (tmp_path / "step0/further.json").unlink()
        with pytest.raises(InputError, match=r"further\.json .*`dvc repro -f evaluate@step0`"):
            read()

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b'{"images": 7}', b'{"images": "[1]"}', b"\xff"]
    )
    def test_a_table_of_code(self, project, content):
        assert project.run("check", "index").status == 0
        (project.folder / "work/code/split.json").write_bytes(content)
        assert "work/code/split.json is damaged: run" in project.run("split").refusal()


@pytest.mark.parametrize("cell", ["1.2.3", "x", "0x1"])
def test_a_curve_of_words_is_one_line(tmp_path, cell):
    record = Evaluated("step0", 0, ["background", "red"], [0, 0], 2, 1, [[3, 1], [0, 5]])
    write_json(tmp_path / "step0/confusion.json", dataclasses.asdict(record))
    write_text(tmp_path / "step0/epochs.csv", f"epoch,loss\n1,{cell}\n")
    with pytest.raises(InputError, match=r"epochs\.csv is damaged \(.*\); train the step again"):
        read_evaluation(tmp_path)


def test_a_model_without_a_digest_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, new_segmenter([2, 1]), KNOWN, {})
    with checkpoint.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[KEY])
    del about["digest"]
    save_file(load_file(path), path, {KEY: json.dumps(about)})
    with pytest.raises(InputError, match=r"has no digest of its content: .* Run `dvc repro`"):
        checkpoint.load_model(path, CPU)


@pytest.mark.parametrize(
    "about", ["{", "[]", "7", '{"digest": 1}', '{"digest": null}', "[" * 90000]
)
def test_a_description_of_another_shape_is_one_line(tmp_path, about):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(2)}, path, {KEY: about})
    with pytest.raises(InputError) as refused:
        checkpoint.load_model(path, CPU)
    assert str(refused.value).count("\n") == 0


def test_a_digest_tells_what_differs(tmp_path):
    made, path = new_segmenter([2, 1]), tmp_path / "m.safetensors"

    def saved(model=KNOWN, statistics=None):
        checkpoint.save(path, made, model, statistics or {})
        return checkpoint.load_model(path, CPU).digest

    zeros = torch.zeros(4)
    alike = [{"s": {"a": v}} for v in (zeros, zeros.view(2, 2), zeros.int())]
    found = [saved(), *(saved(statistics=s) for s in alike), saved(statistics={"s": {"b": zeros}})]
    other = Model("step2", MODEL, LINEAR, None, KNOWN.classes)
    found.append(saved(other))
    assert len(set(found)) == len(found)
    assert saved() == found[0]


def test_a_full_disk_under_the_scratch_folder_ends_no_training(project, monkeypatch):
    assert project.run(*scenes.BEFORE_TRAINING).status == 0
    project.set("steps.step0.epochs", 3)
    assert project.run("train@step0").status == 0
    model = project.folder / "work/step0/model.safetensors"
    expected = model.read_bytes()
    model.unlink()
    for path in (project.folder / ".cssegcore" / "resume").iterdir():
        path.unlink()

    full = OSError(28, "No space left on device")
    make = files.tempfile.mkstemp

    def mkstemp(dir, **named):
        if ".cssegcore" in str(dir):
            raise full
        return make(dir=dir, **named)

    monkeypatch.setattr("tempfile.mkstemp", mkstemp)
    outcome = project.run("train@step0")
    assert outcome.status == 0
    told = [line for line in outcome.err.splitlines() if "cannot write" in line]
    assert len(told) == 1
    assert re.match(r"warning: cannot write \.cssegcore/resume/.*No space.*goes on", told[0])
    assert ".py" not in outcome.err
    assert model.read_bytes() == expected


class TestReplacing:
    def test_the_content_is_on_the_disk_before_the_name_and_the_name_after(
        self, tmp_path, monkeypatch
    ):
        told = []
        sync, replace = os.fsync, Path.replace

        def fsync(handle):
            told.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "content")
            sync(handle)

        def renamed(path, other):
            told.append("name")
            return replace(path, other)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", renamed)
        write_text(tmp_path / "a", "x")
        assert told == ["content", "name", "folder"]
        told.clear()
        with replacing(tmp_path / "b", durable=False) as temporary:
            temporary.write_text("x")
        assert told == ["name"]

    def test_what_killed_processes_left_is_removed(self, tmp_path):
        left = tmp_path / f"{files.TEMPORARY}left"
        held, fresh = (tmp_path / f"{files.TEMPORARY}{name}" for name in ("held", "fresh"))
        for path in (left, held, fresh):
            path.write_text("half")
        before = time.time() - 2 * files.ABANDONED
        for path in (left, held):
            os.utime(path, (before, before))
        with held.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            write_text(tmp_path / "a", "x")
        assert {path.name for path in tmp_path.iterdir()} == {"a", held.name, fresh.name}

    def test_a_running_one_s_is_locked(self, tmp_path):
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("x")
            with temporary.open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_long_names_leave_room_for_a_temporary_one(self, tmp_path):
        name = "猫" * 83 + ".png"
        write_text(tmp_path / name, "x")
        assert [path.name for path in tmp_path.iterdir()] == [name]
