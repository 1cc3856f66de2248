import csv
import shutil
import sqlite3
from dataclasses import replace

import pytest

from cssegcore.core.files import write_csv
from stages import tracking
from stages.common.reporting import log_epoch
from stages.tracking.journal import journals, spool
from stages.tracking.mlflow_backend import without_password
from stages.tracking.sender import Sender
from tests.helpers.tracked_runs import INFO, Store, send, whole_run

# MLflow's own business with SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


def test_a_run_arrives_whole(store, root, report, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "brave-lion")
    whole_run(report)
    # As the outs of a temporary copy: written over in place, and gone.
    (report / "figures" / "miou.svg").write_text("something else")
    shutil.rmtree(report)
    send()

    runs = store.runs()
    assert set(runs) == {"parent", "step0", "step1"}
    assert runs["parent"].info.run_name == "mib · seed 1"
    assert runs["step1"].info.run_name == "step1 · mib · seed 1"
    assert runs["parent"].data.params == {
        "method.name": "mib",
        "seed": "1",
        "odd key ___": "x",
    }
    tags = runs["parent"].data.tags
    assert (tags["method"], tags["dvc.exp_name"]) == ("mib", "brave-lion")
    assert runs["step1"].data.tags["mlflow.parentRunId"] == runs["parent"].info.run_id
    assert store.points("parent", "miou/all") == [(0, 60.0), (1, 59.0)]
    assert store.points("step1", "loss/ce") == [(1, 1 / 2), (2, 1 / 3), (3, 1 / 4)]
    assert store.states() == {"parent": "FINISHED", "step0": "FINISHED", "step1": "FINISHED"}
    place = runs["parent"].info.artifact_uri.removeprefix("mlflow-artifacts:/")
    files = root / "mlartifacts" / place / "report"
    assert (files / "report.html").read_text() == "<h1>mIoU</h1>"
    assert (files / "figures" / "miou.svg").read_text() == "<svg/>"
    assert not list(spool().glob("*[0-9].*")), "sent journals and copies are deleted"


def test_a_run_told_twice_is_there_once(store, report):
    whole_run(report)
    send()
    before = store.runs()
    whole_run(report)
    send()

    assert store.points("parent", "miou/all") == [(0, 60.0), (1, 59.0)]
    assert store.points("step0", "loss/ce") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    after = store.runs()
    assert {p: r.info.run_id for p, r in before.items()} == {
        p: r.info.run_id for p, r in after.items()
    }
    assert after["parent"].info.end_time == before["parent"].info.end_time


def test_a_point_read_from_a_file_is_the_point_that_was_told(store, tmp_path):
    """`train` tells all digits, `report` those that it reads in `epochs.csv`."""
    losses = [0.123456789, 123456.789, 1.5e-7 / 3]
    told = [{"epoch": float(n), "ce": loss} for n, loss in enumerate(losses, 1)]
    write_csv(tmp_path / "epochs.csv", told)
    with (tmp_path / "epochs.csv").open() as lines:
        kept = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    assert kept != told
    for rows in (told, kept):
        with tracking.open_run(INFO) as run:
            for row in rows:
                log_epoch(run.step("step0"), row)
        send()
    assert store.points("step0", "loss/ce") == list(enumerate(losses, 1))


def test_another_value_at_the_same_place_is_written(store):
    for value in (1.0, 1.0, 2.0):
        with tracking.open_run(INFO) as run:
            run.metrics({"miou/all": value}, step=0)
        send()
    assert store.points("parent", "miou/all") == [(0, 1.0), (0, 2.0)]


def test_a_sender_that_died_half_way_leaves_nothing_double(store):
    with tracking.open_run(INFO) as run:
        run.step("step0").metrics({"loss/ce": 3.0}, step=1)
        send()  # this sender knows how far it came, and is gone
        run.step("step0").metrics({"loss/ce": 2.0}, step=2)
        assert len(journals()) == 1, "the writer lives: the journal stays"
    send()
    assert store.points("step0", "loss/ce") == [(1, 3.0), (2, 2.0)]
    assert not journals()


