import dataclasses

import pytest

from cssegcore.core.errors import InputError
from cssegcore.method.scenario_compatibility import (
    check_annotated,
    labels_without_effect,
)
from cssegcore.scenario.lists import StepLists
from cssegcore.scenario.scenario import Scenario
from tests.helpers.tiny_training import METHODS
from tests.method.test_compatibility import assembled

TABLE = ("background", "cow", "horse", "sheep", "goat")
STEPS = {"step0": ["cow", "horse"], "step1": ["sheep"], "step2": ["goat"]}
OWN = StepLists("lists/a.txt", "lists/b.txt")
INDIFFERENT = {"mib", "ewf_mib", "nest_mib", "deepinversion", "dkd", "dkd_m"}
"""Methods whose terms take the label of an old class for background."""


def scenario(annotated):
    """Builds a scenario whose step1 may read some labels."""
    lists = dict.fromkeys(STEPS, OWN)
    lists["step1"] = dataclasses.replace(OWN, annotated=annotated)
    return Scenario.of("listed", TABLE, STEPS, lists=lists)


def refusal(method, annotated):
    with pytest.raises(InputError) as refused:
        check_annotated(assembled(method, {}), scenario(annotated))
    return str(refused.value)


@pytest.mark.parametrize("method", METHODS)
def test_labels_of_old_classes_are_for_methods_that_read_them(method):
    recipe = assembled(method, {})
    for usual in (None, ["sheep"]):
        check_annotated(recipe, scenario(usual))
        assert not list(labels_without_effect(recipe, scenario(usual)))
    if method in {"star", "star_m"}:
        refusal(method, ["sheep", "horse"])
    else:
        check_annotated(recipe, scenario(["sheep", "horse"]))
        said = list(labels_without_effect(recipe, scenario(["sheep", "horse"])))
        assert len(said) == (method in INDIFFERENT)


def test_the_texts_name_the_key_and_the_way_out():
    assert refusal("star", ["cow", "sheep"]) == (
        "`scenario.lists.step1.annotated` has 'cow', which an earlier step learns, and"
        " `method.statistics.class_features` counts the old classes that labels hide: take 'cow'"
        " out."
    )
    assert list(labels_without_effect(assembled("mib", {}), scenario(["cow", "sheep"]))) == [
        "`scenario.lists.step1.annotated` has 'cow', which an earlier step learns, and"
        " `method.losses.unbiased_ce` takes old classes for background: these labels change"
        " nothing. A method that learns them again is `ft`."
    ]


@pytest.mark.parametrize("setting", ["overlapped", "sequential"])
def test_settings_that_list_nothing_are_left_alone(setting):
    assert not list(labels_without_effect(assembled("mib", {}), Scenario.of(setting, TABLE, STEPS)))
    check_annotated(assembled("mib", {}), Scenario.of(setting, TABLE, STEPS))
