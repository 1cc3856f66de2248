"""How many images a batch must have, by network and replay. No torch before it is asked."""

import json
import math
from typing import TYPE_CHECKING

from cssegcore.core.errors import InputError

from .params import Params

if TYPE_CHECKING:
    from cssegcore.method.assembled import AssembledRecipe
    from cssegcore.method.replay import Replay
    from cssegcore.models._base import Architecture
    from cssegcore.training.optimizer import Optimizer


def smallest_batches(
    params: Params,
    assembled: "AssembledRecipe",
    architecture: "Architecture",
    optimizer: "Optimizer",
) -> str:
    """Returns how many images a batch must have in the first step and in all later ones.

    Raises:
        InputError: `optimizer.batch_size` is less, or what replay generates for a batch.
    """
    from cssegcore.data.batches import images_beside

    images_needed = architecture.smallest_batch * optimizer.accumulate
    if images_needed > optimizer.batch_size:
        raise InputError(
            f"`model.part` {params.model['part']!r} trains on {architecture.smallest_batch} images"
            f" at a time or more: set `optimizer.batch_size` to {images_needed} or more, not"
            f" {optimizer.batch_size}."
        )
    later = 1 if assembled.increment.freeze.keeps_statistics else images_needed
    replay, size = assembled.increment.replay, optimizer.batch_size
    if replay.terms and (beside := images_beside(size, replay.share)) < later:
        raise InputError(
            f"`method.replay.share` of {replay.share} puts {beside} image(s) beside a batch of"
            f" {size}, and `model.part` {params.model['part']!r} with"
            f" `optimizer.accumulate` trains on {later} or more: set it to"
            f" {math.ceil(100 * later / (later + size)) / 100} or more."
        )
    return json.dumps([images_needed, later])


def check_places(params: Params, replay: "Replay") -> None:
    """Refuses a memory that no image of a batch makes place for.

    Raises:
        InputError: The share of a batch is less than one image.
    """
    batch = params.optimizer["batch_size"]
    if replay.size and not replay.concatenated and int(batch * replay.share) < 1:
        raise InputError(
            f"`method.replay.share` of {replay.share} leaves no place in a batch of {batch}: set"
            f" `optimizer.batch_size` to {math.ceil(1 / replay.share)} or more."
        )
