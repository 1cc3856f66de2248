"""Random numbers of PyTorch that depend on what they are for, and not on what ran before."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Has PyTorch draw what follows from `numbers` alone; afterwards it goes on as before."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        yield
