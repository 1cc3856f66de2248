"""Every fault that we know how to make, made on purpose; what came of it.

    python -m bench.torture [--only FAMILY …] [--seed N] [--full] [--out FOLDER]
    python -m bench.torture --again --only FAMILY …
    python -m bench.torture --table docs/reliability.md

Everything happens in temporary folders. Each family of faults leaves a file in --out, so families
can be run one after another, and again alone; --table makes the page out of these files, keeps
what the page has of other families, and runs nothing. --again repeats the trials that went wrong,
after something was mended.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from bench.torture._ledger import Ledger, TimeUp

FAMILIES = ("kills", "pipeline", "tracking", "disk", "rot", "processes", "mutations", "hostile")
REPEATED = ("rot", "mutations", "hostile")
"""Those whose trials stand alone, so that `--again` can repeat them."""

FULL = 20.0
"""How many times the usual number of trials `--full` makes."""

ALONE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "CSSEGCORE_DEVICE": "cpu",
    "CSSEGCORE_TRACKING": "off",
}
"""Of the processes that fork: no threads before the forks, and nothing is cached beside code."""


def main() -> None:
    """Runs families, each in a process of its own, and says what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of trials")
    parser.add_argument("--minutes", type=float, help="at most, each family")
    parser.add_argument("--full", action="store_true", help=f"{FULL:g} times as many: hours")
    parser.add_argument("--out", type=Path, default=Path(".cssegcore/torture"))
    parser.add_argument(
        "--again", action="store_true", help="only what went wrong, as --out has it: is it mended?"
    )
    parser.add_argument("--table", type=Path, help="the page to write from what is in --out")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    # a shell has what it starts in the background ignore Ctrl-C, and that would be handed on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    share = given.share * (FULL if given.full else 1)
    if given.table:
        from bench.torture import _page

        _page.write(given.table, given.out)
    elif given.here:
        (family,) = given.only
        ledger = Ledger(family, given.out.resolve(), given.seed, share, given.minutes)
        if given.again:
            ledger.recall()
        with contextlib.suppress(TimeUp):
            importlib.import_module(f"bench.torture.{family}").run(ledger)
            ledger.finished = not given.again or ledger.finished
        print(f"{family}: {ledger.write()}", flush=True)
    elif given.again and not set(given.only) <= set(REPEATED):
        parser.error(f"--again goes with --only and some of {', '.join(REPEATED)}")
    else:
        raise SystemExit(max(_alone(family, given, share) for family in given.only))


def _alone(family: str, given: argparse.Namespace, share: float) -> int:
    """Runs one family in a process that has imported nothing yet."""
    numbers = ["--seed", str(given.seed), "--share", str(share), "--out", str(given.out)]
    numbers += ["--again"] * given.again
    if given.minutes is not None:
        numbers += ["--minutes", str(given.minutes)]
    command = [sys.executable, "-m", "bench.torture", "--here", "--only", family, *numbers]
    more = ALONE
    own = ["unshare", "--map-root-user", "--mount"]  # so that a small disk can be put somewhere
    if family == "disk" and shutil.which("unshare") and not _status([*own, "true"]):
        command, more = [*own, *command], ALONE | {"CSSEGCORE_TORTURE_MOUNTS": "1"}
    ours = ("DVC_", "MLFLOW_", "CSSEGCORE_", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(command, env=environment | more, check=False).returncode


def _status(command: list[str]) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


if __name__ == "__main__":
    main()
