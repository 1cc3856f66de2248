"""Finished runs that MLflow keeps: on a server, or in our own database."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cssegcore.core.errors import InputError

from ..tracking.mlflow_backend import (
    FILES,
    KEY_TAG,
    PROXIED,
    STEP_TAG,
    connect,
    own_database,
    tracking_uri,
    without_password,
)
from ..tracking.tracker import DeliveryError
from .found_runs import FoundRun
from .places import root

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


def mlflow_runs() -> Iterator[FoundRun]:
    """Yields the finished runs, none if there is neither a database nor a server's address.

    Raises:
        InputError: The server does not answer.
    """
    if own_database() and not (root() / "mlflow.db").exists():
        return
    uri = tracking_uri()
    try:
        client = connect(uri)
        from mlflow.exceptions import MlflowException
    except DeliveryError as error:
        raise InputError(f"MLflow at {without_password(uri)} cannot be asked: {error}.") from None
    try:
        found = _all_runs(client)
    except MlflowException as error:
        cause = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"MLflow at {without_password(uri)} does not answer: {without_password(cause)[:300]}."
            " `--source dvc` does without it."
        ) from None
    steps = _seconds(found)
    for run in found:
        tags = run.data.tags
        if STEP_TAG not in tags and run.info.status == "FINISHED":
            yield FoundRun(
                f"MLflow's {tags.get('mlflow.runName', run.info.run_id)!r}",
                dict(run.data.params),
                (run.info.end_time or 0) / 1000,
                partial(_read, client, run),
                _noted(tags),
                steps.get(tags[KEY_TAG]),
            )


def _all_runs(client: "MlflowClient") -> "Sequence[Run]":
    runs, page = [], None
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    while True:
        found = client.search_runs(experiments, max_results=1000, page_token=page)
        runs += [run for run in found if KEY_TAG in run.data.tags]
        page = found.token
        if not page:
            return runs


def _seconds(runs: "Sequence[Run]") -> dict[str, float]:
    """Returns how long the trainings of each run took, by its key, as far as every step says."""
    told: dict[str, list[float | None]] = {}
    for run in runs:
        if STEP_TAG in run.data.tags:
            told.setdefault(run.data.tags[KEY_TAG], []).append(run.data.metrics.get("seconds"))
    return {key: sum(known) for key, said in told.items() if (known := _whole(said))}


def _whole(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def _noted(tags: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        return {"label": tags["label"], "changed": json.loads(tags["changed"])}
    except (LookupError, ValueError):
        return None


def _read(client: "MlflowClient", run: "Run", name: str) -> bytes:
    """Returns a file of the run's report."""
    place = str(run.info.artifact_uri)
    if own_database() and place.startswith(PROXIED):
        return (root() / FILES / place.removeprefix(PROXIED) / "report" / name).read_bytes()
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = client.download_artifacts(run.info.run_id, f"report/{name}", folder)
            return Path(path).read_bytes()
    except (MlflowException, OSError) as error:
        cause = next(iter(without_password(str(error)).splitlines()), "")
        raise FileNotFoundError(f"MLflow has no report/{name} of it ({cause[:200]}).") from None
