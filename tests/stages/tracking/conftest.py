import shutil
import stat

import pytest

from tests.helpers.tracked_runs import Memory, Store


@pytest.fixture(scope="session")
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
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_PORT", "RANK", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def memory(root):
    return Memory()


@pytest.fixture
def store(root, database):
    shutil.copy(database, root / "mlflow.db")
    return Store(root)


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "outs" / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("<h1>mIoU</h1>")
    (folder / "figures" / "miou.svg").write_text("<svg/>")
    (folder / "report.html").chmod(stat.S_IREAD)  # as DVC leaves its outs
    return folder
