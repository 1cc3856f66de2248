"""The MLflow server: finds our runs by their tags, and makes those that are missing.

Importing this module costs the 3 s that MLflow takes; only the sender does.
"""

import re
from pathlib import Path
from typing import final

from mlflow.tracking import MlflowClient

from stages.tracking.events import PARENT, Opened
from stages.tracking.remote import RemoteRun

KEY_TAG = "cssegcore.run"
STEP_TAG = "cssegcore.step"
_PARENT_TAG = "mlflow.parentRunId"


@final
class Server:
    """Where MLflow keeps runs.

    Args:
        uri: MLflow's tracking URI.
        artifacts: Where a local database's artifacts go; None leaves that to the server.
    """

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        self._client = MlflowClient(uri)
        self._artifacts = artifacts
        self._experiments: dict[str, str] = {}
        self._runs: dict[tuple[str, str], dict[str, RemoteRun]] = {}

    def run(self, opened: Opened, part: str, time: int) -> RemoteRun:
        """Returns the run of `part`, made with `time` as its beginning if it is not there."""
        place = (opened.experiment, opened.key)
        if place not in self._runs:
            self._runs[place] = self._find(opened)
        runs = self._runs[place]
        if part not in runs:
            runs[part] = self._create(opened, part, time)
        return runs[part]

    def _find(self, opened: Opened) -> dict[str, RemoteRun]:
        found = self._client.search_runs(
            [self._experiment(opened.experiment)],
            f"tags.`{KEY_TAG}` = '{opened.key}'",
            order_by=["attributes.start_time DESC"],
        )
        # The earliest comes last and stays, should two machines have made the same run at once.
        return {run.data.tags.get(STEP_TAG, PARENT): RemoteRun(self._client, run) for run in found}

    def _create(self, opened: Opened, part: str, time: int) -> RemoteRun:
        tags = {KEY_TAG: opened.key}
        if part != PARENT:
            parent = self.run(opened, PARENT, opened.time)
            tags |= {STEP_TAG: part, _PARENT_TAG: parent.id}
        made = self._client.create_run(
            self._experiment(opened.experiment),
            start_time=time,
            tags=tags,
            # In a chart of several methods' steps the legend shows only this.
            run_name=opened.name if part == PARENT else f"{part} · {opened.name}",
        )
        return RemoteRun(self._client, made)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._find_or_create_experiment(name)
        return self._experiments[name]

    def _find_or_create_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return self._client.create_experiment(name, self._artifact_location(name))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _artifact_location(self, experiment: str) -> str | None:
        if self._artifacts is None:
            return None
        return (self._artifacts / re.sub(r"[^\w.-]+", "_", experiment)).as_uri()
