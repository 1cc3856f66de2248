"""Sends to MLflow what has not been sent yet."""

import contextlib
import os
import socket
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cssegcore.core.errors import InputError

from .common.cli import run, say
from .common.home import INSTALLED, invocation
from .common.places import root
from .tracking.journal import journals, spool
from .tracking.mlflow_backend import (
    FILES,
    KEY_TAG,
    MlflowBackend,
    connect,
    own_database,
    tracking_uri,
    without_password,
)
from .tracking.sender import Sender, follow
from .tracking.tracker import DeliveryError

_LOOPBACK = "127.0.0.1"
_MOST_PAGES = 10
_TRAINING = "workflowType=machine_learning"
"""MLflow's menu for trainings, not that for language models."""


def main(
    *,
    ui: Annotated[bool, typer.Option("--ui", help="Then open MLflow's UI.")] = False,
    port: Annotated[int, typer.Option(envvar="MLFLOW_PORT", help="Of the UI.")] = 5000,
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> None:
    """Send to MLflow what has not been sent yet.

    Stages note down what happens, and a process in the background passes it on. What it could not
    pass on, because the server was away, this command does. Sending twice changes nothing.
    """
    if background:
        os.nice(19)
        follow()
        return
    arrived = _send()
    if ui:
        _open_ui(port)
    if not arrived:
        raise typer.Exit(1)


def _send() -> bool:
    """Says what has been sent and what has not; returns whether all that there is arrived."""
    tracker = MlflowBackend()
    sender = Sender(tracker)
    try:
        sent = sender.send()
    except (DeliveryError, OSError) as error:
        typer.echo(
            f"error: cannot send to {tracker.address}: {error}. Nothing is lost: {len(journals())}"
            f" journals wait in {spool()}; run `{invocation('track')}` again.",
            err=True,
        )
        return False
    for path, reason in sender.set_aside.items():
        typer.echo(
            f"error: {tracker.address} refuses a journal: {reason}. It is kept as {path}.", err=True
        )
    writing = len(journals())
    going_on = f"; {writing} stages are still writing" if writing else ""
    say(f"tracking: {sent or 'no new'} events sent to {tracker.address}{going_on}.")
    return not sender.set_aside


def _open_ui(port: int) -> None:
    """Becomes MLflow's UI, for this machine only, or says where the server's own is.

    Raises:
        InputError: Another program answers at the port.
    """
    uri = tracking_uri()
    if urlsplit(uri).scheme in ("http", "https", "databricks"):
        say(f"MLflow: open {without_password(uri)} in a browser; that server has its own UI.")
        _tell_pages(uri, without_password(uri))
        return
    with contextlib.suppress(OSError), socket.create_connection((_LOOPBACK, port), timeout=5):
        again = "cssegcore track --ui --port " if INSTALLED else "make ui PORT="
        raise InputError(f"port {port} is taken by another program: {again}{port + 1}")
    address = f"http://{_LOOPBACK}:{port}"
    say(f"MLflow: {address}/#/experiments?{_TRAINING}")
    _tell_pages(uri, address)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # an argument can be read by all on the machine
    os.chdir(root())
    where = ["--host", _LOOPBACK, "--port", str(port), "--artifacts-destination", FILES]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *where])


def _tell_pages(uri: str, address: str) -> None:
    """Says which page lists the runs of each experiment, the newest first.

    MLflow opens an experiment on its traces, of which ours have none. A server that does not answer
    has been told of already.
    """
    if own_database() and not (root() / "mlflow.db").exists():
        return
    try:
        client = connect(uri)
        from mlflow.exceptions import MlflowException
    except DeliveryError:
        return
    with contextlib.suppress(MlflowException):
        experiments = {e.experiment_id: e.name for e in client.search_experiments()}
        ours = f"tags.`{KEY_TAG}` LIKE '%'"
        newest = client.search_runs(list(experiments), ours, order_by=["start_time DESC"])
        for key in list(dict.fromkeys(run.info.experiment_id for run in newest))[:_MOST_PAGES]:
            say(f"  {experiments[key]}: {address.rstrip('/')}/#/experiments/{key}/runs?{_TRAINING}")


if __name__ == "__main__":
    run(main)
