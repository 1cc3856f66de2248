"""Every training image belongs to exactly one step, by one of two rules.

`mib` is that of MiB's split of ADE20K:
Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation, CVPR
2020, https://arxiv.org/abs/2002.00718. fcdl94/MiB releases the lists (data/ade/*/train-*.npy), not
what made them; this rule was found from them and makes the same sets of images.

`drawn` is that of Kwak, Cha and Moon, arXiv 2405.09858: an image goes to the step of one of its
classes, drawn at random. Their lists of Pascal VOC are released for a seed.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from cssegcore.core.ranges import at_least

WANT = 120
"""Weight of a class none of whose images has been given yet."""


@dataclasses.dataclass(frozen=True)
class PartitionRule:
    """`scenario.partition`: the rule by which the setting `partitioned` gives images to steps.

    Attributes:
        rule: See above.
        seed: Seed of the draw, which is part of the scenario; a training's seed changes no list.
    """

    rule: Literal["mib", "drawn"] = "mib"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed)

    def places(
        self, present: Sequence[Collection[int]], partition_groups: Sequence[Collection[int]]
    ) -> list[int | None]:
        """Gives each image to one portion of the classes; see `partition`."""
        if self.rule == "mib":
            return partition(present, partition_groups)
        return draw_places(present, partition_groups, self.seed)


def draw_places(
    present: Sequence[Collection[int]], partition_groups: Sequence[Collection[int]], seed: int
) -> list[int | None]:
    """Gives each image to the portion of one of its classes, each as likely as another.

    NumPy's `RandomState`, whose numbers are frozen, draws a place among the image's classes in
    ascending order, image by image. With seed 0 on Pascal VOC 15-1, steps get as many images as
    in the released lists.

    Args:
        present: Raw labels that each image shows; those in no portion, as background, do not count.
        partition_groups: Raw labels, each in one portion at most.
        seed: Seed of the draw.

    Returns:
        The place of each image's portion, None for an image without a class.
    """
    owner = {raw: place for place, portion in enumerate(partition_groups) for raw in portion}
    random = np.random.RandomState(seed)
    shown = (sorted(owner.keys() & set(raws)) for raws in present)
    return [owner[raws[random.randint(len(raws))]] if raws else None for raws in shown]


def partition(
    present: Sequence[Collection[int]], partition_groups: Sequence[Collection[int]]
) -> list[int | None]:
    """Gives each image to one portion of the classes by the rule `mib`.

    Images are visited class by class, in ascending order, and go to the portion of that class of
    theirs which is rare and has been given few of its images: c maximises
    120·(1 - given(c)/n(c)) + Σ n/n(c), n counting images and Σ running over the image's classes;
    the smallest c on ties. given counts for classes of the portion alone.

    Args:
        present: Raw labels that each image shows; those in no portion, as background, do not count.
        partition_groups: Raw labels, each in one portion at most.

    Returns:
        The place of each image's portion, None for an image without a class.
    """
    owner = {raw: place for place, portion in enumerate(partition_groups) for raw in portion}
    shown = [sorted(owner.keys() & set(raws)) for raws in present]
    holding: dict[int, list[int]] = {raw: [] for raw in sorted(owner)}
    for image, raws in enumerate(shown):
        for raw in raws:
            holding[raw].append(image)
    total = {raw: len(images) for raw, images in holding.items()}
    given = dict.fromkeys(owner, 0)
    places: list[int | None] = [None] * len(shown)
    for images in holding.values():
        for image in images:
            if places[image] is None:
                place = owner[_neediest(shown[image], total, given)]
                places[image] = place
                for raw in shown[image]:
                    given[raw] += owner[raw] == place
    return places


def _neediest(raws: Sequence[int], total: Mapping[int, int], given: Mapping[int, int]) -> int:
    images = sum(total[raw] for raw in raws)
    return max(raws, key=lambda raw: WANT * (1 - given[raw] / total[raw]) + images / total[raw])