def test_requests_stay_within_what_a_server_takes(store, monkeypatch):
    from mlflow.tracking import MlflowClient

    sizes = {"metrics": [], "params": [], "tags": []}

    def log_batch(self, run_id, real=MlflowClient.log_batch, **what):
        for kind, items in what.items():
            sizes[kind].append(len(items))
        return real(self, run_id, **what)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    many = {f"p{n}": n for n in range(130)}
    with tracking.open_run(replace(INFO, params=many)) as run:
        for step in range(1201):
            run.metrics({"loss/ce": float(step)}, step=step)
    send()
    assert sizes["metrics"] == [1000, 201]
    assert sizes["params"] == [100, 30]
    assert store.points("parent", "loss/ce") == [(n, float(n)) for n in range(1201)]
    assert store.runs()["parent"].data.params == {k: str(v) for k, v in many.items()}


def test_the_first_word_on_a_parameter_stands(store):
    for place in ("/data", "/elsewhere"):
        with tracking.open_run(replace(INFO, params={"dataset.root": place})):
            pass
        send()
    assert store.runs()["parent"].data.params == {"dataset.root": "/data"}


def test_a_run_goes_on_until_it_is_finished(store):
    states = []
    for ending in ("KILLED", None, "FINISHED", "FAILED"):
        with tracking.open_run(INFO) as run:
            if ending:
                run.finish(ending)
        send()
        states.append(store.states()["parent"])
    assert states == ["KILLED", "RUNNING", "FINISHED", "FINISHED"]


def test_a_run_deleted_by_hand_is_made_again(store):
    sender = Sender()
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        sender.send()
        store.client.delete_run(store.runs()["parent"].info.run_id)
        run.metrics({"miou/all": 50.0}, step=1)
        sender.send()
    assert store.points("parent", "miou/all") == [(1, 50.0)]
    assert store.runs()["parent"].data.params["seed"] == "1"


def test_a_deleted_experiment_comes_back(store):
    for value in (0, 1):
        with tracking.open_run(INFO) as run:
            run.metrics({"miou/all": 60.0}, step=value)
        send()
        experiment = store.client.get_experiment_by_name(INFO.experiment)
        if value == 0:
            store.client.delete_experiment(experiment.experiment_id)
    assert experiment.lifecycle_stage == "active"


class TestPlaces:
    @pytest.fixture
    def checkout(self, root, database, monkeypatch):
        def make(name):
            folder = root / name
            folder.mkdir(exist_ok=True)
            shutil.copy(database, folder / "mlflow.db")
            monkeypatch.setenv("DVC_ROOT", str(folder))
            return folder

        return make

    def test_a_moved_checkout_keeps_files_where_it_is(self, checkout, root, report, monkeypatch):
        old = checkout("old")
        whole_run(report)
        send()
        new = old.rename(root / "new")
        monkeypatch.setenv("DVC_ROOT", str(new))
        with tracking.open_run(replace(INFO, key="f" * 16)) as run:
            run.artifacts(report, "report")
        send()
        assert not old.exists()
        places = {
            r.info.artifact_uri for r in Store(new).all_runs() if "step" not in r.info.run_name
        }
        assert len(places) == 2
        for place in places:
            files = new / "mlartifacts" / place.removeprefix("mlflow-artifacts:/")
            assert (files / "report" / "report.html").is_file()

    @pytest.mark.parametrize("name", ["feature%2Fx", "what?", "a #1 ü"])
    def test_a_name_that_means_something_in_an_address(self, checkout, root, report, name):
        folder = checkout(name)
        whole_run(report)
        send()
        (count,) = sqlite3.connect(folder / "mlflow.db").execute("SELECT count(*) FROM runs")
        assert count == (3,)
        assert len(list((folder / "mlartifacts").rglob("report.html"))) == 1
        assert {path.name for path in root.iterdir()} == {name, "outs"}, "nothing beside it"


def test_no_password_is_shown():
    text = "cannot reach https://me:secret@host/x or http://host/@y"
    assert without_password(text) == "cannot reach https://host/x or http://host/@y"
