"""Choices of a scenario that act in one setting, or on some classes, and would act on nothing."""

from collections.abc import Sequence

from cssegcore.core.errors import InputError
from cssegcore.scenario.lists import LISTED
from cssegcore.scenario.partition import PartitionRule

PARTITIONED = "partitioned"
"""The setting that `scenario.partition` acts in."""


def check_partition(setting: str, rule: PartitionRule) -> None:
    """Compares the rule of a partition with the setting.

    A scenario that lists images may have been a partition before steps arrived, and keep its rule.

    Raises:
        InputError: A rule is chosen that is not used, or a seed for a rule that draws nothing.
    """
    usual = PartitionRule()
    if setting == PARTITIONED and rule.rule == usual.rule and rule.seed != usual.seed:
        raise InputError(
            f"`scenario.partition.seed` is {rule.seed}, but `scenario.partition.rule` is"
            f" {rule.rule!r}, which draws nothing: set the rule to drawn, or the seed to"
            f" {usual.seed}."
        )
    if setting in (PARTITIONED, LISTED) or rule == usual:
        return
    key = "rule" if rule.rule != usual.rule else "seed"
    raise InputError(
        f"`scenario.partition.{key}` is {getattr(rule, key)!r}, but `scenario.setting` is"
        f" {setting!r}, which parts no images: set it to {PARTITIONED!r}, or `scenario.partition`"
        f" to {{rule: {usual.rule}, seed: {usual.seed}}}."
    )


def check_left_out(setting: str, left_out: str | None, left: Sequence[str]) -> None:
    """Compares the meaning of classes that no step learns with these classes.

    Where steps list their images, a class table may grow, so there either may be missing.

    Args:
        setting: The rule that gives steps their images.
        left_out: The meaning, None for none.
        left: The classes that no step learns.

    Raises:
        InputError: There are such classes and no meaning, or a meaning and no such class.
    """
    if setting == LISTED or bool(left) == bool(left_out):
        return
    if left:
        raise InputError(
            f"`scenario.classes`: no step learns {', '.join(left)}; add them to a step's list,"
            " or set `scenario.left_out` to background or void."
        )
    raise InputError(
        f"`scenario.left_out` is {left_out!r}, but every class of the dataset is learned: set it to"
        " null, or take those that are not to be learned out of `scenario.classes`."
    )
