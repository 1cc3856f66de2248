import json
import os
import signal
import subprocess
import sys

import pytest

from cssegcore.runtime.threads import limit_spinning

limit_spinning()  # as in every stage, before anything imports torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that runs the tests in the background has them ignore Ctrl-C, and so all they start
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.helpers import forked_python  # noqa: E402
from tests.helpers import tiny_dataset as scenes  # noqa: E402

SLOW = {"walked", "walked_ssul_m", "walked_made", "database"}
"""Fixtures that run a whole pipeline, or MLflow: the tests that use one are slow."""


def pytest_collection_modifyitems(items):
    """Puts files that drive DVC first: they take longest, and would end on one core."""
    for item in items:
        if not SLOW.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("dvc") is None)


@pytest.fixture
def dataset_root(tmp_path):
    """The tiny dataset, which the test may spoil."""
    return scenes.make_scenes(tmp_path / "dataset")


@pytest.fixture
def project(tmp_path, dataset_root, monkeypatch):
    """A project on the tiny dataset, and the current folder in it."""
    for name in ("DVC_ROOT", "RANK", "CSSEGCORE_PROCESSES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CSSEGCORE_TRACKING", "off")
    monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return scenes.Project(folder, dataset_root)


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """A folder with `python` and `dvc` that start at once, for a project with real DVC."""
    with forked_python.commands(tmp_path_factory.mktemp("commands")) as folder:
        yield folder


@pytest.fixture(scope="session")
def walked(tmp_path_factory):
    """The folder of a project in which the whole pipeline ran, and each stage's modules."""
    return walk(tmp_path_factory, scenes.WITHOUT_TORCH, "method=mib")


@pytest.fixture(scope="session")
def walked_ssul_m(tmp_path_factory):
    """The same with saliency, pseudo-labels, exemplars and further metrics."""
    sharp = "+evaluation.metrics={sharp:{part:boundary_iou,width:0.1},worst:{part:worst_class_iou}}"
    return walk(tmp_path_factory, (), "method=ssul_m", "method.replay.size=3", sharp)


@pytest.fixture(scope="session")
def walked_made(tmp_path_factory):
    """The same with images drawn out of the previous model."""
    return walk(
        tmp_path_factory,
        (),
        "method=mib",
        "method/replay=deepinversion",
        "method.replay.per_class=1",
        "method.replay.agreement=0",
        "method.replay.inversion.phases=[[1, 2]]",
    )


def walk(tmp_path_factory, light, *overrides):
    folder = tmp_path_factory.mktemp("walked")
    root = scenes.make_scenes(tmp_path_factory.mktemp("data") / "dataset")
    scenes.Project(folder, root, *overrides)
    environment = {
        **os.environ,
        "CSSEGCORE_TRACKING": "off",
        "CSSEGCORE_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # no threads before the forks
        "PYTHONPATH": str(scenes.HOME),
    }
    for name in ("DVC_ROOT", "CSSEGCORE_PROCESSES"):
        environment.pop(name, None)
    code = "import sys; from tests.helpers.tiny_dataset import walk; walk(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *light],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = json.loads((folder / "modules.json").read_text())
    return folder, {stage: set(names) for stage, names in modules.items()}
