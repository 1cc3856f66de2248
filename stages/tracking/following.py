"""When to send: beside the running stages, or now."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from stages.tracking import locks, places
from stages.tracking.background import ensure_sender
from stages.tracking.errors import DeliveryError
from stages.tracking.reading import journals
from stages.tracking.sender import Sender

_POLL_SECONDS = 1.0
# Longer than the gap between two stages, so that one sender serves a whole `dvc repro`.
_IDLE_SECONDS = 20.0
_LONGEST_WAIT_SECONDS = 60.0
# 2 + 4 + 8 + 16 + 32 s; the next stage starts another sender anyway.
_FAILURES_TO_GIVE_UP = 5
# The other sender may be starting up, or waiting for a slow server.
_TAKEOVER_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a command that sends has achieved.

    Attributes:
        sent: Number of events that arrived.
        writing: Number of stages that are not done yet; a background sender follows them.
        set_aside: Journals that the server refused, with its reasons.
    """

    sent: int
    writing: int
    set_aside: dict[Path, str]


def follow() -> None:
    """Sends until no stage has written for a while, the server stays away, or a command comes."""
    spool = places.spool()
    while journals(spool):
        with locks.hold(places.sender_lock()) as alone:
            if not alone or not _follow_until_idle(spool):
                return
        # Looked at again, because a stage that came just now saw the lock and started nobody.


def send_now() -> Outcome:
    """Sends everything there is, after sending a background sender away.

    Raises:
        DeliveryError: Something did not arrive. It is kept.
    """
    spool = places.spool()
    if not journals(spool):
        return Outcome(sent=0, writing=0, set_aside={})
    with (
        locks.hold(places.takeover_lock(), patience=_TAKEOVER_SECONDS) as first,
        locks.hold(places.sender_lock(), patience=_TAKEOVER_SECONDS) as alone,
    ):
        if not (first and alone):
            raise DeliveryError("another sender is at work and does not come to an end")
        sender = Sender(spool)
        sent = sender.send()
    writing = len(journals(spool))
    if writing:
        ensure_sender()
    return Outcome(sent=sent, writing=writing, set_aside=sender.set_aside)


def _follow_until_idle(spool: Path) -> bool:
    """Returns False if it left for another reason than having nothing to do."""
    sender = Sender(spool)
    failures = 0
    last_busy = time.monotonic()
    while time.monotonic() - last_busy < _IDLE_SECONDS:
        try:
            sender.send()
            failures = 0
        except DeliveryError as error:
            failures += 1
            _log.warning("not sent, kept for later: %s", error)
        waiting = journals(spool)
        if failures >= _FAILURES_TO_GIVE_UP and not any(map(locks.is_held, waiting)):
            return False
        if waiting:
            last_busy = time.monotonic()
        if not _stay(spool, min(_POLL_SECONDS * 2**failures, _LONGEST_WAIT_SECONDS)):
            return False
    return True


def _stay(spool: Path, seconds: float) -> bool:
    """Waits, and says whether to go on: not if a command wants to send or the spool is gone."""
    until = time.monotonic() + seconds
    while not locks.is_held(places.takeover_lock()) and spool.is_dir():
        if time.monotonic() >= until:
            return True
        time.sleep(min(_POLL_SECONDS, seconds))
    return False
