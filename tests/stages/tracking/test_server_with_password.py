"""A server of MLflow's own behind TLS and a password, as docs/clusters.md tells of one."""

import base64
import shutil
import threading

import pytest
import typer
from typer.testing import CliRunner

from stages import tracking
from stages.track import main as track
from stages.tracking.journal import journals
from tests.helpers.tracked_runs import INFO, Store

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # MLflow's server's own, of its libraries
    pytest.mark.slow,
]

USER, PASSWORD = "anna", "correct horse"


def guarded(app):
    """Lets nobody through without the password."""
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def answer(environ, start):
        if environ.get("HTTP_AUTHORIZATION") != expected:
            start("401 Unauthorized", [("Content-Type", "text/plain")])
            return [b"who are you?"]
        return app(environ, start)

    return answer


@pytest.fixture
def server(root, database, tmp_path, monkeypatch):
    """The environment of who may write there, and whose certificate it is."""
    from mlflow.server import app, handlers
    from werkzeug.serving import make_server, make_ssl_devcert

    there = tmp_path / "server"
    there.mkdir()
    shutil.copy(database, there / "mlflow.db")
    monkeypatch.setattr(handlers, "_tracking_store", None)
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{there / 'mlflow.db'}")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(there / "files"))
    certificate, key = make_ssl_devcert(str(there / "tls"), cn="localhost")
    server = make_server(
        "localhost", 0, guarded(app), threaded=True, ssl_context=(certificate, key)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "MLFLOW_TRACKING_URI": f"https://localhost:{server.server_port}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": certificate,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    yield there
    server.shutdown()
    server.server_close()


def send():
    app = typer.Typer()
    app.command()(track)
    return CliRunner().invoke(app)


def test_who_has_the_password_is_let_in(server):
    sent = send()
    assert sent.exit_code == 0, sent.output
    assert PASSWORD not in sent.output
    assert Store(server).points("parent", "miou/all") == [(0, 60.0)]
    assert journals() == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "wrong horse", "401"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", None, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_who_is_not_loses_nothing(server, monkeypatch, name, value, said):
    """By a wrong password, and by a certificate that is not known."""
    with monkeypatch.context() as patch:
        patch.setenv(name, value) if value else patch.delenv(name)
        refused = send()
    assert refused.exit_code == 1
    assert len(refused.output.splitlines()) == 1
    assert said in refused.output
    assert "horse" not in refused.output
    assert len(journals()) == 1
    assert send().exit_code == 0
    assert Store(server).points("parent", "miou/all") == [(0, 60.0)]
