"""The command that compares runs, on a repository as DVC leaves it after experiments."""

import csv
import dataclasses
import io
import json
import subprocess

import pytest
import yaml

from cssegcore.core.files import digest
from cssegcore.metrics.protocols import protocols
from stages.common.dvc_runs import dvc_runs
from stages.common.found_runs import finished_runs
from stages.common.naming import as_texts, name_run
from tests.helpers import tiny_dataset as scenes

pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Repository:
    """A repository with experiments whose reports lie in DVC's cache."""

    folder: "scenes.Path"

    def git(self, *arguments):
        command = ["git", "-c", "user.name=tests", "-c", "user.email=t@example.org", *arguments]
        done = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def store(self, content):
        md5 = digest(content) + "0" * 16
        path = self.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    def lock(self, everything, *overrides, seconds=60.0):
        """Writes a finished run's `dvc.lock`."""
        params = scenes.composed(*overrides)
        row = {"base": 70.0, "added": 30.0, "all": everything, "harmonic": 40.0, "average": 65.0}
        summary = {
            "miou": {"all": everything, "base_nobg": 70.0, "added_nobg": 30.0},
            "average": everything + 5,
            "forgetting": 100 - everything,
            "protocols": dict.fromkeys(protocols("annotated"), row),
        }
        steps = f"step,miou_all,miou_base_nobg\n0,80,75\n1,{everything},70\n"
        classes = "step,class,learned,iou,forgetting\n1,disc,0,50,\n1,ring,1,,\n"
        files = {"summary.json": json.dumps(summary), "steps.csv": steps, "classes.csv": classes}
        entries = [{"md5": self.store(t.encode()), "relpath": n} for n, t in files.items()]
        report = self.store(json.dumps(entries).encode())
        name = name_run(params, scenes.HOME / "conf")
        run = json.dumps({"label": name.label, "changed": name.differences})
        took = self.store(json.dumps({"seconds": seconds}).encode())
        stages = {
            "check": {"outs": [{"path": "work/run.json", "md5": self.store(run.encode())}]},
            "train@step9": {
                "outs": [{"path": "work/step9/timing.json", "md5": took}]
            },  # is no more
            "report": {
                "params": {"params.yaml": params},
                "deps": [{"path": "work/run.json", "md5": self.store(run.encode())}],
                "outs": [{"path": "work/report", "md5": report}],
            },
        }
        evaluation = "0" * 32
        for step in params["steps"]:
            model = {"path": f"work/{step}/model.safetensors", "md5": f"{step} {report}"}
            timing = {"path": f"work/{step}/timing.json", "md5": took}
            before = {"path": "work/before/evaluation", "md5": evaluation}
            evaluation = f"{step} {report}"
            after = {"path": f"work/{step}/evaluation", "md5": evaluation}
            stages[f"train@{step}"] = {"outs": [model, timing]}
            stages[f"evaluate@{step}"] = {"deps": [model, before], "outs": [after]}
        stages["report"]["deps"].append({"path": "work/last/evaluation", "md5": evaluation})
        (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
        return report

    def experiment(self, name, *arguments, **more):
        """Leaves a finished experiment, as DVC names it."""
        report = self.lock(*arguments, **more)
        self.git("add", "dvc.lock")
        self.git("commit", "-qm", name)
        self.git("update-ref", f"refs/exps/ab/{'c' * 38}/{name}", "HEAD")
        self.git("reset", "-q", "--hard", "HEAD~1")
        return report


@pytest.fixture
def place():
    """Where the project lies in the repository."""
    return "."


@pytest.fixture
def repository(tmp_path, monkeypatch, place):
    folder = tmp_path / place
    (folder / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = Repository(folder)
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    made.git("init", "-q", str(tmp_path))
    made.git("commit", "-q", "--allow-empty", "-m", "start")
    return made


def compare(*arguments):
    return scenes.run_module("stages.compare", *arguments)


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_every_experiment_is_found_once(repository):
    for seed, value in ((1, 60.0), (2, 62.0)):
        repository.experiment(f"mib-{seed}", value, f"seed={seed}")
    repository.experiment("changed", 64.0, "method.losses.unbiased_kd.weight=5")
    repository.experiment("older", 62.0, "seed=2")  # the same run again
    repository.lock(50.0, "method=ft")  # the workspace
    refs = repository.git("for-each-ref", "--format=%(refname)", "refs/exps")
    assert len(refs.splitlines()) == 4
    outcome = compare("--format", "csv")
    assert outcome.status == 0, outcome.err
    found = {r["method"]: r for r in rows(outcome.out) if r["metric"] == "all"}
    assert {n: (float(r["mean"]), r["runs"]) for n, r in found.items()} == {
        "mib": (61.0, "2"),
        "mib unbiased_kd.weight=5": (64.0, "1"),
        "ft": (50.0, "1"),
    }
    assert found["mib unbiased_kd.weight=5"]["changed"] == "unbiased_kd.weight=5"
    assert outcome.err == ""


def test_a_run_that_goes_on_does_not_give_its_name_to_the_one_before(repository):
    """DVC writes each stage's part of the lock as it ends, and the report's last of all."""
    repository.lock(80.0, "method=ft", seconds=9.0)
    ft = yaml.safe_load((repository.folder / "dvc.lock").read_text())["stages"]
    repository.experiment("mib", 60.0, seconds=20.0)
    repository.lock(60.0, seconds=20.0)
    path = repository.folder / "dvc.lock"
    lock = yaml.safe_load(path.read_text())
    (run,), _ = finished_runs(dvc_runs())
    assert (run.label, run.seconds) == ("mib", 60.0)  # three steps, and not the one of before
    for stage, seconds in (("check", 60.0), ("train@step0", None)):
        lock["stages"][stage] = ft[stage]
        path.write_text(yaml.safe_dump(lock))
        (run,), notes = finished_runs(
            entry for entry in dvc_runs() if entry.source == "the workspace"
        )
        assert (run.label, run.score("all"), run.seconds, notes) == ("mib", 60.0, seconds, [])
        (kept,), notes = finished_runs(dvc_runs())
        assert (kept.label, notes) == ("mib", [])


@pytest.mark.parametrize("place", ["projects/herd"])
def test_a_project_may_lie_in_a_larger_repository(repository):
    repository.experiment("one", 60.0)
    outcome = compare("--format", "csv", "--metric", "all")
    assert [float(row["mean"]) for row in rows(outcome.out)] == [60.0]


def test_what_is_left_out_is_told(repository):
    report = repository.experiment("gone", 62.0, "seed=2")
    repository.lock(60.0)
    (repository.folder / ".dvc/cache/files/md5" / report[:2] / report[2:]).unlink()
    outcome = compare()
    assert "experiment gone is left out: its report is not in DVC's cache" in outcome.err
    assert "mib     1 seed" in outcome.out


def test_of_the_same_parameters_the_newest_counts(repository):
    repository.experiment("before", 40.0)
    repository.lock(60.0)
    outcome = compare("--format", "csv", "--metric", "all")
    assert [float(row["mean"]) for row in rows(outcome.out)] == [60.0]
    assert "experiment before is left out: the workspace has the same parameters" in outcome.err


def test_seeds_are_runs_of_the_same_parameters(repository):
    many = ("optimizer.clip=1", "optimizer.momentum=0.5", "model.depth=8")
    for name, seed, value, flip in (("a", 1, 10.0, 0.1), ("b", 1, 90.0, 0.9), ("c", 2, 92.0, 0.9)):
        repository.experiment(name, value, *many, f"seed={seed}", f"augmentation.flip={flip}")
    repository.experiment("again", 90.0, *many, "augmentation.flip=0.9", "evaluation.batch_size=3")
    repository.experiment("watched", 90.0, *many, "augmentation.flip=0.9", "validation.times=0")
    outcome = compare("--format", "csv", "--metric", "all")
    found = [(float(row["mean"]), row["runs"], row["method"]) for row in rows(outcome.out)]
    assert sorted(found)[0][:2] == (10.0, "1")
    assert sorted(found)[1][:2] == (91.0, "2")
    names = {name.partition(" #")[0] for *_, name in found}
    assert len(names) == 1
    assert names.pop().endswith(" +1 more")
    assert outcome.err == ""


def test_files_and_figures(repository):
    repository.experiment("one", 60.0)
    repository.lock(50.0, "method=ft", seconds=7200.0)
    wanted = [f"table.{ending}" for ending in ("txt", "md", "tex", "csv")]
    outs = [argument for name in wanted for argument in ("--out", name)]
    outcome = compare(*outs, "--figures", "figures", "--difference", "one", "ft")
    assert outcome.status == 0, outcome.err
    assert all((repository.folder / name).stat().st_size for name in wanted)
    names = sorted(path.name for path in (repository.folder / "figures").iterdir())
    kinds = ("accuracy_against_cost", "class_difference", "old_against_new", "over_steps")
    assert [name.split("-")[0] for name in names] == [k for k in kinds for _ in range(2)]
    assert {name.rpartition(".")[2] for name in names} == {"svg", "pdf"}


def test_published_numbers_stand_beside_ours(repository):
    how = ("scenario=voc/15-1", "method=plop", "evaluation.view=crop")
    repository.lock(52.0, *how)
    assert "--counting mib, plop" in compare().out
    assert "--counting" not in compare("--format", "csv").out  # rows, for a program to read
    outcome = compare("--counting", "plop")
    assert "Douillard et al., CVPR 2021 (PLOP), Table 1" in outcome.out
    assert "*54.6" in outcome.out
    assert "54.6" not in compare("--counting", "plop", "--no-published").out


def test_senseless_questions_are_one_line(repository):
    assert "there is no finished run" in compare().refusal()
    repository.lock(60.0)
    assert "no finished run of 'mip'. Did you mean `mib`?" in compare("--method", "mip").refusal()
    assert "--out table.pdf: give it one of the endings" in compare("--out", "table.pdf").refusal()
    refused = compare("--figures", "f", "--difference", "mib", "x").refusal()
    assert "no run 'x'. There are mib, mib:1, the workspace" in refused
    assert "no counting 'ploq'" in compare("--counting", "ploq").refusal()


def test_texts_of_a_lock_are_those_of_the_parameters(repository):
    """By which a run in DVC and in MLflow is recognised as one."""
    repository.lock(60.0)
    lock = yaml.safe_load((repository.folder / "dvc.lock").read_text())
    kept = lock["stages"]["report"]["params"]["params.yaml"]
    assert as_texts(kept) == as_texts(scenes.composed())
