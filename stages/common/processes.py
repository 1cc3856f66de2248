"""Running a stage in several processes, one a GPU.

How many is the environment's business and no parameter, as the device is: it changes nothing but
rounding and the time a stage takes.
"""

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

from cssegcore.core.errors import InputError
from cssegcore.runtime.threads import cores

from .home import PACKAGE

P = ParamSpec("P")

NUMBER = "CSSEGCORE_PROCESSES"


def launch_distributed(command: Callable[P, None]) -> Callable[P, None]:
    """Has a stage's command start itself again in as many processes as `CSSEGCORE_PROCESSES` says.

    1 if it is not set; `auto` is one for each GPU. Further nodes are torchrun's business: with
    `PET_NNODES`, `PET_NODE_RANK`, `PET_MASTER_ADDR` and the like set, it counts for each node. A
    process that torchrun started already (`RANK`) does its share.
    """

    @functools.wraps(command)
    def start(*arguments: P.args, **options: P.kwargs) -> None:
        count = 1 if "RANK" in os.environ else processes_wanted()
        if count > 1 or ("PET_NNODES" in os.environ and "RANK" not in os.environ):
            _launch(count)
        else:
            command(*arguments, **options)

    return start


def processes_wanted() -> int:
    """Returns how many processes are asked for.

    Raises:
        InputError: It is no number, or they would all have one GPU.
    """
    text, device = os.environ.get(NUMBER) or "1", os.environ.get("CSSEGCORE_DEVICE") or "cuda"
    if text == "auto":
        return _gpus() if device == "cuda" else 1
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{NUMBER} is {text!r}: set a number of processes, or auto.")
    if int(text) > 1 and ":" in device:
        raise InputError(
            f"CSSEGCORE_DEVICE names one GPU, {device!r}, for {text} processes ({NUMBER}): set"
            " cuda, and CUDA_VISIBLE_DEVICES to choose among them."
        )
    return int(text)


def _gpus() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def _launch(count: int) -> None:
    """Runs this command `count` times by torchrun and waits for the end of all.

    Raises:
        InputError: One of the processes raised it.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    spec = sys.modules["__main__"].__spec__  # none of a script: the command `cssegcore`
    module = spec.name if spec else PACKAGE
    nodes = [] if "PET_NNODES" in os.environ else ["--standalone"]
    how = [*nodes, f"--nproc-per-node={count}", "--module", module]
    try:
        torchrun.run(torchrun.parse_args([*how, *sys.argv[1:]]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == 2:
            raise InputError(failure.message) from None
        killed = f"error: process {rank}: {failure.message}; run the same command again."
        raise SystemExit(killed if failure.exitcode < 0 else 1) from None  # or it said so itself
