"""Trainings of several processes, of which one is killed or stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.torture._ledger import BLOCKED, CRASHED, DIFFERS, HANGS, SAME, Ledger
from bench.torture._tree import Tree, import_once

STAGE = "train@step1"
EPOCHS = 60
STOPPED = 1500.0
"""Seconds after which a stopped process must have been noticed."""

LIMIT = 1800.0
"""Seconds; others may use the machine, too."""


def run(ledger: Ledger) -> None:
    """Kills and stops one of two and of four processes, by the command that people use."""
    import_once()
    tree = Tree.walked(ledger.trees, "plain")
    tree.project.set("steps.step1.epochs", EPOCHS)
    tree.project.set("optimizer.batch_size", 4)
    for count in (2, 4):
        start = time.monotonic()
        tree.anew(STAGE)  # the sums of two processes are rounded in another way than those of four
        status, said, _ = _run(tree, count)
        if status != 0:
            raise SystemExit(f"{count} processes do not train undisturbed: {said}")
        taken, wanted = time.monotonic() - start, tree.made(STAGE)
        for number in range(ledger.times(4 // count)):
            _one_goes(ledger, tree, count, number, taken, wanted)
        for _ in range(ledger.times(1)):
            _one_stops(ledger, tree, count, wanted)


def _one_goes(
    ledger: Ledger, tree: Tree, count: int, number: int, taken: float, wanted: dict[str, str]
) -> None:
    rng = ledger.rng(count, number)
    rank, after = rng.randrange(count), rng.uniform(0.2, 0.9) * taken
    status, said = _hit(tree, count, signal.SIGKILL, rank, after)
    what = _then(tree, count, wanted)
    if status is None:
        what = HANGS
    elif status and ("Traceback (most" in said or "error: " not in said):
        what = CRASHED
    fault = f"one of {count} processes is killed, then the command runs again"
    ledger.count(fault, what, {"trial": (count, number), "status": status, "said": said[-1500:]})


def _one_stops(ledger: Ledger, tree: Tree, count: int, wanted: dict[str, str]) -> None:
    status, said = _hit(tree, count, signal.SIGSTOP, count - 1, None)
    what = HANGS if status is None else _then(tree, count, wanted)
    if status and ("Traceback (most" in said or "error: " not in said):
        what = CRASHED
    fault = f"one of {count} processes is stopped (SIGSTOP) for good, then the command runs again"
    ledger.count(fault, what, {"status": status, "said": said[-1500:]})


def _hit(
    tree: Tree, count: int, sent: signal.Signals, rank: int, after: float | None
) -> tuple[int | None, str]:
    """Runs the training anew until the signal met it; says what `_run` does.

    Raises:
        SystemExit: It failed by itself.
    """
    while True:
        tree.anew(STAGE)
        status, said, met = _run(tree, count, sent, rank, after)
        if met:
            return status, said
        if status != 0:
            raise SystemExit(f"{count} processes do not train undisturbed: {said}")
        after = after and after / 2  # it was faster than the undisturbed one


def _then(tree: Tree, count: int, wanted: dict[str, str]) -> str:
    """Runs the same command once more; says what came of it."""
    tree.clear(STAGE)
    status, _, _ = _run(tree, count)
    if status:
        return BLOCKED
    return SAME if tree.made(STAGE) == wanted else DIFFERS


def _run(
    tree: Tree,
    count: int,
    sent: signal.Signals | None = None,
    rank: int = 0,
    after: float | None = None,
) -> tuple[int | None, str, bool]:
    """Runs the training; returns its status, None if it hangs, what it said, if a signal met it."""
    environment = os.environ | {"CSSEGCORE_PROCESSES": str(count), "CSSEGCORE_PATIENCE": "45"}
    command = [sys.executable, "-m", *tree.project.commands[STAGE]]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            cwd=tree.folder,
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        met = bool(sent) and _send(process, tree, rank, sent, after)
        try:
            status = process.wait(STOPPED if sent == signal.SIGSTOP else LIMIT)
        except subprocess.TimeoutExpired:
            status = None
        _end(process)
        said.seek(0)
        return status, said.read(), met


def _send(
    process: "subprocess.Popen[bytes]",
    tree: Tree,
    rank: int,
    sent: signal.Signals,
    after: float | None,
) -> bool:
    """Sends a signal to a worker: after a while, or once the training has begun to save.

    Returns:
        Whether it was sent: not, if the training ended before.
    """
    start = time.monotonic()
    resume = tree.folder / ".cssegcore/resume"
    while process.poll() is None and time.monotonic() - start < LIMIT:
        begun = any(resume.glob("*.pt")) if after is None else time.monotonic() - start > after
        workers = _workers(process.pid)
        if begun and len(workers) > rank:
            os.kill(workers[rank], sent)
            return True
        time.sleep(0.05)
    return False


def _workers(parent: int) -> list[int]:
    """Lists the processes that another one started."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return sorted(map(int, text.split()))


def _end(process: "subprocess.Popen[bytes]") -> None:
    for worker in _workers(process.pid) if process.poll() is None else ():
        os.kill(worker, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
