"""What a way of replaying earlier steps does. No torch here: most methods replay nothing."""

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cssegcore.data.dataset import Dataset
from cssegcore.scenarios import StepList
from cssegcore.types import Scores


@dataclass(frozen=True)
class Task:
    """The moment before a step, when exemplars are chosen.

    Attributes:
        dataset: Where photographs and annotations lie.
        current: Training list of the step to come.
        finished: Training list of the step before it, its classes annotated.
        kept: The exemplars of the step before; none if there are none.
        model: File of the model of the step before.
        seed: Of the whole run.
        progress: Wraps the iterable of batches (second argument: number of photographs).
    """

    dataset: Dataset
    current: StepList
    finished: StepList
    kept: StepList | None
    model: Path
    seed: int
    progress: Callable[[Iterable[Any], int], Iterable[Any]]


class Replay(abc.ABC):
    """Brings samples of earlier steps into a step: kept photographs, made ones, or none.

    Attributes:
        scores: How it reads the previous model's logits; None if it reads none.
        share: Share of a batch that is replayed.
        size: Number of samples it keeps.
        shifted: Whether replayed labels go through the rule for the unknown class like all others.
    """

    scores: ClassVar[Scores | None] = None
    share: float
    size: int
    shifted: bool

    @abc.abstractmethod
    def remember(self, out: Path, task: Task) -> None:
        """Writes `manifest.json` below `out` and, if it keeps photographs, `list.json`.

        `list.json` is a `StepList` for the step to come: its `classes` and `raw`, and every class
        seen so far, the new ones included, in `visible`. The manifest has the names (`images`) and,
        if any are kept, how many were chosen for each class (`classes`).
        """

    @abc.abstractmethod
    def synthesize(self, out: Path) -> None:
        """Writes `manifest.json` below `out`, and the images and labels that it lists."""
