"""What a pseudo-labelling rule does. No torch here: most methods have no pseudo-labels."""

import abc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cssegcore.core.types import Scores
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList


@dataclass(frozen=True)
class LabelRequest:
    """What to label.

    Attributes:
        dataset: Where the photographs and annotations lie.
        lists: What the step trains on: its own list (`train`) and, if it replays any, the exemplars
            (`memory`). A photograph may stand in both, annotated differently.
        model: File of the previous model.
        progress: Wraps the iterable of batches (second argument: number of photographs).
    """

    dataset: Dataset
    lists: Mapping[str, ImageList]
    model: Path
    progress: Callable[[Iterable[Any], int], Iterable[Any]]


class PseudoLabels(abc.ABC):
    """Labels a step's photographs with the model of the step before.

    Attributes:
        scores: How it reads the previous model's logits; None if it reads none.
        expects_background_at_0: Whether it takes output 0 for the background, not the unknown
            class.
    """

    scores: ClassVar[Scores | None] = None
    expects_background_at_0: ClassVar[bool] = False

    @abc.abstractmethod
    def write(self, out: Path, request: LabelRequest) -> None:
        """Writes `LIST/NAME.png` and `manifest.json` below `out`.

        A label image holds what the step trains on, at the photograph's size: 0 background, 1.. the
        classes seen, 255 ignored; the annotation of the step and, where it says background, what
        the rule makes of the previous model's prediction. The manifest has the keys

        images: for each list the names it has label images of; empty if the rule labels nothing.
        background: number of pixels annotated as background, over all lists.
        classes: for each class that the previous model knows, background included: `class`, its
            `threshold` (None if the rule has none), and how many of those pixels were `predicted`
            to be of it and `accepted`.
        """
