import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stages import tracking
from stages.track import track
from stages.tracking import following, locks, places
from stages.tracking.errors import DeliveryError, without_password
from stages.tracking.sender import Sender

# MLflow's own business with SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

NOWHERE = "http://127.0.0.1:9"  # the discard port, closed on every machine
INFO = tracking.RunInfo(
    key="0123456789abcdef",
    experiment="shapes/4-2 overlapped",
    name="mib · seed 1",
    params={"method.name": "mib", "seed": 1, "odd key (%)": "x"},
    tags={"method": "mib"},
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty database, because making one takes MLflow seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A main repository whose stages note down and start no sender."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("CSSEGCORE_TRACKING", "later")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("MLFLOW_TRACKING_URI", "RANK", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def store(root, database):
    shutil.copy(database, root / "mlflow.db")
    return Store(root)


class Store:
    """What a person would find in MLflow."""

    def __init__(self, root: Path) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")

    def runs(self):
        experiment = self.client.get_experiment_by_name(INFO.experiment)
        found = self.client.search_runs([experiment.experiment_id])
        by_part = {run.data.tags.get("cssegcore.step", "parent"): run for run in found}
        assert len(by_part) == len(found), "a run is there twice"
        return by_part

    def points(self, part, key):
        history = self.client.get_metric_history(self.runs()[part].info.run_id, key)
        return sorted((point.step, point.value) for point in history)

    def states(self):
        return {part: run.info.status for part, run in self.runs().items()}

    def artifacts(self, part, folder):
        run = self.runs()[part].info.run_id
        return sorted(file.path for file in self.client.list_artifacts(run, folder))


def send():
    sender = Sender(places.spool())
    sender.send()
    assert not sender.set_aside


def journals():
    return sorted(places.spool().glob("*.jsonl"))


def call_track():
    app = typer.Typer()
    app.command()(track)
    return CliRunner().invoke(app, [])


def start_python(code):
    """Runs `code` in a process of its own, with `INFO` and `tracking` at hand."""
    begin = f"from stages import tracking\nINFO = tracking.{INFO!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python(code):
    """Waits for such a process; returns its exit status and what it said on stderr."""
    with start_python(code) as process:
        _, said = process.communicate()
    return process.returncode, said


def whole_run(report: Path):
    """Two steps and the report, as the stages tell them."""
    for index in (0, 1):
        with tracking.open_run(INFO) as run:
            step = run.step(f"step{index}")
            for epoch in (1, 2, 3):
                step.metrics({"loss/ce": 1 / (epoch + index), "lr": 0.1 / epoch}, step=epoch)
            step.finish()
            run.metrics({"miou/all": 60.0 - index}, step=index)
    with tracking.open_run(INFO) as run:
        run.artifacts(report, "report")
        run.finish()


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "outs" / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("<h1>mIoU</h1>")
    (folder / "figures" / "miou.svg").write_text("<svg/>")
    (folder / "report.html").chmod(stat.S_IREAD)  # as DVC leaves its outs
    return folder


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
    assert store.artifacts("parent", "report") == ["report/figures", "report/report.html"]
    (figure,) = (root / "mlartifacts").rglob("miou.svg")
    assert figure.read_text() == "<svg/>"
    assert not list(places.spool().glob("*[0-9].*")), "sent journals and copies are deleted"


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


def test_a_journal_arrives_while_it_is_written(store):
    sender = Sender(places.spool())
    with tracking.open_run(INFO) as run:
        for epoch in (1, 2):
            run.step("step0").metrics({"loss/ce": 1.0 / epoch}, step=epoch)
            sender.send()
            assert len(store.points("step0", "loss/ce")) == epoch
            assert sender.send() == 0, "nothing is new"
    assert store.states() == {"parent": "RUNNING", "step0": "RUNNING"}


def test_a_server_away_costs_nothing(store, monkeypatch):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE.replace("//", "//me:secret@"))
    refused = call_track()
    assert refused.exit_code == 1
    assert len(refused.output.splitlines()) == 1
    assert f"cannot send to {NOWHERE}: [Errno 111] Connection refused" in refused.output
    assert "1 journals wait" in refused.output
    assert "secret" not in refused.output

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    sent = call_track()
    assert sent.exit_code == 0, sent.output
    assert "3 events sent to sqlite" in sent.output
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert "no new events" in call_track().output


