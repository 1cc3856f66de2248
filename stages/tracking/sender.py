"""Sends what is in the journals; the only process that knows MLflow."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, final

from stages.tracking import places
from stages.tracking.delivery import Delivery
from stages.tracking.errors import DeliveryError, RefusedError, said_plainly
from stages.tracking.events import Event
from stages.tracking.reading import is_being_written, journals

if TYPE_CHECKING:
    from stages.tracking.server import Server

# Short of patience and silent, unless a person chose otherwise. Read by MLflow when imported.
_CAUTION = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def connect() -> "Server":
    """Connects to the server of `MLFLOW_TRACKING_URI`, or to our own database."""
    for name, value in _CAUTION.items():
        os.environ.setdefault(name, value)
    from stages.tracking.server import Server

    return Server(*places.server_address())


@final
class Sender:
    """Sends journals, and deletes those that are sent and whose writers are gone.

    Args:
        spool: The folder of the journals.
        connect: Called when there is something to send, and again after every failure.
    """

    def __init__(self, spool: Path, connect: "Callable[[], Server]" = connect) -> None:
        self._spool = spool
        self._connect = connect
        self._server: Server | None = None
        self._deliveries: dict[Path, Delivery] = {}
        self.set_aside: dict[Path, str] = {}

    def send(self) -> int:
        """Sends what is there now and returns how many events that were.

        Journals that the server refuses are set aside, with its reason, and stop nothing else.

        Raises:
            DeliveryError: Something did not arrive. It is kept.
        """
        return sum(self._send_journal(path) for path in journals(self._spool))

    def _send_journal(self, path: Path) -> int:
        delivery = self._deliveries.setdefault(path, Delivery(path))
        # Asked before reading: if the writer is gone by now, what is read is all there will be.
        gone = not is_being_written(path)
        with said_plainly():
            events = delivery.unsent(writer_is_gone=gone)
            if events:
                try:
                    self._deliver(delivery, events)
                except RefusedError as refusal:
                    self.set_aside[delivery.reader.set_aside()] = str(refusal)
                    del self._deliveries[path]
                    return 0
            if gone:
                delivery.reader.remove()
                del self._deliveries[path]
        return len(events)

    def _deliver(self, delivery: Delivery, events: list[Event]) -> None:
        selects_exemplars = self._server is not None
        try:
            with said_plainly():
                delivery.send(events, self._connected())
        except DeliveryError as error:
            self._server = None
            if not (selects_exemplars and isinstance(error, RefusedError)):
                raise
            # What it selects_exemplars may be outdated: somebody deleted the run in the UI.
            self._deliver(delivery, events)

    def _connected(self) -> "Server":
        if self._server is None:
            try:
                with said_plainly():
                    self._server = self._connect()
            except RefusedError as error:  # the address is refused, not the events
                raise DeliveryError(str(error)) from error
        return self._server
