"""Choice of the device by the environment; it is no parameter of the result."""

import os
import platform
import sys
from typing import Any

import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from cssegcore.core.errors import InputError


def choose_device() -> torch.device:
    """Returns `CSSEGCORE_DEVICE` if set, else the GPU if there is one, else the CPU.

    Of several processes on a machine (torchrun's `LOCAL_RANK`) each has the GPU of its number.

    Raises:
        InputError: The named device is not at hand.
    """
    wanted = os.environ.get("CSSEGCORE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and (rank := os.environ.get("LOCAL_RANK")):
        wanted = f"cuda:{rank}"
    try:
        device = torch.device(wanted)
        if device.type == "meta":
            raise RuntimeError("its tensors have shapes and no numbers")
        torch.empty(0, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # NCCL and allocations without a device go by it
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"CSSEGCORE_DEVICE is {wanted!r}, which cannot be used ({reason}): set cpu or cuda."
        ) from None
    return device


def to_device(array: NDArray[Any], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Copies an array to the device without waiting for the copy to finish.

    A GPU takes it from page-locked memory, behind what it has to do already. On a CPU the tensor
    shares the array's memory.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def device_name(device: torch.device) -> str:
    """Returns the GPU's name, or the kind of a CPU and how many threads compute on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'s' * (threads > 1)}"


def peak_memory(device: torch.device) -> float:
    """Returns the most memory that this process held so far, in MiB.

    On CUDA what tensors took on the device, elsewhere the process's resident memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
