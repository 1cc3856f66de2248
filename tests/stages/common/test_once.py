import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cssegcore.core.errors import InputError
from cssegcore.runtime.resume import ResumeFile
from stages.common import once
from stages.common.places import resume_path, states
from tests.helpers import tiny_dataset as scenes

EPOCHS = 6


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What became of two trainings of the same step."""
    folder = tmp_path_factory.mktemp("workers")
    root = scenes.make_scenes(tmp_path_factory.mktemp("data") / "dataset")
    project = scenes.Project(folder, root, f"schedule.base.epochs={EPOCHS}")
    environment = os.environ | {
        "CSSEGCORE_TRACKING": "off",
        "CSSEGCORE_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(scenes.HOME),
    }
    for name in ("DVC_ROOT", "RANK", "CSSEGCORE_PROCESSES"):
        environment.pop(name, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "environ", environment)
        assert project.run(*scenes.BEFORE_TRAINING).status == 0
    code = "from tests.helpers.two_workers import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=False)
    assert done.returncode == 0
    return json.loads((folder / "told.json").read_text())


def trained(worker):
    """Returns the epochs that a worker trained itself."""
    marks = [line for line in worker["log"].splitlines() if line.startswith("trains epoch ")]
    return [int(line.rpartition(" ")[2]) for line in marks]


@pytest.mark.slow
class TestTwoWorkers:
    def test_one_trains_and_the_other_takes_the_result(self, told):
        first, second = told["together"]["first"], told["together"]["second"]
        assert (first["status"], second["status"]) == (0, 0)
        assert trained(first) == [*range(1, EPOCHS + 1)]
        assert trained(second) == []
        assert len(first["digests"]) == 2
        assert second["digests"] == first["digests"]
        assert told["together"]["states"] == [".finished", ".pt"]

    def test_the_one_that_waits_says_for_whom(self, told):
        line, *_ = told["together"]["second"]["log"].splitlines()
        assert line.startswith("step0: process ")
        assert "/first) does this already; waiting." in line
        assert "(since 2" in line

    def test_a_killed_one_leaves_its_epochs_to_the_other(self, told):
        first, second = (told["the first is killed"][name] for name in ("first", "second"))
        assert (first["status"], second["status"]) == (-9, 0)
        assert trained(second)[-1] == EPOCHS
        assert trained(second)[0] in (trained(first)[-1], trained(first)[-1] + 1)
        assert second["digests"] == told["together"]["first"]["digests"]

    def test_waiting_is_interrupted_by_the_keyboard(self, told):
        first, second = (told["the second is interrupted"][name] for name in ("first", "second"))
        assert first["status"] == 0
        assert second["status"] not in (0, 99)
        assert "Traceback" not in second["log"]


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The name of a state in a folder of its own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)
    path = resume_path("step1", ["anything"], [])
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def holder(state):
    """Another process that does the work of the state."""
    code = (
        "import sys, time; from pathlib import Path; from stages.common import once\n"
        "once.BEAT = 0.05\n"
        "with once.alone(Path(sys.argv[1]), print): print('has it', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(scenes.HOME)}
    command = [sys.executable, "-c", code, str(state)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


class TestAlone:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr(once, "BEAT", 0.05)

    def test_a_stopped_holder_is_named_and_not_waited_for(self, state, holder, monkeypatch):
        monkeypatch.setattr(once, "SILENCE", 0.5)
        os.kill(holder.pid, signal.SIGSTOP)
        said = []
        with pytest.raises(InputError) as refused, once.alone(state, said.append):
            pass
        assert f"process {holder.pid} on " in str(refused.value)
        assert "no sign of life" in str(refused.value)
        assert "kill -CONT" in str(refused.value)
        assert len(said) == 1

    def test_a_living_holder_is_waited_for_longer_than_that(self, state, holder, monkeypatch):
        monkeypatch.setattr(once, "SILENCE", 0.3)
        start, said = time.monotonic(), []

        def tell(line):
            said.append(line)
            threading.Timer(0.8, holder.kill).start()

        with once.alone(state, tell):
            assert time.monotonic() - start > 0.7
        assert [f"process {holder.pid} on " in line for line in said] == [True]

    def test_a_dead_one_s_lock_is_free(self, state, holder):
        holder.kill()
        holder.wait()
        assert state.with_suffix(".lock").exists()
        with once.alone(state, pytest.fail):
            pass
        assert list(state.parent.iterdir()) == []

    def test_another_work_is_not_waited_for(self, state, holder):
        with once.alone(resume_path("step1", ["other"], []), pytest.fail):
            pass

    def test_processes_of_one_training_do_not_wait_for_the_one_that_started_them(
        self, state, holder, monkeypatch
    ):
        monkeypatch.setenv("RANK", "1")
        with once.alone(state, pytest.fail):
            pass


class TestClear:
    @pytest.fixture
    def result(self, state, tmp_path):
        """A finished work's folder and file."""
        made = tmp_path / "work"
        (made / "folder" / "deep").mkdir(parents=True)
        (made / "folder" / "deep" / "a.txt").write_text("a")
        (made / "folder" / "b.txt").write_text("b")
        (made / "model").write_text("m")
        state.write_text("state")
        once.keep(state, [made / "model", made / "folder"])
        return made

    KNOWN = "outs: [{md5: 6f8f57715090da2632453988d9a1501b}, {md5: 0c8d0f1c3d0a8d.dir}]"

    def age(self, state, seconds):
        for path in state.parent.iterdir():
            os.utime(path, (time.time() - seconds, time.time() - seconds))

    def known(self, result, *outs):
        """Writes what DVC itself says of these."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        tree = Tree.from_list(
            [
                {"relpath": "deep/a.txt", "md5": "0cc175b9c0f1b6a831c399e269772661"},
                {"relpath": "b.txt", "md5": "92eb5ffee6ae2fec3ad71c777531578f"},
            ]
        )
        tree.digest()
        assert isinstance(tree.hash_info, HashInfo)
        lines = {"model": "6f8f57715090da2632453988d9a1501b", "folder": tree.hash_info.value}
        (result.parent / "dvc.lock").write_text("".join(f"md5: {lines[out]}\n" for out in outs))

    def test_what_dvc_lacks_stays(self, state, result):
        for outs in ((), ("model",), ("folder",)):
            self.known(result, *outs)
            self.age(state, 2 * once.GRACE)
            once.clear()
            once.clear()
            assert once.finished(state)

    def test_what_dvc_has_stays_for_those_that_are_about_to_take_it(self, state, result):
        self.known(result, "model", "folder")
        self.age(state, 2 * once.GRACE)
        once.clear()
        once.clear()
        assert once.finished(state)
        (result.parent / "dvc.lock").unlink()  # DVC's temporary copy is gone
        self.age(state, 2 * once.GRACE)
        once.clear()
        assert list(state.parent.iterdir()) == []

    def test_a_running_one_s_is_never_touched(self, state, result, holder):
        self.known(result, "model", "folder")
        once.clear()
        self.age(state, 2 * once.ABANDONED)
        once.clear()
        assert once.finished(state)

    def test_what_nobody_came_back_for_goes(self, state):
        state.write_text("of a killed process")
        self.age(state, 0.9 * once.ABANDONED)
        once.clear()
        assert states() == [state]
        self.age(state, 1.1 * once.ABANDONED)
        once.clear()
        assert states() == []

    def test_batches_go_with_the_work_that_they_are_of(self, state, result):
        state.unlink()
        other = resume_path("step1", ["other"], [])
        for work, count in ((state, 3), (other, 1)):
            for at in range(count):
                ResumeFile(work).batch(at).path.write_text("of a killed process")
        assert states() == sorted([state, other])
        self.known(result, "model", "folder")
        once.clear()  # notes that DVC has it
        self.age(state, 2 * once.GRACE)
        once.clear()
        assert list(state.parent.iterdir()) == [ResumeFile(other).batch(0).path]
        self.age(state, 1.1 * once.ABANDONED)
        once.clear()
        assert states() == []

    @pytest.mark.parametrize("text", ["[1", "7", '{"outs": 7}', '{"outs": [7]}', "[" * 90000])
    def test_a_damaged_note_is_none(self, state, result, text):
        state.with_suffix(".finished").write_text(text)
        assert not once.finished(state)
        once.clear()
        assert state.exists()

    def test_a_full_disk_costs_the_note_alone(self, state, tmp_path):
        (tmp_path / "model").write_text("m" * 100)
        with scenes.disk_full_beyond(5):
            once.keep(state, [tmp_path / "model"])
        assert not once.finished(state)
