"""Seeds of PyTorch's own generators, for networks that draw from them: weights, dropout."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Makes random numbers inside this context depend on `numbers` alone.

    They do not depend on earlier work of the process, so that a resumed training draws the same.
    Afterwards the generators have their earlier states again.

    Args:
        numbers: The seed of the run, the step, and other numbers that identify the context.
        device: A GPU whose generator is seeded as well.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        yield
