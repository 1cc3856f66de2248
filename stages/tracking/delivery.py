"""One journal on its way to the server."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

from stages.tracking.errors import RefusedError
from stages.tracking.events import PARENT, Artifacts, Closed, Ended, Event, Metrics, Opened
from stages.tracking.journal import copies_of
from stages.tracking.reading import Reader

if TYPE_CHECKING:
    from stages.tracking.remote import RemoteRun
    from stages.tracking.server import Server


@final
class Delivery:
    """Brings the events of one journal to MLflow, in as many goes as it takes.

    A go that failed is repeated from its beginning, with a new server object.
    """

    def __init__(self, path: Path) -> None:
        self.reader = Reader(path)
        self._copies = copies_of(path)
        self._opened: Opened | None = None
        self._touched: set[str] = set()
        self._closed = False

    def unsent(self, *, writer_is_gone: bool) -> list[Event]:
        """Returns what is to be sent now; what a dead writer did not finish was killed."""
        events = self.reader.read()
        self._closed = self._closed or any(isinstance(event, Closed) for event in events)
        if writer_is_gone and not self._closed:
            touched = {event.part for event in events if isinstance(event, Metrics | Artifacts)}
            cut_off = self._touched | touched | {PARENT}
            events += [Ended(part=part, state="KILLED") for part in sorted(cut_off)]
        return events

    def send(self, events: Sequence[Event], server: "Server") -> None:
        """Sends `events`, metrics first and as few requests as possible."""
        points: dict[str, list[Metrics]] = defaultdict(list)
        for event in events:
            if isinstance(event, Opened):
                self._open(event, server)
            elif isinstance(event, Metrics):
                points[event.part].append(event)
        for part, batch in points.items():
            self._run(part, batch[0].time, server).log_metrics(batch)
        for event in events:
            if isinstance(event, Artifacts):
                self._send_files(event, server)
            elif isinstance(event, Ended):
                self._run(event.part, event.time, server).end(event.state, event.time)
        self.reader.accept()

    def _open(self, event: Opened, server: "Server") -> None:
        self._opened = event
        self._run(PARENT, event.time, server).log_facts(event.params, event.tags)

    def _send_files(self, event: Artifacts, server: "Server") -> None:
        copies = self._copies / event.copies
        if copies.is_dir():  # gone if an earlier sender got this far
            self._run(event.part, event.time, server).log_files(copies, event.folder)

    def _run(self, part: str, time: int, server: "Server") -> "RemoteRun":
        if self._opened is None:
            raise RefusedError("a journal must begin with the run it is about")
        run = server.run(self._opened, part, time)
        if part not in self._touched:
            self._touched.add(part)
            run.resume()
        return run
