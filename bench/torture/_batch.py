"""Many trials in one fork: what crashes or hangs is counted, and the rest goes on in another."""

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.torture._ledger import CRASHED, HANGS, OUTSIDE, REFUSED, SAME
from bench.torture._trial import _allowed, _limit_memory
from stages.common.cli import LONGEST, refusal
from tests.helpers.written_files import writes

SECONDS = 20
"""Of the processor, after which a trial hangs."""

WAITS = 300
"""Seconds by the clock, after which it hangs."""

AT_ONCE = 200
"""Trials a fork."""


@dataclasses.dataclass(frozen=True)
class Told:
    """What came of a trial: a word of `_ledger`, and what it said."""

    what: str
    said: str = ""


def once(read: Callable[[], Any]) -> object:
    """Returns what `read` does, run in a fork: this process must never have used autograd.

    Raises:
        SystemExit: It does not do well.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        with os.fdopen(into, "wb") as answer:
            try:
                pickle.dump((True, read()), answer)
            except Exception:  # noqa: BLE001 - said by the parent
                pickle.dump((False, traceback.format_exc()), answer)
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    well, value = pickle.loads(content)
    if not well:
        raise SystemExit(f"does not do well undisturbed: {value}")
    return value


@dataclasses.dataclass(frozen=True)
class Trials:
    """What is tried, each time with another input.

    Attributes:
        prepare: Puts the input of a number in place; False if nothing in it is changed.
        read: What a stage does with it.
        wanted: What `read` returns of the input unchanged.
        otherwise: The word if it returns something else.
        inside: Folders below which it may write.
    """

    prepare: Callable[[int], bool]
    read: Callable[[], Any]
    wanted: object
    otherwise: str
    inside: tuple[Path, ...]


def batched(trials: Trials, numbers: Sequence[int]) -> list[Told]:
    """Tries what each number stands for."""
    told: list[Told] = []
    while len(told) < len(numbers):
        some = numbers[len(told) : len(told) + AT_ONCE]
        told += _some(trials, some)
    return told


def _some(trials: Trials, numbers: Sequence[int]) -> list[Told]:
    """Tries some in a fork, up to the first that ends it."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        with os.fdopen(into, "w") as lines, contextlib.suppress(BaseException):
            _limit_memory()
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            for number in numbers:
                signal.alarm(WAITS)  # either's default is the end of the process
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                what = _one(trials, number)
                lines.write(json.dumps(dataclasses.asdict(what)) + "\n")
                lines.flush()
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as lines:
        told = [Told(**json.loads(line)) for line in lines if line.endswith("\n")]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if len(told) < len(numbers):
        what = HANGS if status in (-signal.SIGALRM, -signal.SIGPROF) else CRASHED
        told.append(Told(what, f"the process ended with status {status}"))
    return told


def _one(trials: Trials, number: int) -> Told:
    if not trials.prepare(number):
        return Told(SAME)
    with writes() as noted:
        told = _told(trials)
    if outside := sorted({str(path) for path in noted if not _allowed(path, trials.inside)}):
        return Told(OUTSIDE, ", ".join(outside)[:500])
    return told


def _told(trials: Trials) -> Told:
    try:
        found = trials.read()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this looks for
        line = refusal(error)
        if line is None or len(line) > LONGEST:
            return Told(CRASHED, traceback.format_exc()[-1500:])
        return Told(REFUSED, line[:300])
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    return Told(SAME if found == trials.wanted else trials.otherwise)
