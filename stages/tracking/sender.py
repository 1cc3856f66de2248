"""Sends what is in the journals: in the background while stages run, or on command.

Any number of senders may be at work; a lock lets one at a time look and send.
"""

import logging
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import final

from cssegcore.core.errors import InputError

from ..common.home import HOME, PACKAGE
from ..common.places import root
from .journal import Reader, hold_lock, is_locked, journals, spool
from .mlflow_backend import MlflowBackend
from .tracker import (
    PARENT,
    Artifacts,
    Closed,
    DeliveryError,
    Ended,
    Event,
    Metrics,
    Opened,
    Packaged,
    RefusedError,
    Tracker,
)

SWITCH = "CSSEGCORE_TRACKING"
MODES = ("on", "later", "off")

_POLL_SECONDS = 1.0
# Longer than the gap between two stages, so that one sender serves a whole `dvc repro`.
_IDLE_SECONDS = 20.0
_LONGEST_WAIT_SECONDS = 60.0
# 2 + 4 + 8 + 16 + 32 s; the next stage starts another sender anyway.
_FAILURES_TO_GIVE_UP = 5
# The other sender may wait for a slow server.
_PATIENCE_SECONDS = 60.0

_log = logging.getLogger(__name__)

# Kept because nobody waits for them: Python warns of a process that is forgotten while it runs.
_started: list[subprocess.Popen[bytes]] = []


@final
class Sender:
    """Sends journals, and deletes those that are sent and whose writers are gone.

    Attributes:
        set_aside: Journals that the tracker refused, with its reasons.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._tracker = tracker or MlflowBackend()
        self._deliveries: dict[Path, _Delivery] = {}
        self.set_aside: dict[Path, str] = {}

    def send(self) -> int:
        """Sends everything there is now and returns how many events that were.

        Journals that the tracker refuses are set aside and stop nothing else.

        Raises:
            DeliveryError: Something did not arrive. It is kept.
            OSError: A journal cannot be read or removed.
        """
        if not journals():
            return 0
        with hold_lock(spool() / "sending.lock", patience=_PATIENCE_SECONDS) as alone:
            if not alone:
                raise DeliveryError("another sender is at work and does not come to an end")
            known = self._deliveries
            self._deliveries = {p: known.get(p) or _Delivery(p) for p in journals()}
            return sum(self._send(delivery) for delivery in self._deliveries.values())

    def _send(self, delivery: "_Delivery") -> int:
        # Asked before reading: if the writer is gone by now, what is read is all there will be.
        gone = not is_locked(delivery.reader.path)
        events = delivery.unsent(writer_is_gone=gone)
        try:
            delivery.send(events, self._tracker)
        except RefusedError as refusal:
            self.set_aside[delivery.reader.set_aside()] = str(refusal)
            return 0
        if gone:
            delivery.reader.remove()
        return len(events)


@final
class _Delivery:
    """One journal on its way, in as many goes as it takes; a failed one is repeated whole."""

    def __init__(self, path: Path) -> None:
        self.reader = Reader(path)
        self._run: Opened | None = None
        self._begun: set[str] = set()
        self._closed = False

    def unsent(self, *, writer_is_gone: bool) -> list[Event]:
        """Returns what is to be sent now; what a dead writer did not finish was killed."""
        events = self.reader.read()
        self._closed = self._closed or any(isinstance(event, Closed) for event in events)
        if writer_is_gone and not self._closed:
            begun = {
                event.part for event in events if isinstance(event, Metrics | Artifacts | Packaged)
            }
            cut_off = self._begun | begun | {PARENT}
            events += [Ended(part=part, state="KILLED") for part in sorted(cut_off)]
        return events

    def send(self, events: Sequence[Event], tracker: Tracker) -> None:
        """Sends `events`, metrics first and as few requests as possible."""
        points: dict[str, list[Metrics]] = defaultdict(list)
        for event in events:
            if isinstance(event, Opened):
                self._run = event
                self._begin(PARENT, event.time, tracker)
            elif isinstance(event, Metrics):
                points[event.part].append(event)
        for part, batch in points.items():
            tracker.log(self._begin(part, batch[0].time, tracker), batch)
        for event in events:
            if isinstance(event, Artifacts | Packaged):
                self._send_files(event, tracker)
            elif isinstance(event, Ended):
                tracker.end(self._begin(event.part, event.time, tracker), event)
        self.reader.accept()

    def _send_files(self, event: Artifacts | Packaged, tracker: Tracker) -> None:
        copies = self.reader.copies / event.copies
        if not copies.is_dir():  # gone if an earlier sender got this far
            return
        run = self._begin(event.part, event.time, tracker)
        if isinstance(event, Packaged):
            tracker.log_model(run, event, copies)
        else:
            tracker.log_files(run, event, copies)

    def _begin(self, part: str, time: int, tracker: Tracker) -> Opened:
        if self._run is None:
            raise RefusedError("a journal must begin with the run it is about")
        if part not in self._begun:
            tracker.begin(self._run, part, time)
            self._begun.add(part)
        return self._run


def follow() -> None:
    """Sends until no stage has written for a while or the tracker stays away."""
    while journals():
        with hold_lock(_background_lock()) as alone:
            if not alone or not _follow_until_idle(Sender()):
                return
        # Looked at again, because a stage that came just now saw the lock and started nobody.


def _follow_until_idle(sender: Sender) -> bool:
    """Returns False if it left because the tracker stays away."""
    failures = 0
    last_busy = time.monotonic()
    while time.monotonic() - last_busy < _IDLE_SECONDS:
        try:
            sender.send()
            failures = 0
        except (DeliveryError, OSError) as error:
            failures += 1
            _log.warning("not sent, kept for later: %s", error)
        waiting = journals()
        if failures >= _FAILURES_TO_GIVE_UP and not any(map(is_locked, waiting)):
            return False
        if waiting:
            last_busy = time.monotonic()
        time.sleep(min(_POLL_SECONDS * 2**failures, _LONGEST_WAIT_SECONDS))
    return True


def mode() -> str:
    """Returns how much is tracked.

    Raises:
        InputError: The environment says something else: a `no` must not send anything.
    """
    given = os.environ.get(SWITCH) or MODES[0]
    if given not in MODES:
        raise InputError(f"{SWITCH} is {given[:40]!r}: set {', '.join(MODES[:-1])} or {MODES[-1]}.")
    return given


def ensure_sender() -> None:
    """Starts the background sender, as a process that outlives the stage, unless it is at work.

    Raises nothing but what `mode` does; costs milliseconds.
    """
    if mode() == "later" or is_locked(_background_lock()):
        return
    try:
        with (spool() / "sender.log").open("wb") as log:
            sender = subprocess.Popen(
                [sys.executable, "-m", f"{PACKAGE}.track", "--background"],
                cwd=root(),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither Ctrl-C nor the end of a queue worker ends it
            )
        _started.append(sender)
    except OSError as error:
        _log.warning("the tracking sender does not start, the work goes on: %s", error)


def _background_lock() -> Path:
    return spool() / "sender.lock"


def _environment() -> dict[str, str]:
    """Returns the sender's environment: one thread, this repository, and code that stays.

    A temporary copy of the repository is deleted while the sender still runs; the main one has
    the same package.
    """
    main = root().resolve()
    code = main if (main / PACKAGE / "track.py").is_file() else HOME
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "DVC_ROOT": str(main), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
