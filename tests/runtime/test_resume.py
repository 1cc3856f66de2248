import hashlib
import json
import os
import subprocess
import sys
from fractions import Fraction

import pytest
import torch

from cssegcore.core.errors import InputError, InputWarning
from cssegcore.runtime.resume import ResumeFile
from tests.helpers import kill_points as kills
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU

STATE = {"model": {"w": torch.arange(300.0)}, "velocities": [None], "rows": [{"epoch": 1.0}]}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What became of trainings that were killed, by the moment."""
    folder = tmp_path_factory.mktemp("killed")
    root = scenes.make_scenes(tmp_path_factory.mktemp("data") / "dataset")
    project = scenes.Project(folder, root, "schedule.increment.epochs=10")
    environment = os.environ | {
        "CSSEGCORE_TRACKING": "off",
        "CSSEGCORE_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(scenes.HOME),
    }
    environment.pop("DVC_ROOT", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "environ", environment)
        before = [f"{stage}@step1" for stage in ("memory", "synthesize", "pseudo_label")]
        first = (*scenes.BEFORE_TRAINING, "train@step0")
        assert project.run(*first, *before).status == 0
    code = "from tests.helpers.kill_points import main; main()"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return json.loads((folder / "told.json").read_text())


@pytest.mark.slow
class TestKilled:
    MOMENTS = (*kills.MOMENTS, *(f"random {i}" for i in range(kills.RANDOM)))

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_the_result_is_that_of_a_training_never_killed(self, told, moment):
        assert told[moment]["digests"] == told["never"]["digests"]

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_the_state_stays_in_the_end(self, told, moment):
        assert told[moment]["statuses"][-1] == 0
        assert len(told[moment]["states"][-1]) == 1

    @pytest.mark.parametrize("moment", kills.MOMENTS)
    def test_it_was_killed_and_left_a_state_once_there_was_one(self, told, moment):
        assert told[moment]["statuses"][0] == -9
        assert len(told[moment]["states"][0]) == ("first" not in moment)


@pytest.fixture
def kept(project):
    """A project whose trainings leave their state behind, as DVC has not told of any result."""
    assert project.run(*scenes.BEFORE_TRAINING).status == 0
    return project


def states(project):
    return sorted((project.folder / kills.RESUME).glob("*.pt"))


def results(project):
    step = project.folder / "work" / "step0"
    return [(step / name).read_bytes() for name in ("model.safetensors", "epochs.csv")]


@pytest.mark.slow
class TestStage:
    def test_a_damaged_state_is_refused_by_name(self, kept):
        kept.run("train@step0")
        (path,) = states(kept)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        message = kept.run("train@step0").refusal()
        assert f"{path.name} is damaged: delete it" in message
        path.unlink()
        assert kept.run("train@step0").status == 0

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("steps.step0.lr", 0.011),
            ("steps.step0.epochs", 2),
            ("seed", 2),
            ("model.depth", 9),
            ("optimizer.momentum", 0.8),
            ("labels.void", "background"),
            ("augmentation.flip", 0.1),
            ("method.base.losses", {"ce": {"part": "ce", "average": "labelled"}}),
        ],
    )
    def test_another_recipe_starts_from_its_beginning(self, kept, key, value):
        kept.run("train@step0")
        (other,) = states(kept)
        kept.set(key, value)
        assert kept.run("train@step0").status == 0
        beside = results(kept)
        assert len(states(kept)) == 2
        for path in states(kept):
            path.unlink()
        kept.run("train@step0")
        assert results(kept) == beside
        assert other not in states(kept)

    @pytest.mark.parametrize(
        "changed", ["split/step0/train.json", "code/method.base.json", "none/model.safetensors"]
    )
    def test_other_inputs_start_from_their_beginning(self, kept, changed):
        kept.run("train@step0")
        path = kept.folder / "work" / changed
        path.write_text(path.read_text() + "\n")
        kept.run("train@step0")
        assert len(states(kept)) == 2

    def test_what_does_not_act_in_the_base_step_does_not_matter(self, kept):
        kept.run("train@step0")
        kept.set("method.losses.unbiased_kd.weight", 3)
        kept.set("steps.step1.lr", 0.5)
        kept.set("evaluation.examples", 2)
        kept.run("train@step0")
        assert len(states(kept)) == 1

    def test_a_finished_training_that_was_killed_is_not_trained_again(self, kept):
        kept.run("train@step0")
        before, (path,) = results(kept), states(kept)
        state = ResumeFile(path).load(CPU)
        state["rows"][0]["loss"] = 7.0  # to know it again
        ResumeFile(path).save(state)
        kept.run("train@step0")
        model, curve = results(kept)
        assert model == before[0]
        assert b"1,0.01,7" in curve or b",7," in curve

    def test_dvc_that_was_killed_before_it_had_the_result_costs_no_epoch(self, kept, monkeypatch):
        assert kept.run("train@step0").status == 0
        before = results(kept)
        for name in ("model.safetensors", "epochs.csv"):
            (kept.folder / "work" / "step0" / name).unlink()  # as DVC does before it runs a stage
        monkeypatch.setattr("cssegcore.training.trainer.Trainer.epoch", pytest.fail)
        again = kept.run("train@step0")
        assert again.status == 0
        (path,) = states(kept)
        assert (
            f"step0: trained before; the result is taken from .cssegcore/resume/{path.name}."
            in (again.out)
        )
        assert results(kept) == before

    def test_a_result_that_is_taken_has_no_memory_of_a_training(self, kept, monkeypatch):
        monkeypatch.setenv("CSSEGCORE_TRACKING", "later")
        told = []
        for _ in range(2):
            said = kept.run("train@step0").out
            journals = (kept.folder / ".cssegcore" / "tracking").glob("*.jsonl")
            told.append((sum(p.read_text().count("peak_memory_mib") for p in journals), said))
        assert [count for count, _ in told] == [1, 1]
        assert ["peak memory" in said for _, said in told] == [True, False]

    def test_a_result_that_dvc_has_is_safe_and_its_state_goes_later(self, kept, monkeypatch):
        assert kept.run("train@step0").status == 0
        digests = (hashlib.md5(content).hexdigest() for content in results(kept))
        lock = "".join(f"- md5: {digest}\n" for digest in digests)
        (kept.folder / "dvc.lock").write_text(lock)
        monkeypatch.setattr("stages.common.once.GRACE", -1)
        kept.run("saliency")
        assert len(states(kept)) == 1
        kept.run("saliency")
        assert list((kept.folder / kills.RESUME).iterdir()) == []


class TestFile:
    def test_round_trip(self, tmp_path):
        file = ResumeFile(tmp_path / "deep" / "s.pt")
        assert file.load(CPU) is None
        file.save(STATE)
        loaded = file.load(CPU)
        assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])
        assert {k: loaded[k] for k in ("velocities", "rows")} == {
            k: STATE[k] for k in ("velocities", "rows")
        }

    def test_a_save_that_fails_leaves_the_state_before(self, tmp_path):
        file = ResumeFile(tmp_path / "s.pt")
        file.save(STATE)
        before = file.path.read_bytes()
        with (
            scenes.disk_full_beyond(len(before) // 2),
            pytest.warns(InputWarning, match=r"cannot write .*s\.pt: File too large.* goes on"),
        ):
            file.save(STATE)
        assert [path.name for path in tmp_path.iterdir()] == ["s.pt"]
        assert file.path.read_bytes() == before

    def test_a_file_that_is_cut_off_anywhere(self, tmp_path):
        file = ResumeFile(tmp_path / "s.pt")
        file.save(STATE)
        whole = file.path.read_bytes()
        for length in [*range(0, len(whole), 37), len(whole) - 1]:
            file.path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=r"s\.pt is damaged: delete it") as refused:
                file.load(CPU)
            assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("content", [b"abc def", b"list", b"\x80\x02", b"half a file", b"]q."])
    def test_a_file_of_something_else(self, tmp_path, content):
        (tmp_path / "s.pt").write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            ResumeFile(tmp_path / "s.pt").load(CPU)

    def test_a_file_that_would_call_something(self, tmp_path):
        torch.save({"model": Fraction(1, 2)}, tmp_path / "s.pt")
        with pytest.raises(InputError, match="is damaged"):
            ResumeFile(tmp_path / "s.pt").load(CPU)
