"""Which device runs the work: the environment's business, not a parameter of the result."""

import os

import torch

from cssegcore.errors import InputError


def choose_device() -> torch.device:
    """Returns `CSSEGCORE_DEVICE` if set, else the GPU if there is one, else the CPU.

    Raises:
        InputError: The named device is not at hand.
    """
    wanted = os.environ.get("CSSEGCORE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"CSSEGCORE_DEVICE is {wanted!r}, which cannot be used ({reason}): set cpu or cuda."
        ) from None
    return device
