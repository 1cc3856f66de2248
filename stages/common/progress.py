"""What a person sees of a training while it runs, in a terminal and under DVC."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, final

from .cli import interactive, say

LINES = 5
"""Epochs of a training that are told where nobody watches, evenly spread, the last one included."""
SILENCE = 60.0
"""Seconds after which the next epoch is told in any case."""


@final
class TrainingProgress:
    """Tells epoch, loss, validation mIoU, images a second and the time left of one training.

    In a terminal each epoch is a bar that says so; elsewhere some epochs are a line.
    """

    def __init__(
        self, step: str, epochs: int, batch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begins to tell.

        Args:
            step: Name of the step.
            epochs: Epochs of the training.
            batch: Photographs of the step in a batch.
            clock: Returns seconds.
        """
        self._step, self._epochs, self._batch, self._clock = step, epochs, batch, clock
        self._began: float | None = None  # the first epoch that this process trains
        self._told = clock()
        self._finished = self._fresh = 0
        self._rate = 0.0
        self._last: Mapping[str, float] = {}

    def batches(self, items: Iterable[Any], total: int) -> Iterator[Any]:
        """Yields the batches of an epoch, `total` of them, and measures them."""
        start = self._clock()
        self._began = start if self._began is None else self._began
        yield from self._bar(items, total) if interactive() else items
        self._rate = total * self._batch / max(self._clock() - start, 1e-9)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Takes in the row of a finished epoch, and tells it if it is time; not those restored."""
        self._finished, self._last = int(row["epoch"]), {**self._last, **row}
        if self._began is None:
            return
        self._fresh += 1
        due = {round(self._epochs * k / LINES) for k in range(1, LINES + 1)}
        late = self._clock() - self._told > SILENCE
        if not interactive() and (self._finished in due or late or "val_miou" in row):
            say(
                f"{self._step} epoch {self._finished}/{self._epochs}: " + ", ".join(self._said(row))
            )
            self._told = self._clock()

    def _bar(self, items: Iterable[Any], total: int) -> Iterable[Any]:
        from tqdm import tqdm

        title = f"{self._step} {self._finished + 1}/{self._epochs}"
        said = ", ".join(self._said(self._last)) if self._last else None
        shown = {"unit": "images", "unit_scale": self._batch, "leave": False, "postfix": said}
        return tqdm(items, title, total, **shown)

    def _said(self, row: Mapping[str, float]) -> list[str]:
        said = [f"loss {row['loss']:.4f}"]
        if "val_miou" in row:
            said.append(f"val mIoU {row['val_miou']:.1f}")
        if self._fresh and self._began is not None:
            left = (self._clock() - self._began) / self._fresh * (self._epochs - self._finished)
            said += [f"{self._rate:.3g} images/s", f"{duration(left)} left"]
        return said


def duration(seconds: float) -> str:
    """Returns a length of time as `1 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"
