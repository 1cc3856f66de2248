"""MLflow's servers in processes of their own, and what `mlflow models serve` answers."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def free_port() -> int:
    """Returns a port of this machine at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def mlflow_server(
    *command: str, ready: str, settings: Mapping[str, str], folder: Path | None = None
) -> Iterator[int]:
    """Runs `mlflow COMMAND` at a free port, which is given once the server answers.

    Args:
        command: Of MLflow, without a port.
        ready: The path of an address that answers when the server does.
        settings: What the environment says besides.
        folder: Where it runs.
    """
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command, "--port", str(port)],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}{ready}", server)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=60)


def served_model(package: Path, library: Path) -> contextlib.AbstractContextManager[int]:
    """Serves an MLflow model of ours with the library of a folder."""
    return mlflow_server(
        *("models", "serve", "-m", str(package), "--env-manager", "local"),
        ready="/ping",
        settings={"PYTHONPATH": str(library), "CSSEGCORE_DEVICE": "cpu"},
    )


def ask(port: int, photographs: np.ndarray) -> dict[str, Any]:
    """Returns what a served model says of photographs of one size, (b, h, w, 3)."""
    body = json.dumps({"inputs": photographs.tolist()}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["predictions"]


def _wait_for(address: str, server: "subprocess.Popen[str]", seconds: int = 300) -> None:
    for _ in range(2 * seconds):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, server.communicate()
            time.sleep(0.5)
    raise AssertionError("the server does not answer")
