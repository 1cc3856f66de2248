"""MLflow as a tracker: an experiment for each scenario, a run for each method and seed.

The steps of a run are nested runs. Ours are found by their tags, anew for every call: somebody may
have deleted a run in the UI, another sender may have made one. MLflow is imported when the first
call comes, because that takes seconds.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, final

from cssegcore.core.files import digest

from ..common.places import root
from . import journal
from .tracker import (
    PARENT,
    Artifacts,
    DeliveryError,
    Ended,
    Metrics,
    Opened,
    Packaged,
    RefusedError,
)

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

KEY_TAG = "cssegcore.run"
STEP_TAG = "cssegcore.step"
_PARENT_TAG = "mlflow.parentRunId"

# Short of patience and silent, unless a person chose otherwise. Read by MLflow when imported.
_CAUTION = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
# MLflow's names for "this is wrong, and will be next time".
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
# What one `log_batch` may hold: https://mlflow.org/docs/latest/api_reference/rest-api.html
_METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
_KEY_LENGTH = 250
# MLflow's own scheme for files that its server keeps: without the place where the checkout lies.
PROXIED = "mlflow-artifacts:/"
FILES = "mlartifacts"
"""The folder beside our own database that has the files of its runs."""


def own_database() -> bool:
    """Whether runs go to the database in the main repository, and to no server."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def tracking_uri() -> str:
    """Returns the server of `MLFLOW_TRACKING_URI`, or the database in the main repository."""
    # With its driver named, because MLflow makes the folder of `sqlite:` without reading escapes.
    own = f"sqlite+pysqlite:///{_escaped(root() / 'mlflow.db')}"
    return os.environ.get("MLFLOW_TRACKING_URI") or own


