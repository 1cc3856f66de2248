"""Finished runs as a comparison finds them in MLflow."""

import dataclasses
import json

import pytest

from cssegcore.core.errors import InputError
from stages import tracking
from stages.common.found_runs import finished_runs
from stages.common.mlflow_runs import mlflow_runs
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tracked_runs import INFO, send

# MLflow's own business with SQLAlchemy.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]


def tell(folder, key, *overrides, everything=60.0, finish=True):
    """A run of one step and its report, as stages tell them."""
    params = scenes.composed(*overrides)
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"miou": {"all": everything}}))
    (folder / "steps.csv").write_text("step,miou_all\n0,80\n1,\n")
    (folder / "classes.csv").write_text("step,class,iou\n0,disc,50\n")
    changed = {"label": "mib kd.weight=5", "changed": '{"kd.weight": "5"}'}
    info = dataclasses.replace(INFO, key=key, params=tracking.scalars(params), tags=changed)
    with tracking.open_run(info) as run:
        for index, seconds in enumerate((40.0, 20.5)):
            step = run.step(f"step{index}")
            step.metrics({"seconds": seconds}, step=0)
            step.finish()
        run.artifacts(folder, "report")
        if finish:
            run.finish()


def test_a_finished_run_is_found_with_its_numbers(store, tmp_path):
    tell(tmp_path / "a", "a" * 16)
    tell(tmp_path / "b", "b" * 16, "seed=2", finish=False)
    send()
    found = list(mlflow_runs())
    (run,), notes = finished_runs(found)
    assert notes == []
    assert (run.label, run.changed, run.seed) == ("mib kd.weight=5", {"kd.weight": "5"}, 1)
    assert run.benchmark.title == "shapes/4-2 · overlapped · whole photographs"
    assert (run.score("all"), run.seconds) == (60.0, 60.5)
    assert [row["miou_all"] for row in run.steps] == [80.0, None]

    entry = found[0]  # the same, and another of before, as DVC has them
    params = scenes.composed()
    assert entry.params == {k: str(v) for k, v in tracking.scalars(params).items()}
    older = dataclasses.replace(entry, source="older", time=entry.time - 9)
    assert finished_runs([older, entry])[1] == []
    other = json.dumps({"miou": {"all": 1.0}}).encode()
    differs = dataclasses.replace(
        older, read=lambda name: other if name == "summary.json" else entry.read(name)
    )
    (kept,), notes = finished_runs([differs, entry])
    assert kept.score("all") == 60.0
    assert notes[0].startswith("older is left out: MLflow's 'mib")


def test_without_a_database_there_is_nothing(root):
    assert list(mlflow_runs()) == []
    assert not (root / "mlflow.db").exists()


def test_a_server_that_is_away_is_told(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(InputError, match="does not answer") as told:
        list(mlflow_runs())
    assert "secret" not in str(told.value)
    assert "--source dvc" in str(told.value)
