"""MiB's split of ADE20K: every training image belongs to exactly one step.

Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation, CVPR
2020, https://arxiv.org/abs/2002.00718. fcdl94/MiB releases the lists (data/ade/*/train-*.npy), not
what made them; this rule was found from them and makes the same sets of images.
"""

from collections.abc import Collection, Mapping, Sequence

WANT = 120
"""What it counts for a class that none of its images has been given yet."""


def partition(
    present: Sequence[Collection[int]], partition_groups: Sequence[Collection[int]]
) -> list[int | None]:
    """Gives each image to one portion of the classes.

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
