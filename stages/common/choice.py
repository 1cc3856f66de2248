"""Whether the best epoch of a training can be chosen, as far as parameters tell."""

from typing import TYPE_CHECKING

from cssegcore.core.errors import InputError

from .params import Params

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset
    from cssegcore.method.assembled import AssembledRecipe


def check_validation(params: Params, dataset: "Dataset") -> None:
    """Refuses to choose an epoch where there is nothing to choose by but test images.

    Which classes the others show, `split` knows.

    Raises:
        InputError: There is nothing.
    """
    from cssegcore.scenario.scenario import DOMAIN_SETTINGS

    scenario = params.scenario
    if params.validation.keep != "best" or scenario.setting in DOMAIN_SETTINGS:
        return
    if scenario.lists:
        missing = [f"`scenario.lists.{n}.val`" for n, own in scenario.lists.items() if not own.val]
    else:
        own = set(dataset.names("val")).difference(dataset.names("test"))
        missing = [] if own else [f"image of {dataset.root}'s part `val` that is not tested on"]
    if missing:
        raise InputError(
            f"`validation.keep` is best, and there is no {missing[0]}: give one, or set it to last."
        )


def check_after(params: Params, assembled: "AssembledRecipe") -> None:
    """Refuses to choose an epoch by weights that are not the ones to be saved.

    Raises:
        InputError: The rule `after` mixes those of the chosen epoch with the previous model's.
    """
    if params.validation.keep == "best" and assembled.increment.after.needs_old:
        raise InputError(
            "`validation.keep` is best, and epochs are measured before `method.after:"
            f" {assembled.recipe.after['part']}` mixes their weights with the previous model's: the"
            " best before is not the best after. Set `validation.keep` to last, or `method.after`"
            " to none."
        )
