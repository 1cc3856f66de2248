"""PyTorch's own generators, where a network or a loss draws from them: fresh weights, dropout."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Makes what is drawn inside this context depend on the numbers alone.

    Not on what ran before in this process, so that a training that goes on after a kill draws the
    same. The generators' states of before come back.

    Args:
        numbers: The seed of the run, the step, and what else tells one such context from others.
        device: A GPU that is drawn on as well.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        yield
