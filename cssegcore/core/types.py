"""Constants and shape letters that all packages share.

Shape letters: `b` images, `c` network outputs (all classes seen, background first), `k` outputs of
the old model, `h w` pixels, `d` channels.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

BACKGROUND: Final = 0
"""Network output, and label value, of "none of the classes seen so far"."""

IGNORE: Final = 255
"""Label value of pixels that neither train nor count."""

TO_COME: Final = "(classes to come)"
"""Name of all classes to come where a test cannot tell them apart."""

Background = Literal["annotated", "void", "none"]
"""Meaning of a dataset's label 0: annotated background, unlabelled pixels, or no background (0 is a
class)."""

ClassSetting = Literal["overlapped", "disjoint", "sequential", "partitioned", "listed"]
"""Rule for the images of steps that add classes, and for the classes that their labels show."""

Scores = Literal["softmax", "sigmoid"]
"""Function from logits to scores: softmax over all outputs, or one sigmoid for each output."""


BackgroundOutput = Literal["argmax", "rejected", "auxiliary"]
"""Meaning of a network's output 0, which labels call "none of the classes seen so far".

argmax: the background's score, learned like those of the classes; the largest score wins.
rejected: the constant 0, without weights; so a class wins where its sigmoid exceeds 0.5.
auxiliary: a score of its own, from features that it does not move; decisions see a 0 instead.
"""


VAL = "val_"
"""Prefix of curve columns that are measured on validation images."""


class UpdateFactors(NamedTuple):
    """Factors of one weight's update.

    Attributes:
        lr: Factor of the learning rate.
        weight_decay: Factor of the weight decay.
    """

    lr: float = 1.0
    weight_decay: float = 1.0


Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Wraps an iterable to show progress; the second argument is the number of items."""
