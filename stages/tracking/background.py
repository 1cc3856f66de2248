"""Starts the sender beside the stages, as a process of its own that outlives them."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from stages.tracking import locks, places

_log = logging.getLogger(__name__)

# Kept because nobody waits for them: Python warns of a process that is forgotten while it runs.
_started: list[subprocess.Popen[bytes]] = []


def ensure_sender() -> None:
    """Starts the background sender unless it is at work. Never raises; costs milliseconds."""
    if not places.sends_by_itself() or locks.is_held(places.sender_lock()):
        return
    try:
        with (places.spool() / "sender.log").open("wb") as log:
            sender = subprocess.Popen(
                [sys.executable, "-m", "stages.track", "--background"],
                cwd=places.root(),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither Ctrl-C nor the end of a queue worker ends it
            )
        _started.append(sender)
    except OSError as error:
        _log.warning("the tracking sender does not start, the work goes on: %s", error)


def _environment() -> dict[str, str]:
    """Returns the sender's environment: one thread, this repository, and code that stays.

    A temporary copy of the repository is deleted while the sender still runs; the main one has
    the same package.
    """
    own = Path(__file__).parents[2]
    code = places.root() if (places.root() / "stages" / "track.py").is_file() else own
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "DVC_ROOT": str(places.root()),
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
    }
