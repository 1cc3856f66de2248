"""Keeps decoded images of a training in memory, within a budget."""

import math

from cssegcore.core.errors import InputError
from cssegcore.data.batches import Replayed, training_bytes
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.distributed import node, processes_started
from cssegcore.runtime.memory import MEMORY, MemoryBudget


def keep_images(step: str, images: ImageStore, replayed: Replayed | None, batch_size: int) -> None:
    """Decodes all images of a step once, and keeps as many as memory allows besides its batches.

    Batches are the same, whatever is kept.

    Args:
        step: Name of the step, for messages.
        images: Images of the step.
        replayed: Images of earlier steps.
        batch_size: Images of a batch, over all processes.

    Raises:
        InputError: `CSSEGCORE_MEMORY` is no number, or less than batches take; or an image cannot
            be read, or is not what the index read.
    """
    budget, processes = MemoryBudget.of_environment(), processes_started()
    need = training_bytes(images, -(-batch_size // processes), replayed)
    if not budget.take(need):
        if budget.is_given:
            raise _too_little(step, budget, need)
        budget = MemoryBudget(0)
    for store in (images, *([replayed.images] if replayed else [])):
        store.keep(budget)


def _too_little(step: str, budget: MemoryBudget, need: int) -> InputError:
    count = node().size
    each = f" of each of {count} processes" if count > 1 else ""
    least = math.ceil(1000 * count * need / 2**30) / 1000
    return InputError(
        f"{step}: the images of a batch{each} and of the next one take {need / 2**20:.2f} MiB, and"
        f" {MEMORY} leaves them {budget.size / 2**20:.2f} MiB: set it to {least:g} (GiB) or more,"
        " or `optimizer.batch_size` to less."
    )
