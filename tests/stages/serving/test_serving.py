"""A step's model as an MLflow model: what is in it, and what `mlflow models serve` answers."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from cssegcore import load, predict
from cssegcore.core.errors import InputError
from stages.serving.package import package_model
from tests.helpers.tiny_dataset import HOME, run_module
from tests.helpers.tiny_training import write_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def packaged(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaged") / "farm.mlflow"
    done = run_module("stages.export", str(model), "--out", str(folder))
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{folder}: mlflow models serve -m {folder} --env-manager local\n"
    return folder


def test_a_damaged_model_is_packaged_by_nobody(model, tmp_path):
    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1  # the last weight
    (tmp_path / "model.safetensors").write_bytes(damaged)
    done = run_module(
        "stages.export", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "a.mlflow")
    )
    assert done.status == 2
    assert "damaged" in done.err
    assert not (tmp_path / "a.mlflow").exists()


def photographs():
    coarse = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 3), np.uint8)
    return coarse.repeat(6, 1).repeat(6, 2)


def ask(port, photographs):
    body = json.dumps({"inputs": photographs.tolist()}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["predictions"]


def wait_for(port, server, seconds=300):
    for _ in range(seconds):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, server.stdout.read()
            time.sleep(1)
    raise AssertionError("the server does not answer")


def test_mlflow_serves_what_predict_says(model, packaged):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", str(packaged), "-p", str(port), "--env-manager", "local"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command],
        env=os.environ | {"PYTHONPATH": str(HOME), "CSSEGCORE_DEVICE": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(port, server)
        said = ask(port, photographs())
        with pytest.raises(urllib.error.HTTPError):
            ask(port, photographs()[..., :2])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=60)
    door = load(model, "cpu")
    for at, wanted in enumerate(predict(door, photographs())):
        assert np.array_equal(np.array(said["labels"][at]), wanted.labels)
        assert np.allclose(said["confidences"][at], wanted.confidences, atol=1e-6)
        assert len(np.unique(wanted.labels)) > 1


def test_what_is_in_a_package(model, packaged):
    from mlflow.models import Model as Packaged

    about = Packaged.load(str(packaged))
    assert about.metadata["classes"] == ["background", "red", "green", "blue"]
    assert about.metadata["step"] == "step1"
    (given,) = about.signature.inputs.to_dict()
    assert given["tensor-spec"] == {"dtype": "uint8", "shape": (-1, -1, -1, 3)}
    assert [one["name"] for one in about.signature.outputs.to_dict()] == ["labels", "confidences"]
    assert (packaged / "artifacts" / "model.safetensors").read_bytes() == model.read_bytes()
    example = json.loads((packaged / "serving_input_example.json").read_text())
    assert np.shape(example["inputs"]) == (1, 32, 32, 3)
    assert "\ntorch==" in (packaged / "requirements.txt").read_text()


def test_weights_of_somebody_else_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="is no model of cssegcore"):
        package_model(tmp_path / "other.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