@final
class MlflowBackend:
    """A `Tracker` that keeps runs in MLflow, at `MLFLOW_TRACKING_URI` or in our own database."""

    def __init__(self) -> None:
        self._uri = tracking_uri()
        self._own = root().resolve() if own_database() else None

    @property
    def address(self) -> str:
        return str(self._own / "mlflow.db") if self._own else without_password(self._uri)

    def begin(self, run: Opened, part: str, time: int) -> None:
        with self._at_work():
            there = self._run(run, part, time)
            if there.info.status in ("FAILED", "KILLED"):
                self._client.update_run(there.info.run_id, "RUNNING")

    def log(self, run: Opened, points: Sequence[Metrics]) -> None:
        with self._at_work():
            there = self._run(run, points[0].part, points[0].time)
            for piece in _pieces(self._new_points(there, points), _METRICS_AT_ONCE):
                self._client.log_batch(there.info.run_id, metrics=piece)

    def log_files(self, run: Opened, files: Artifacts, source: Path) -> None:
        with self._at_work():
            info = self._run(run, files.part, files.time).info
            if target := self._place(str(info.artifact_uri)):
                shutil.copytree(source, target / files.folder, dirs_exist_ok=True)
            else:
                self._client.log_artifacts(info.run_id, str(source), files.folder or None)

    def log_model(self, run: Opened, model: Packaged, source: Path) -> None:
        from ..serving.logged import log_model

        with self._at_work():
            there = self._run(run, model.part, model.time)
            for file in source.iterdir():
                log_model(self._client, there, file, model.registered, self._place)

    def _place(self, address: str) -> Path | None:
        """Returns the folder of our own that an artifact location stands for, None if it is not."""
        if self._own is None or not address.startswith(PROXIED):
            return None
        return self._own / FILES / address.removeprefix(PROXIED)

    def end(self, run: Opened, ending: Ended) -> None:
        with self._at_work():
            info = self._run(run, ending.part, ending.time).info
            if info.status != "FINISHED":
                self._client.set_terminated(info.run_id, ending.state, ending.time)

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self._uri)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keeps this machine's other senders out, and makes one line of whatever is raised.

        Looking and writing are two requests: without a lock two senders would both see nothing
        and both write. It is ours, so it cannot be held up by a lock of the database.
        """
        name = f"cssegcore-{os.getuid()}-{digest(self._uri.encode())}.lock"
        with journal.hold_lock(Path(tempfile.gettempdir()) / name, patience=60) as alone:
            if not alone:
                raise DeliveryError("another sender is at work and does not come to an end")
            try:
                yield
            except DeliveryError:
                raise
            except Exception as error:
                refused = getattr(error, "error_code", None) in _REFUSALS
                raise (RefusedError if refused else DeliveryError)(_cause(error)) from error

    def _run(self, run: Opened, part: str, time: int) -> "Run":
        """Returns the run of `part` as it is now, made with `time` as its beginning if need be."""
        there = self._find(run, part) or self._create(run, part, time)
        if part == PARENT:
            self._log_facts(there, run)
        return there

    def _find(self, run: Opened, part: str) -> "Run | None":
        ours = f"tags.`{KEY_TAG}` = '{run.key}'"
        found = self._client.search_runs([self._experiment(run.experiment)], ours)
        of_part = [r for r in found if r.data.tags.get(STEP_TAG, PARENT) == part]
        return min(of_part, key=lambda r: (r.info.start_time, r.info.run_id), default=None)

    def _create(self, run: Opened, part: str, time: int) -> "Run":
        tags = {KEY_TAG: run.key}
        if part != PARENT:
            parent = self._run(run, PARENT, run.time)
            tags |= {STEP_TAG: part, _PARENT_TAG: parent.info.run_id}
        # In a chart of several methods' steps the legend shows only the name.
        name = run.name if part == PARENT else f"{part} · {run.name}"
        experiment = self._experiment(run.experiment)
        made = self._client.create_run(experiment, start_time=time, tags=tags, run_name=name)
        kept = self._find(run, part) or made
        if kept.info.run_id != made.info.run_id:  # another machine made the same at once
            self._client.delete_run(made.info.run_id)
        return kept

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = f"{PROXIED}{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}" if self._own else None
            return self._client.create_experiment(name, place)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _log_facts(self, there: "Run", run: Opened) -> None:
        """Writes parameters and tags; a parameter that is there stays as it is."""
        from mlflow.entities import Param, RunTag

        params = [Param(_key(k), str(v)) for k, v in run.params.items()]
        for piece in _pieces(
            [p for p in params if p.key not in there.data.params], _PARAMS_AT_ONCE
        ):
            self._client.log_batch(there.info.run_id, params=piece)
        tags = [RunTag(_key(k), v) for k, v in run.tags.items()]
        if changed := [tag for tag in tags if there.data.tags.get(tag.key) != tag.value]:
            self._client.log_batch(there.info.run_id, tags=changed)

    def _new_points(self, there: "Run", points: Iterable[Metrics]) -> list["Metric"]:
        """Returns the points that are not there yet; another value at the same place is new."""
        from mlflow.entities import Metric

        said = [
            Metric(_key(name), value, event.time, event.step)
            for event in points
            for name, value in event.values.items()
        ]
        charted = {point.key for point in said} & set(there.data.metrics)
        known = [
            point
            for key in charted
            for point in self._client.get_metric_history(there.info.run_id, key)
        ]
        seen = {_place(point) for point in known}
        new = {_place(point): point for point in said if _place(point) not in seen}
        return list(new.values())


def connect(uri: str) -> "MlflowClient":
    """Returns MLflow's own client.

    Raises:
        DeliveryError: MLflow cannot be imported, or the address makes no sense to it.
    """
    for name, value in _CAUTION.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient

        return MlflowClient(uri)
    except Exception as error:  # whatever it is, it is the address that is wrong, not the run
        raise DeliveryError(_cause(error)) from error


def without_password(text: str) -> str:
    """Returns `text` with the user and password of every address left out."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _cause(error: BaseException) -> str:
    """Returns the first line of the error at the bottom of the chain: a socket's, a disk's."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return without_password(next(iter(str(error).splitlines()), "") or type(error).__name__)


def _escaped(path: Path) -> str:
    """Returns a path as part of an address: `feature%2Fx` and `what?` are names of folders."""
    return re.sub(r"[%?#]", lambda sign: f"%{ord(sign[0]):02X}", str(path.resolve()))


def _place(point: "Metric") -> tuple[str, int, str]:
    """Returns by what a point is recognised: of its value the six digits that `epochs.csv` keeps.

    So the point that `train` told is the one that `report` read from the file.
    """
    return point.key, point.step, f"{point.value:.6g}"


def _key(text: str) -> str:
    """Returns `text` with what MLflow forbids in a key replaced."""
    return re.sub(r"[^\w.\- /]", "_", text)[:_KEY_LENGTH]


def _pieces(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
