"""Runs `python -m …`, `dvc …` and `cssegcore …` in forks of one interpreter, slow imports done.

A real DVC starts a process a stage, and each imports PyTorch for seconds: most of the time of a
test of which stages run. `commands(folder)` writes scripts `python` and `dvc` for the front of PATH
that have a waiting interpreter fork instead. The fork has its own arguments, folder, environment
and streams, imports the project's code from that folder, and ends as any process does.
"""

import array
import atexit
import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = ("torch", "safetensors.torch", "PIL.Image", "yaml", "typer", "tqdm", "hydra", "dvc.cli")
MODULES = {"dvc": "dvc", "cssegcore": "cssegcore_stages"}
"""What the commands run that are no `python -m …`."""
CLIENT = """#!{python} -IS
import array, json, os, socket, sys

name, given = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "python" and given[:1] != ["-m"]:
    os.execv({python!r}, [{python!r}, *given])
module, rest = {modules!r}.get(name), given
if not module:
    module, *rest = given[1:]
asked = {{"argv": [module, *rest], "folder": os.getcwd(), "environment": dict(os.environ)}}
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
streams = array.array("i", [0, 1, 2])
link.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
link.sendall(json.dumps(asked).encode())
link.shutdown(socket.SHUT_WR)
sys.exit(int(link.makefile().read() or 70))  # a fork that was killed says nothing
"""


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[Path]:
    """Gives a folder with these commands while the interpreter waits."""
    address = folder / "asked"
    values = {"python": sys.executable, "modules": MODULES, "address": str(address)}
    for name in ("python", *MODULES):
        script = folder / name
        script.write_text(CLIENT.format(**values))
        script.chmod(0o755)
    command = [sys.executable, __file__, str(address)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # none before the forks
    environment = os.environ | threads
    server = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=environment)
    assert server.stdout is not None
    assert server.stdout.readline(), "the interpreter ended before it was ready"
    try:
        yield folder
    finally:
        server.kill()
        server.communicate()


def _serve(address: str) -> None:
    """Waits for ever; returns in each fork, once it has what was asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)  # noqa: T201
    while True:
        link, _ = listener.accept()
        if not os.fork():
            listener.close()
            return _become(link)
        link.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(link: socket.socket) -> None:
    """Takes over streams, folder, environment and arguments, and runs the module."""
    _, sent, _, _ = link.recvmsg(1, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i", sent[0][2])
    asked = json.loads(link.makefile("rb").read())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv, sys.path[0] = asked["argv"], asked["folder"]
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    ended = {"status": 1}
    atexit.register(lambda: link.sendall(str(ended["status"]).encode()))  # after all others
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        ended["status"] = 0
    except SystemExit as end:
        ended["status"] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


if __name__ == "__main__":
    for library in LIBRARIES:
        __import__(library)
    _serve(sys.argv[1])
