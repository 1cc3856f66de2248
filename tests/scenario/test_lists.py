"""Lists of steps: what is refused before anything is indexed."""

import dataclasses

import pytest

from cssegcore.core.errors import InputError
from cssegcore.scenario.lists import check_lists, check_shared, read_lists
from tests.scenario.test_listed import LISTS, SHOWN, STEPS, home, photograph

__all__ = ["home"]


@pytest.mark.parametrize(("kind", "shared"), [("test", "may/b"), ("val", "june/a")])
def test_shared_names_are_told_before_the_index(home, kind, shared):
    named = read_lists(LISTS, SHOWN, photograph)
    check_shared(named)
    named[1] = named[1]._replace(**{kind: ["may/t", shared]})
    with pytest.raises(InputError, match=f"^1 images are trained and tested on: '{shared}' is"):
        check_shared(named)


def test_the_first_step_needs_tests_of_its_own():
    for step in STEPS:
        lists = LISTS | {step: dataclasses.replace(LISTS[step], test=None)}
        if step == "step0":
            with pytest.raises(
                InputError, match=r"`scenario\.lists\.step0\.test` is null, and the"
            ):
                check_lists("listed", lists, STEPS)
        else:
            check_lists("listed", lists, STEPS)
