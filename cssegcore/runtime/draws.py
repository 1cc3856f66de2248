"""Random numbers of one iteration, alike however its batch is shared."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.runtime.distributed import shard


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws from a seed of its own, so that a resumed training draws the same again.

    Numbers of a whole batch are shared out among its micro-batches, in all processes.

    Attributes:
        seed: Seed of the run, place of the step, number of the iteration.
        part: Index of this micro-batch.
        parts: Number of micro-batches of all processes.
    """

    seed: tuple[int, ...]
    part: int = 0
    parts: int = 1

    def normal(self, rows: int, columns: int, device: torch.device) -> Float[Tensor, "_ columns"]:
        """Draws a standard normal matrix, and returns this micro-batch's share of its rows.

        Another call returns the same numbers again; another kind of device gives others. They are
        drawn on that device, without synchronization.
        """
        state = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(state[0]))
        drawn = torch.randn(rows, columns, generator=generator, device=device)
        return drawn[self.rows(rows)]

    def rows(self, count: int) -> slice:
        """Returns this micro-batch's share of `count` things in a row."""
        return shard(count, self.part, self.parts)

    def numbered(self, number: int) -> "Draws":
        """Returns draws of the same iteration and micro-batch, but of other numbers."""
        return dataclasses.replace(self, seed=(*self.seed, number))
