"""Interface of a pseudo-labelling rule. No torch here: most methods have no pseudo-labels."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cssegcore.core.types import Progress, Scores
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList


@dataclass(frozen=True)
class LabelRequest:
    """Inputs of a pseudo-labelling.

    Attributes:
        dataset: The photographs and annotations.
        lists: Training lists of the step: its own (`train`) and, if it replays any, the exemplars
            (`memory`). A photograph may be in both lists with different annotations.
        model: File of the previous model.
        progress: Wraps the iterable of batches (second argument: number of photographs).
    """

    dataset: Dataset
    lists: Mapping[str, ImageList]
    model: Path
    progress: Progress


class PseudoLabels(abc.ABC):
    """Labels a step's photographs with the previous model.

    Attributes:
        scores: Function from the previous model's logits to scores; None if it needs no logits.
        expects_background_at_0: Whether the rule expects the background, not the unknown class, as
            output 0.
    """

    scores: ClassVar[Scores | None] = None
    expects_background_at_0: ClassVar[bool] = False

    @abc.abstractmethod
    def write(self, out: Path, request: LabelRequest) -> None:
        """Writes `LIST/NAME.png` and `manifest.json` below `out`.

        A label image holds the training labels, at the photograph's size: 0 background, 1.. the
        classes seen, 255 ignored. They are the annotation and, where it is background, the rule's
        label from the previous model's prediction. The manifest has the keys

        images: for each list, names of the label images; empty if the rule labels nothing.
        background: number of pixels annotated as background, over all lists.
        classes: for each class that the previous model knows, background included: `class`, its
            `threshold` (None if the rule has none), and the numbers of these pixels that were
            `predicted` as the class, and of predicted pixels that were `accepted`.
        """
