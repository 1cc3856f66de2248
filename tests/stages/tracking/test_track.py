import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cssegcore.core.errors import InputError
from stages import tracking
from stages.track import main as track
from stages.tracking.journal import journals, spool
from tests.helpers.tracked_runs import HOME, INFO, whole_run

# MLflow's own business with SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

NOWHERE = "http://127.0.0.1:9"  # the discard port, closed on every machine


def call(*arguments):
    app = typer.Typer()
    app.command()(track)
    return CliRunner().invoke(app, arguments)


def test_a_server_away_costs_nothing(store, root, monkeypatch):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE.replace("//", "//me:secret@"))
    refused = call()
    assert refused.exit_code == 1
    assert len(refused.output.splitlines()) == 1
    assert f"cannot send to {NOWHERE}: [Errno 111] Connection refused" in refused.output
    assert "1 journals wait" in refused.output
    assert "secret" not in refused.output

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    sent = call()
    assert sent.exit_code == 0, sent.output
    assert f"3 events sent to {root / 'mlflow.db'}." in sent.output
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert "no new events" in call().output


def test_an_address_that_is_none_does_not_condemn_the_journals(root, monkeypatch):
    with tracking.open_run(INFO):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://coop")
    assert call().exit_code == 1
    assert len(journals()) == 1


def test_a_refused_journal_is_said(store):
    with tracking.open_run(INFO) as run:
        run.metrics({"a//b": 1.0}, step=0)  # MLflow takes no empty path segment
    answer = call()
    assert answer.exit_code == 1
    assert "refuses a journal" in answer.output
    assert str(next(spool().glob("*.refused"))) in answer.output
    assert "no new events" in call().output


class TestUi:
    @pytest.fixture
    def become(self, root, monkeypatch):
        """Calls the command and returns what it would have become."""
        became = []
        monkeypatch.setattr(os, "execv", lambda path, command: became.append((path, command)))
        monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")  # put back at the end
        monkeypatch.chdir(HOME)
        return lambda *arguments: (call("--ui", *arguments), became)

    @pytest.fixture
    def free(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        return port

    def test_it_shows_our_database(self, become, root, free, monkeypatch):
        monkeypatch.setenv("MLFLOW_PORT", str(free))
        answer, became = become()
        assert f"MLflow: http://127.0.0.1:{free}/" in answer.output
        ((path, command),) = became
        assert path == sys.executable
        assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
        assert command[4:] == [
            *("--host", "127.0.0.1", "--port", str(free)),
            *("--artifacts-destination", "mlartifacts"),
        ]
        assert os.environ["MLFLOW_BACKEND_STORE_URI"].endswith(f":///{root}/mlflow.db")
        assert Path.cwd() == root

    @pytest.mark.slow
    def test_it_says_which_page_lists_the_runs(self, become, store, report, free):
        whole_run(report)
        answer, _ = become("--port", str(free))
        (experiment,) = {run.info.experiment_id for run in store.all_runs()}
        page = f"http://127.0.0.1:{free}/#/experiments/{experiment}/runs?workflowType=machine"
        assert f"{INFO.experiment}: {page}" in answer.output

    def test_a_server_has_its_own(self, become, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE.replace("//", "//me:secret@"))
        answer, became = become()
        assert answer.exit_code == 0
        assert not became
        assert f"open {NOWHERE} in a browser" in answer.output
        assert "secret" not in answer.output

    def test_a_taken_port(self, become):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            answer, became = become("--port", str(port))
        assert not became
        assert isinstance(answer.exception, InputError)
        assert f"port {port} is taken" in str(answer.exception)
        assert f"make ui PORT={port + 1}" in str(answer.exception)
        assert "http://" not in answer.output, "no address of another program is shown"

    def test_make_passes_the_port(self):
        # `make test` runs this: a make below a make would name the folders it enters
        outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        said = [
            subprocess.run(
                ["make", "-n", "ui", *port],
                cwd=HOME,
                env=outside,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.rstrip()
            for port in ([], ["PORT=5050"])
        ]
        assert said[0].endswith("python -m stages.track --ui")
        assert said[1].endswith("python -m stages.track --ui --port 5050")
