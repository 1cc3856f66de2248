"""Domain-incremental splits: steps bring images of other places, and no class.

Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021,
https://arxiv.org/abs/2011.11390 (arthurdouillard/CVPR2021_PLOP, `dataset/cityscapes_domain.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cssegcore.data.index import Entry
from cssegcore.scenario.scenario import Scenario

SHARE = 0.8
"""Share of a step's images that it trains on."""


class Chosen(NamedTuple):
    """The images of one step."""

    train: list[Entry]
    val: list[Entry]
    test: list[Entry]


def domain_images(scenario: Scenario, entries: Sequence[Entry]) -> list[Chosen]:
    """Cuts the images of each step's domains in two, whatever part the dataset gives them.

    domain: a step trains on four fifths of its domains' images; it is tested on a fifth of the
    images of all domains so far, which is drawn anew. So from step 1 on, most test images were
    trained on by some step: 71 to 78 % after the last of Cityscapes' scenarios. As published.
    domain_apart: it is tested on images that no step so far has trained on.

    Args:
        scenario: Scenario whose setting is one of these two.
        entries: Images in the dataset's order, which the cut depends on.
    """
    of = [_cut([e for e in entries if e.domain in step.domains]) for step in scenario.steps]
    lists = []
    for step in scenario.steps:
        known = {domain for s in scenario.steps[: step.index + 1] for domain in s.domains}
        test = _cut([e for e in entries if e.domain in known])[1]
        if scenario.setting == "domain_apart":
            test = [e for _, rest in of[: step.index + 1] for e in rest]
        lists.append(Chosen(*of[step.index], test))
    return lists


def _cut(images: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Shuffles as the published code does and cuts off the last fifth."""
    order = np.arange(len(images))
    np.random.RandomState(1).shuffle(order)
    at = int(SHARE * len(images))
    return [images[i] for i in order[:at]], [images[i] for i in order[at:]]
