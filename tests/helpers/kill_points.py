"""Trainings that are killed with SIGKILL and started again.

Each runs in a fork of this process, which has to be a fresh one, so that torch is imported once.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pkgutil
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from tests.helpers.tiny_dataset import commands, run_module

STAGE = "train@step1"
MODEL, CURVE = Path("work/step1/model.safetensors"), Path("work/step1/epochs.csv")
RESUME = Path(".cssegcore/resume")
MOMENTS = {
    "while the first epoch is being saved": ("cssegcore.runtime.resume.replacing", 1),
    "while another epoch is being saved": ("cssegcore.runtime.resume.replacing", 6),
    "while the model is being written": ("cssegcore.models.checkpoint.replacing", 1),
    "between model and curve": ("cssegcore.core.training_files.write_csv", 1),
    "before the state is noted as finished": ("stages.common.once.keep", 1),
}
"""A function, and at which of its calls the process dies."""
RANDOM = 2


def main() -> None:
    """Tells as JSON what came of each training in the current folder, a project."""
    start = time.monotonic()
    told = {"never": _trained([])}
    duration = time.monotonic() - start
    for moment, (name, nth) in MOMENTS.items():
        told[moment] = _trained([lambda name=name, nth=nth: _dies_at(name, nth)])
    for i in range(RANDOM):
        delays = [random.uniform(0.2, 0.8) * duration for _ in range(2)]
        told[f"random {i}"] = _trained([lambda s=s: _dies_after(s) for s in delays])
    Path("told.json").write_text(json.dumps(told))


def _trained(kills: list[Callable[[], contextlib.AbstractContextManager[Any]]]) -> dict[str, Any]:
    """Trains once for each way to be killed and once to the end; says what is there then."""
    for path in (MODEL, CURVE, *RESUME.glob("*-*.*")):
        path.unlink(missing_ok=True)
    statuses, states = [], []
    for kill in [*kills, contextlib.nullcontext]:
        statuses.append(_forked(kill))
        states.append(sorted(path.name for path in RESUME.glob("*.pt")))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (MODEL, CURVE)]
    return {"statuses": statuses, "states": states, "digests": digests}


def _forked(kill: Callable[[], contextlib.AbstractContextManager[Any]]) -> int:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with kill():
            outcome = run_module(*commands(yaml.safe_load(Path("params.yaml").read_text()))[STAGE])
        os.write(2, outcome.err.encode())
        os._exit(outcome.status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def _dies_at(name: str, nth: int) -> Iterator[None]:
    """Kills this process at the nth call of a function, or with half of a file written."""
    real, calls = pkgutil.resolve_name(name), itertools.count(1)

    def deadly(*arguments: Any) -> Any:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    @contextlib.contextmanager
    def deadly_replacing(path: Path) -> Iterator[Path]:
        with real(path) as temporary:
            yield temporary
            if next(calls) == nth:
                os.truncate(temporary, temporary.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch(name, deadly_replacing if name.endswith(".replacing") else deadly):
        yield


@contextlib.contextmanager
def _dies_after(seconds: float) -> Iterator[None]:
    """Kills this process a while later."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    yield
    os._exit(0)
