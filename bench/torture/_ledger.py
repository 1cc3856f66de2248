"""What was tried and what came of it, as rows of a table and a file a family."""

import collections
import dataclasses
import functools
import json
import os
import platform
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.torture._trial import Ended

SAME = "same result"
REFUSED = "one line"
OTHER = "valid input"
"""It is another input that is right by itself, and nobody can know that it is not meant."""

DIFFERS = "another result"
CRASHED = "traceback"
HANGS = "hang"
OUTSIDE = "wrote outside"
BLOCKED = "restart blocked"
LOST = "work lost"
ACCEPTED = "damage accepted"
BAD = (DIFFERS, CRASHED, HANGS, OUTSIDE, BLOCKED, LOST, ACCEPTED)

OFTEN = 20.0
"""Seconds between two writings of what is known so far."""

KEPT = 3
"""Examples of a bad outcome that a row keeps."""


class TimeUp(Exception):  # noqa: N818 - nothing is wrong
    """The family has had its time; what it counted so far is what there is."""


@dataclasses.dataclass
class Row:
    """One fault.

    Attributes:
        fault: What was done.
        happened: How often what came of it.
        examples: What to do to see a bad outcome again.
    """

    fault: str
    happened: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def tried(self) -> int:
        """How often it was done."""
        return self.happened.total()

    def bad(self) -> dict[str, int]:
        """Returns how often what should not be."""
        return {word: self.happened[word] for word in BAD if self.happened[word]}

    def mended(self, word: str) -> list[str]:
        """Returns the commits at which trials that ended so were made again and ended well."""
        again = [e["since"] for e in self.examples if e["what"] == word and "since" in e]
        return [since["commit"] for since in again if since["what"] not in BAD]


@dataclasses.dataclass
class Ledger:
    """The rows of a family.

    Attributes:
        family: Its name.
        out: Folder of its file, and of what is needed to see a bad outcome again.
        seed: Of the family's random numbers.
        share: How much of the usual number of trials is made.
        minutes: After which it is enough.
        finished: Whether all trials were made.
        rows: What was tried, by its fault.
        before: The family's file, if only what went wrong in it is tried again.
    """

    family: str
    out: Path
    seed: int
    share: float = 1.0
    minutes: float | None = None
    finished: bool = False
    rows: dict[str, Row] = dataclasses.field(default_factory=dict)
    before: dict[str, Any] | None = None
    started: float = dataclasses.field(default_factory=time.time)
    _written: float = 0.0

    @property
    def trees(self) -> Path:
        """The folder of the projects in which families make their faults."""
        return self.out / "trees"

    def times(self, usual: int) -> int:
        """Returns how many trials to make where `usual` are made by default; one at least."""
        return max(1, round(usual * self.share))

    def rng(self, *about: object) -> random.Random:
        """Returns a generator of its own for a trial, so that each can be made alone."""
        return random.Random("/".join(map(str, (self.seed, self.family, *about))))

    def recall(self) -> None:
        """Takes over what the family's file has: only what went wrong in it is tried, again."""
        before = json.loads((self.out / f"{self.family}.json").read_text())
        self.rows = {row.fault: row for row in read_rows(before)}
        self.before, self.finished = before, before["finished"]

    def wants(self, fault: str, trial: object) -> bool:
        """Whether a trial is to be made."""
        return self.before is None or bool(self._bad(fault, trial))

    def _bad(self, fault: str, trial: object) -> list[dict[str, Any]]:
        row = self.rows.get(fault)
        return [e for e in row.examples if e.get("trial") == trial] if row else []

    def count(
        self,
        fault: str,
        what: str,
        example: dict[str, Any] | None = None,
        keep: Callable[[Path], object] | None = None,
    ) -> None:
        """Counts an outcome.

        Args:
            fault: The row.
            what: One of the words above.
            example: What tells one trial from the row's others (`trial`), if `what` is bad.
            keep: Copies what is needed to see it again into a folder.

        Raises:
            TimeUp: The time is over.
        """
        if self.before is not None:
            for bad in self._bad(fault, (example or {}).get("trial")):
                bad["since"] = {"what": what, "commit": _commit()}
            return
        row = self.rows.setdefault(fault, Row(fault))
        row.happened[what] += 1
        if time.time() - self._written > OFTEN:
            self.write()
        if what in BAD and len(row.examples) < KEPT:
            place = self.out / "examples" / f"{self.family}-{len(self.rows)}-{len(row.examples)}"
            if keep:
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                keep(place)
            row.examples.append(
                {"what": what, **(example or {})} | ({"at": str(place)} if keep else {})
            )
            print(f"  {self.family}: {fault}: {what} {example}", flush=True)
        if self.minutes is not None and time.time() - self.started > 60 * self.minutes:
            raise TimeUp

    def judge(self, ended: Ended, same: Callable[[], bool] | None, otherwise: str = DIFFERS) -> str:
        """Returns the word for how a trial ended.

        Args:
            ended: The trial.
            same: Whether its results are those without the fault; None if there are none.
            otherwise: The word if they are not.
        """
        if ended.outside:
            return OUTSIDE
        if ended.status is None:
            return HANGS
        if ended.crashed:
            return CRASHED
        if ended.refused:
            return REFUSED
        return SAME if same is None or same() else otherwise

    def write(self) -> Path:
        """Writes the family's file, as far as it is."""
        self._written = time.time()
        path = self.out / f"{self.family}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "family": self.family,
            "seed": self.seed,
            "share": self.share,
            "finished": self.finished,
            "seconds": round(time.time() - self.started),
            "commit": _commit(),
            "machine": machine(),
        }
        content = (self.before or content) | {"rows": [vars(row) for row in self.rows.values()]}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")
        return path


def read_rows(content: dict[str, Any]) -> list[Row]:
    """Returns the rows of a family's file."""
    return [
        Row(row["fault"], collections.Counter(row["happened"]), row["examples"])
        for row in content["rows"]
    ]


@functools.cache
def machine() -> str:
    """Returns what machine this is, in words."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    cores = f"{os.cpu_count()} cores, {memory:.0f} GiB"
    return f"{platform.machine()}, {cores}, {gpu}, {system}, {versions}"


@functools.cache
def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