def test_an_address_that_is_none_does_not_condemn_the_journals(root, monkeypatch):
    with tracking.open_run(INFO):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://coop")
    assert call_track().exit_code == 1
    assert len(journals()) == 1


def test_the_background_sender_gives_up_and_keeps(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.001)
    with tracking.open_run(INFO):
        pass
    following.follow()
    assert len(journals()) == 1


def test_the_background_sender_leaves_when_idle(store, monkeypatch):
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(following, "_IDLE_SECONDS", 0.05)
    with tracking.open_run(INFO):
        pass
    following.follow()
    assert store.states() == {"parent": "RUNNING"}
    assert not locks.is_held(places.sender_lock())


def test_a_real_background_sender_sends_and_makes_room(store, monkeypatch):
    monkeypatch.setenv("CSSEGCORE_TRACKING", "on")
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    deadline = time.monotonic() + 120
    while journals() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert locks.is_held(places.sender_lock()), "it waits for the next stage"

    monkeypatch.setenv("CSSEGCORE_TRACKING", "later")
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 50.0}, step=1)
        assert following.send_now().writing == 1
        assert not locks.is_held(places.sender_lock())
    assert store.points("parent", "miou/all") == [(0, 60.0), (1, 50.0)]
    send()


def test_a_torn_line_waits_for_its_end(store):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        run.metrics({"miou/all": 50.0}, step=1)
        whole = journals()[0].read_bytes()
        journals()[0].write_bytes(whole[:-20])
        sender = Sender(places.spool())
        sender.send()
        assert store.points("parent", "miou/all") == [(0, 60.0)]
        journals()[0].write_bytes(whole)
        sender.send()
        assert store.points("parent", "miou/all") == [(0, 60.0), (1, 50.0)]


def test_a_torn_line_whose_writer_is_gone_is_dropped(store):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        run.metrics({"miou/all": 50.0}, step=1)
    whole = journals()[0].read_bytes()
    journals()[0].write_bytes(whole[: whole.rindex(b"50.0")])
    send()
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert not journals()


@pytest.mark.parametrize("followed", [True, False])
def test_a_killed_stage_shows_and_goes_on(store, followed):
    sender = Sender(places.spool())
    stage = start_python(
        "with tracking.open_run(INFO) as run:\n"
        "    run.step('step0').metrics({'loss/ce': 2.0}, step=1)\n"
        "    run.step('step0').finish()\n"
        "    run.step('step1').metrics({'loss/ce': 1.0}, step=1)\n"
        "    print('ready', flush=True)\n"
        "    input()\n"
    )
    with stage:
        assert stage.stdout.readline() == "ready\n"
        if followed:
            sender.send()
            assert store.states() == {"parent": "RUNNING", "step0": "FINISHED", "step1": "RUNNING"}
        stage.kill()
    sender.send()
    assert store.states() == {"parent": "KILLED", "step0": "FINISHED", "step1": "KILLED"}
    assert store.points("step1", "loss/ce") == [(1, 1.0)]

    with tracking.open_run(INFO) as run:
        run.step("step1").metrics({"loss/ce": 0.5}, step=2)
    send()
    assert store.states() == {"parent": "RUNNING", "step0": "FINISHED", "step1": "RUNNING"}


