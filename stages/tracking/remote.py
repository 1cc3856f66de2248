"""One run in MLflow, to which nothing is written twice."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar, final

from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient

from stages.tracking.events import Metrics, State
from stages.tracking.naming import Scalar

# What one `log_batch` may hold: https://mlflow.org/docs/latest/api_reference/rest-api.html
_METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
_KEY_LENGTH = 250

T = TypeVar("T")


@final
class RemoteRun:
    """A run and what it already holds.

    What it holds is asked for once and then remembered, so one sender at a time may be at work,
    and after an error the object is worth nothing.
    """

    def __init__(self, client: MlflowClient, run: MlflowRun) -> None:
        self._client = client
        self.id = run.info.run_id
        self._state = run.info.status
        self._tags = dict(run.data.tags)
        self._params = set(run.data.params)
        self._charted = set(run.data.metrics)
        self._points: dict[str, set[tuple[int, float]]] = {}

    def log_facts(self, params: Mapping[str, Scalar], tags: Mapping[str, str]) -> None:
        """Writes parameters and tags; a parameter that is there stays as it is."""
        new = {_key(k): str(v) for k, v in params.items() if _key(k) not in self._params}
        changed = {_key(k): v for k, v in tags.items() if self._tags.get(_key(k)) != v}
        for piece in _pieces([Param(k, v) for k, v in new.items()], _PARAMS_AT_ONCE):
            self._client.log_batch(self.id, params=piece)
        for piece in _pieces([RunTag(k, v) for k, v in changed.items()], _PARAMS_AT_ONCE):
            self._client.log_batch(self.id, tags=piece)
        self._params |= set(new)
        self._tags |= changed

    def log_metrics(self, events: list[Metrics]) -> None:
        """Writes those points that are not there yet; another value at the same place is new."""
        points = [
            Metric(_key(name), value, event.time, event.step)
            for event in events
            for name, value in event.values.items()
        ]
        for piece in _pieces([p for p in points if self._is_new(p)], _METRICS_AT_ONCE):
            self._client.log_batch(self.id, metrics=piece)

    def log_files(self, folder: Path, shown_under: str) -> None:
        """Writes all files of `folder`, over those of the same names."""
        self._client.log_artifacts(self.id, str(folder), shown_under or None)

    def end(self, state: State, time: int) -> None:
        """Says that the run is over, and since when; a finished one stays as it is."""
        if self._state == "FINISHED":
            return
        self._client.set_terminated(self.id, state, time)
        self._state = state

    def resume(self) -> None:
        """Says that a run which had broken off is going on."""
        if self._state in ("FAILED", "KILLED"):
            self._client.update_run(self.id, "RUNNING")
            self._state = "RUNNING"

    def _is_new(self, point: Metric) -> bool:
        known = self._known(point.key)
        place = (point.step, point.value)
        is_new = place not in known
        known.add(place)
        return is_new

    def _known(self, key: str) -> set[tuple[int, float]]:
        if key not in self._points:
            there = self._client.get_metric_history(self.id, key) if key in self._charted else []
            self._points[key] = {(point.step, point.value) for point in there}
        return self._points[key]


def _key(text: str) -> str:
    """Returns `text` with what MLflow forbids in a key replaced."""
    return re.sub(r"[^\w.\- /]", "_", text)[:_KEY_LENGTH]


def _pieces(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
