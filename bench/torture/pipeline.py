"""`dvc repro` that is killed again and again, whole or in part, until it has come to its end."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.torture._ledger import BLOCKED, DIFFERS, HANGS, LOST, SAME, Ledger
from bench.torture._tree import digests, results
from tests.helpers.dvc_project import Project

LIMIT = 3600.0
"""Seconds; others may use the machine, too."""
MOST = 40
"""Kills of one run; more than that and it makes no way."""

EPOCHS = ("method=mib", "schedule.base.epochs=6", "schedule.increment.epochs=4")
CUT_OFF = "DVC, while it writes `dvc.lock`, which is deleted then"
VICTIMS = ("all, by Ctrl-C", "all", "DVC alone", "the stage alone", "the stage, its training done")


def run(ledger: Ledger) -> None:
    """Runs a cold pipeline with tracking off and on; the results must be those of none killed."""
    with tempfile.TemporaryDirectory() as name:
        wanted, seconds = _undisturbed(Path(name, "calm"))
        for number in range(ledger.times(2)):
            _story(ledger, Path(name, f"story{number}"), number, wanted, seconds)


def _undisturbed(place: Path) -> tuple[dict[str, str], float]:
    project = _project(place)
    start = time.monotonic()
    project.run("dvc", "repro")
    return _results(project), time.monotonic() - start


def _project(place: Path) -> Project:
    place.mkdir()
    project = Project(place)
    project.compose(*EPOCHS)
    return project


def _results(project: Project) -> dict[str, str]:
    return results(digests(project.root / "work"))


def _story(
    ledger: Ledger, place: Path, number: int, wanted: dict[str, str], seconds: float
) -> None:
    """Kills one run until it is through."""
    project = _project(place)
    tracking = ("off", "later")[number % 2]
    kills: list[str] = []
    for turn in range(MOST):
        rng = ledger.rng(number, turn)
        victim = VICTIMS[(turn + 3 * number) % len(VICTIMS)]  # a run ends after three or four
        sent = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        sent = signal.SIGINT if "Ctrl-C" in victim else sent
        status, said, hit = _repro(
            project, tracking, victim, sent, rng.uniform(0.05, 0.25) * seconds
        )
        if hit:
            kills.append(f"{victim}: {sent.name}")
        if status and not hit and "dvc.lock' validation failed" in said:
            # DVC writes its file in place; it names the file, and a person would delete it
            (project.root / "dvc.lock").unlink()
            kills.append(f"{CUT_OFF}: {sent.name}")
            continue
        if status is None or (status and not hit):
            what = HANGS if status is None else BLOCKED
            ledger.count(_fault(victim), what, {"trial": (number, turn), "said": said[-1500:]})
        if not hit and status == 0:
            break
    else:
        ledger.count("a killed `dvc repro` makes way", LOST, {"kills": kills})
        return
    what = SAME if _results(project) == wanted else DIFFERS
    for kill in kills:
        ledger.count(_fault(kill.partition(":")[0]), what, {"story": number, "kill": kill})


def _fault(victim: str) -> str:
    return f"`dvc repro`, cold: {victim}; then again"


def _repro(
    project: Project, tracking: str, victim: str, sent: signal.Signals, after: float
) -> tuple[int | None, str, bool]:
    """Runs `dvc repro` and sends a signal; returns status, what was said, and whether it hit."""
    own = {"CSSEGCORE_TRACKING": tracking, "PYTHONUNBUFFERED": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=project.root,
            env=os.environ | own | {"PATH": path},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        hit = _hit(process, project.root, victim, sent, after)
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = None
        if victim != "DVC alone" or status is None:  # then its stage works on, as it would
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        said.seek(0)
        return status, said.read(), hit


def _hit(
    process: "subprocess.Popen[bytes]",
    root: Path,
    victim: str,
    sent: signal.Signals,
    after: float,
) -> bool:
    start = time.monotonic()
    there = set(root.glob("work/*/model.safetensors"))
    while process.poll() is None:
        done = set(root.glob("work/*/model.safetensors")) - there
        if done if victim.endswith("done") else time.monotonic() - start > after:
            break
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    if victim.startswith("all"):
        os.killpg(process.pid, sent)
    elif victim.startswith("DVC"):
        process.send_signal(sent)
    else:
        stages = [pid for pid in _group(process.pid) if b"stages." in _command(pid)]
        for pid in stages:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        return bool(stages)
    return True


def _group(leader: int) -> list[int]:
    """Lists the processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                found.append(int(path.parent.name))
    return found


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
