"""The sender's side of a journal: what is new in it, and whether its writer still lives."""

import shutil
from pathlib import Path
from typing import final

from stages.tracking import locks
from stages.tracking.events import Event, decode
from stages.tracking.journal import SUFFIX, copies_of


def journals(spool: Path) -> list[Path]:
    """Returns the journals that are not sent or still being written, the oldest first."""
    return sorted(spool.glob(f"*{SUFFIX}"))


def is_being_written(journal: Path) -> bool:
    """Says whether the writer is still there."""
    return locks.is_held(journal)


@final
class Reader:
    """Reads one journal piece by piece.

    `read` gives the same lines again until `accept` says that they have arrived.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._accepted = 0
        self._read = 0

    def read(self) -> list[Event]:
        """Returns the events after those accepted.

        A last line without its end is left alone: it is being written, or its writer died over
        it. AssembledRecipe lines that are no events are passed over.
        """
        with self.path.open("rb") as file:
            file.seek(self._accepted)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read = self._accepted + len(whole) + len(end)
        return [event for line in whole.split(b"\n") if (event := decode(line)) is not None]

    def accept(self) -> None:
        """What `read` gave has been sent."""
        self._accepted = self._read

    def remove(self) -> None:
        """Deletes the journal and the copies beside it. The journal goes last: it names them."""
        shutil.rmtree(copies_of(self.path), ignore_errors=True)
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Keeps the journal for a person to look at, where it stops no other."""
        return self.path.replace(self.path.with_suffix(".refused"))
