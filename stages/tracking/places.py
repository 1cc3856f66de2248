"""Where tracking lies, and whether it is wanted."""

import os
from pathlib import Path

SWITCH = "CSSEGCORE_TRACKING"


def root() -> Path:
    """Returns the main repository, also from the temporary copies of `dvc exp run --queue`."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def spool() -> Path:
    """Returns the folder of the journals, shared by all stages and queue workers."""
    return root() / ".cssegcore" / "tracking"


def sender_lock() -> Path:
    """Held by the one sender of the spool while it is at work."""
    return spool() / "sender.lock"


def takeover_lock() -> Path:
    """Held by a command that waits for the background sender to make room."""
    return spool() / "takeover.lock"


def writes_journals() -> bool:
    """Says whether this process records at all: not when switched off, and on rank 0 only."""
    return os.environ.get(SWITCH) != "off" and os.environ.get("RANK", "0") == "0"


def sends_by_itself() -> bool:
    """Says whether a stage may start the background sender."""
    return os.environ.get(SWITCH) != "later"


def server_address() -> tuple[str, Path | None]:
    """Returns the tracking URI, and where artifacts go if it is our own local database."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    if chosen:
        return chosen, None
    return f"sqlite:///{root() / 'mlflow.db'}", root() / "mlartifacts"