@pytest.mark.parametrize(
    ("error", "state"), [(FloatingPointError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_stage_that_fails_says_so(store, error, state):
    def stage():
        with tracking.open_run(INFO) as run:
            run.step("step0").metrics({"loss/ce": 1.0}, step=1)
            raise error

    with pytest.raises(error):
        stage()
    send()
    assert store.states() == {"parent": state, "step0": state}


def test_a_finished_run_stays_finished(store):
    with tracking.open_run(INFO) as run:
        run.finish()

    def late_stage():
        with tracking.open_run(INFO):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        late_stage()
    send()
    assert store.states() == {"parent": "FINISHED"}


def test_no_value_is_no_point(store):
    with tracking.open_run(INFO) as run:
        values = {"a": float("nan"), "b": float("inf"), "c": None, "d": 1.0}
        run.metrics(values, step=0)
    send()
    assert store.runs()["parent"].data.metrics == {"d": 1.0}


def test_a_refused_journal_stops_no_other(store):
    with tracking.open_run(INFO) as run:
        run.metrics({"a//b": 1.0}, step=0)  # MLflow takes no empty path segment
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    answer = call_track()
    assert answer.exit_code == 1
    assert "refuses a journal" in answer.output
    assert ".refused" in answer.output
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert len(list(places.spool().glob("*.refused"))) == 1
    assert "no new events" in call_track().output


def test_a_run_deleted_by_hand_is_made_again(store):
    sender = Sender(places.spool())
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        sender.send()
        store.client.delete_run(store.runs()["parent"].info.run_id)
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 50.0}, step=1)
    sender.send()
    assert store.points("parent", "miou/all") == [(1, 50.0)]


def test_a_deleted_experiment_comes_back(store):
    for value in (0, 1):
        with tracking.open_run(INFO) as run:
            run.metrics({"miou/all": 60.0}, step=value)
        send()
        experiment = store.client.get_experiment_by_name(INFO.experiment)
        if value == 0:
            store.client.delete_experiment(experiment.experiment_id)
    assert experiment.lifecycle_stage == "active"


def test_a_full_disk_is_said_once_and_survived(store):
    status, said = python(
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with tracking.open_run(INFO) as run:\n"
        "    run.metrics({'miou/all': 60.0}, step=0)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (700, -1))\n"
        "    for step in range(1, 9):\n"
        "        run.metrics({'miou/all': 50.0}, step=step)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "    run.metrics({'miou/all': 40.0}, step=9)\n"
    )
    assert status == 0, said
    assert said.count("\n") == 1
    assert "the work goes on" in said
    send()
    points = store.points("parent", "miou/all")
    assert points[0] == (0, 60.0)
    assert points[-1] == (9, 40.0), "what comes after the torn line is read"
    assert len(points) < 10


def test_a_spool_that_cannot_be_made_is_survived(root, caplog, tmp_path):
    (root / ".cssegcore").write_text("in the way")
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        run.artifacts(tmp_path / "not there")
    assert len(caplog.records) == 1


def test_a_missing_artifact_is_survived(store, tmp_path, caplog):
    with tracking.open_run(INFO) as run:
        run.artifacts(tmp_path / "not there")
        run.finish()
    send()
    assert store.states() == {"parent": "FINISHED"}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("name", "value"), [("CSSEGCORE_TRACKING", "off"), ("RANK", "1")])
def test_off_means_off(root, monkeypatch, name, value, report):
    monkeypatch.setenv(name, value)
    whole_run(report)
    assert not (root / ".cssegcore").exists()


def test_stages_need_neither_mlflow_nor_torch(root):
    status, said = python(
        "import sys\n"
        "heavy = {'mlflow', 'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.modules['mlflow'] = None\n"
        "with tracking.open_run(INFO) as run:\n"
        "    run.metrics({'miou/all': 60.0}, step=0)\n"
    )
    assert status == 0, said
    assert len(journals()) == 1


def test_a_second_command_waits_for_the_first(store, monkeypatch):
    monkeypatch.setattr(following, "_TAKEOVER_SECONDS", 0.2)
    with tracking.open_run(INFO):
        pass
    with (
        locks.hold(places.sender_lock()),
        pytest.raises(DeliveryError, match="another sender is at work"),
    ):
        following.send_now()
    assert following.send_now().sent == 2


def test_the_key_is_what_determines_the_run():
    params = {"dataset": {"name": "voc", "root": "/data"}, "losses": {}, "seed": 1}
    key = tracking.run_key(params, "code")
    moved = {**params, "dataset": {"name": "voc", "root": "/elsewhere"}}
    assert len(key) == 16
    assert tracking.run_key(moved, "code") == key
    assert tracking.run_key(tracking.scalars(params), "code") == key
    others = [
        tracking.run_key({**params, "seed": 2}, "code"),
        tracking.run_key({"dataset": {"name": "voc"}, "seed": 1}, "code"),
        tracking.run_key(params, "other code"),
    ]
    assert len({key, *others}) == 4


def test_parameters_are_flattened():
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, "x"], "f": {}}
    assert tracking.scalars(nested) == {"a.b": 1, "a.c.d": None, "e": '[1, "x"]', "f": "{}"}


def test_no_password_is_shown():
    text = "cannot reach https://me:secret@host/x or http://host/@y"
    assert without_password(text) == "cannot reach https://host/x or http://host/@y"
