"""The pipeline's commands: read parameters, call the library, write outputs."""

import os
import signal
import sys

INTERRUPTED = "interrupted: run the same command again; finished work is kept.\n"
"""What a command says last after Ctrl-C; its exit status is 130."""


def leave(*_: object) -> None:
    """Ends the process at once: while modules are being imported, nothing else ends it quietly."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, INTERRUPTED.encode())
    os._exit(130)


# This process is a command's (`-m`, or the script), which from here on can be interrupted without a
# traceback; `common.cli` takes over when it runs. Who ignores interrupts (nohup) goes on doing so.
if (
    sys.argv[0].rpartition("/")[2] in ("-m", "cssegcore")
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, leave)
