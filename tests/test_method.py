import copy

import pytest

from cssegcore.classifier_init.background import Background
from cssegcore.classifier_init.none import AsBuilt
from cssegcore.errors import InputError
from cssegcore.losses.ce import CrossEntropy
from cssegcore.losses.unbiased_ce import UnbiasedCrossEntropy
from cssegcore.losses.unbiased_kd import UnbiasedDistillation
from cssegcore.method import Method, Recipe, base_modules, recipe_modules
from tests.tiny import method_section

MIB = method_section("mib")


def recipe(**changed):
    return Recipe.of(copy.deepcopy(MIB) | changed)


class TestRecipe:
    def test_parts_are_those_named_with_their_numbers(self):
        method = Method.of(recipe())
        assert method.losses == {
            "unbiased_ce": UnbiasedCrossEntropy(),
            "unbiased_kd": UnbiasedDistillation(weight=10.0),
        }
        assert method.classifier_init == Background()
        assert not method.from_scratch

    def test_the_base_step_has_a_recipe_of_its_own(self):
        method = Method.of_base(recipe().base)
        assert method.losses == {"ce": CrossEntropy()}
        assert method.classifier_init == AsBuilt()
        assert method.from_scratch

    def test_the_same_part_may_stand_under_two_names(self):
        losses = {"a": {"part": "ce"}, "b": {"part": "ce", "average": "labelled", "weight": 2}}
        method = Method.of(recipe(losses=losses))
        assert method.losses == {"a": CrossEntropy(), "b": CrossEntropy("labelled", weight=2.0)}

    def test_modules_are_those_of_the_parts_used(self):
        assert sorted(recipe_modules(recipe())) == [
            "cssegcore.classifier_init.background",
            "cssegcore.losses.unbiased_ce",
            "cssegcore.losses.unbiased_kd",
        ]
        assert sorted(base_modules(recipe().base)) == [
            "cssegcore.classifier_init.none",
            "cssegcore.losses.ce",
        ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"loses": {}}, r"`method\.loses` is not a key.*Did you mean `losses`"),
            ({"start": "fresh"}, r"`method\.start` must be one of previous, scratch; got 'fresh'"),
            ({"images": "all"}, r"`method\.images` must be one of train, seen; got 'all'"),
            ({"losses": {"ce": "ce"}}, r"`method\.losses\.ce` must be a mapping, got 'ce'"),
            ({"base": {"loss": {}}}, r"`method\.base\.loss` is not a key"),
        ],
    )
    def test_keys(self, changed, message):
        with pytest.raises(InputError, match=message):
            recipe(**changed)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"losses": {}}, r"`method\.losses` is empty"),
            ({"losses": {"a": {}}}, r"`method\.losses\.a` must be a mapping with a key `part`"),
            (
                {"losses": {"a": {"part": "unbiased_cd"}}},
                r"`method\.losses\.a\.part`: .* no part 'unbiased_cd'.*Did you mean `unbiased",
            ),
            (
                {"losses": {"a": {"part": "_base"}}},
                r"there is no part '_base' in cssegcore\.losses",
            ),
            (
                {"losses": {"a": {"part": "ce", "wieght": 2}}},
                r"`method\.losses\.a\.wieght` is not a key.*Did you mean `weight`",
            ),
            (
                {"classifier_init": {"part": "backgroud"}},
                r"`method\.classifier_init\.part`.*'backgroud'.*Did you mean `background`",
            ),
            (
                {"start": "scratch"},
                r"`method\.losses\.unbiased_kd` compares with the previous model.*start: previous",
            ),
        ],
    )
    def test_parts_of_the_increments(self, changed, message):
        made = recipe(**changed)
        with pytest.raises(InputError, match=message):
            Method.of(made)

    @pytest.mark.parametrize("taken", ["epoch", "lr", "loss"])
    def test_a_term_that_would_overwrite_a_column_of_the_curve(self, taken):
        made = recipe(losses={taken: {"part": "ce"}})
        with pytest.raises(InputError, match=rf"`method\.losses\.{taken}`.*column.*another name"):
            Method.of(made)

    @pytest.mark.parametrize(
        ("losses", "message"),
        [
            ({}, r"`method\.base\.losses` is empty"),
            (
                {"kd": {"part": "unbiased_kd"}},
                r"`method\.base\.losses\.kd` compares with a previous model.*`method\.losses`",
            ),
        ],
    )
    def test_parts_of_the_base(self, losses, message):
        made = recipe(base={"losses": losses})
        with pytest.raises(InputError, match=message):
            Method.of_base(made.base)
