"""MLflow models in MLflow: logged with the run that made them, registered on wish."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .package import package_model

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.tracking import MlflowClient

SWITCH = "CSSEGCORE_MODELS"
NAME = "model"
MARK = "cssegcore.model"
"""Tag of a logged model: the digest of the file that it was made of."""

_log = logging.getLogger(__name__)


def wanted() -> str | None:
    """Returns the name to register models under, "" to log them only, None for neither.

    `CSSEGCORE_MODELS` is `log` (the default), `off`, or `register:NAME`. Anything else is told, and
    models are logged: a run that is over must not fail by it.
    """
    given = os.environ.get(SWITCH) or "log"
    if given == "off":
        return None
    if found := re.fullmatch(r"register:([\w .-]{1,200})", given):
        return found[1]
    if given != "log":
        _log.warning("%s is %r: write log, off, or register:NAME. Logged only.", SWITCH, given)
    return ""


def log_model(
    client: "MlflowClient",
    run: "Run",
    source: Path,
    registered: str,
    place: Callable[[str], Path | None],
) -> None:
    """Logs a model with a run, unless the run has it, and registers it.

    What MLflow cannot do (an older server knows no logged models, another one no registry) is a
    warning: the run itself is complete without it.

    Args:
        client: Of the server.
        run: That the model belongs to, as it is now.
        source: The model's file.
        registered: The name to register it under; "" for none.
        place: The folder on this machine that an artifact location stands for, None for those that
            only the server knows.
    """
    try:
        mark = _digest(source)
        model = _logged(client, run, mark) or _log_anew(client, run, source, mark, place)
        if registered:
            _register(client, model, registered)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop what else is sent
        _log.warning("the model is not logged in MLflow, all else is: %s", error)


def _logged(client: "MlflowClient", run: "Run", mark: str) -> "LoggedModel | None":
    from mlflow.exceptions import MlflowException

    for output in run.outputs.model_outputs if run.outputs else []:
        with contextlib.suppress(MlflowException):  # somebody has deleted it
            model = client.get_logged_model(output.model_id)
            if model.tags.get(MARK) == mark and str(model.status) == "READY":
                return model
    return None


def _log_anew(
    client: "MlflowClient",
    run: "Run",
    source: Path,
    mark: str,
    place: Callable[[str], Path | None],
) -> "LoggedModel":
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, NAME)
        package_model(source, folder)
        info = run.info
        made = client.create_logged_model(info.experiment_id, NAME, info.run_id, {MARK: mark})
        try:
            about = Model.load(str(folder))
            about.run_id, about.model_id = info.run_id, made.model_id
            about.artifact_path = made.artifact_location
            about.save(str(folder / "MLmodel"))
            if target := place(made.artifact_location):
                shutil.copytree(folder, target, dirs_exist_ok=True)
            else:
                client.log_model_artifacts(made.model_id, str(folder))
            client.log_outputs(info.run_id, [LoggedModelOutput(made.model_id, 0)])
        except BaseException:
            with contextlib.suppress(Exception):
                client.finalize_logged_model(made.model_id, "FAILED")
            raise
        return client.finalize_logged_model(made.model_id, "READY")


def _register(client: "MlflowClient", model: "LoggedModel", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = client.search_model_versions(f"name='{name}'")
    # by its place: MLflow would look for `models:/ID` at another server than this client's
    place, run, own = model.artifact_location, model.source_run_id, model.model_id
    if not any(version.source == place for version in known):
        client.create_model_version(name, place, run, model_id=own)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
