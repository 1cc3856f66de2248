"""A run's last model: logged once with its run, registered on wish, and never in its way."""

import numpy as np
import pytest

from cssegcore import load, predict
from stages import tracking
from stages.common.reporting import offer_model
from stages.tracking.sender import Sender
from tests.helpers.tiny_training import write_model
from tests.helpers.tracked_runs import INFO, send

# MLflow's own business with SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.safetensors")


def photographs():
    coarse = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 3), np.uint8)
    return coarse.repeat(6, 1).repeat(6, 2)


def models_of(store):
    runs = store.runs()
    outputs = runs["parent"].outputs
    found = outputs.model_outputs if outputs else []
    return [store.client.get_logged_model(one.model_id) for one in found]


def tell(model):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        offer_model(run, model)
        run.finish()
    send()


def test_a_model_is_logged_once_with_its_run_and_registered(store, root, model, monkeypatch):
    tell(model)
    tell(model)
    (logged,) = models_of(store)
    assert str(logged.status) == "READY"
    place = root / "mlartifacts" / logged.artifact_location.removeprefix("mlflow-artifacts:/")
    import mlflow.pyfunc

    served = mlflow.pyfunc.load_model(str(place))
    said = served.predict(photographs())
    for at, wanted in enumerate(predict(load(model, "cpu"), photographs())):
        assert np.array_equal(said["labels"][at], wanted.labels)
    assert store.client.search_registered_models() == []

    monkeypatch.setenv("CSSEGCORE_MODELS", "register:farm")
    tell(model)
    tell(model)
    (version,) = store.client.search_model_versions("name='farm'")
    assert version.run_id == logged.source_run_id
    assert version.source == logged.artifact_location
    assert len(models_of(store)) == 1


def test_a_model_that_cannot_be_packaged_harms_nothing(store, tmp_path, caplog):
    broken = tmp_path / "model.safetensors"
    broken.write_bytes(b"x" * 99)
    tell(broken)
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert store.states()["parent"] == "FINISHED"
    assert models_of(store) == []
    assert "the model is not logged in MLflow, all else is" in caplog.text


def test_it_is_told_as_the_environment_says(memory, tmp_path, monkeypatch, caplog):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")

    def told(given):
        monkeypatch.setenv("CSSEGCORE_MODELS", given)
        memory.files.clear()
        with tracking.open_run(INFO) as run:
            offer_model(run, path)
            offer_model(run, tmp_path / "none.safetensors")
        Sender(memory).send()
        return list(memory.files)

    assert told("off") == []
    assert told("log") == told("") == [":model.safetensors"]
    assert told("register:my farm") == ["my farm:model.safetensors"]
    assert told("yes") == [":model.safetensors"]
    assert "write log, off, or register:NAME" in caplog.text
