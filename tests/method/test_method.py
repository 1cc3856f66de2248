import copy

import pytest

from cssegcore.core.errors import InputError
from cssegcore.method.after.none import AsTrained
from cssegcore.method.after.weight_fusion import WeightFusion
from cssegcore.method.classifier_init.background import FromBackground
from cssegcore.method.classifier_init.none import AsBuilt
from cssegcore.method.classifier_init.unknown import FromUnknown
from cssegcore.method.freeze.all_but_newest import AllButNewest
from cssegcore.method.freeze.none import FreezeNothing
from cssegcore.method.losses.ce import CrossEntropy
from cssegcore.method.losses.ewc import ElasticWeights
from cssegcore.method.losses.teacher_kd import TeacherDistillation
from cssegcore.method.losses.teacher_mse import TeacherMse
from cssegcore.method.losses.unbiased_ce import UnbiasedCrossEntropy
from cssegcore.method.losses.unbiased_kd import UnbiasedDistillation
from cssegcore.method.method import (
    SLOTS,
    BaseRecipe,
    Method,
    Recipe,
    base_modules,
    recipe_modules,
)
from cssegcore.method.replay.deepinversion import DeepInversion
from cssegcore.method.replay.exemplars import Exemplars
from cssegcore.method.replay.none import ReplayNothing
from cssegcore.method.statistics.fisher import Fisher
from cssegcore.method.unknown_class.none import NoUnknown
from cssegcore.method.unknown_class.salient import Salient
from tests.helpers.tiny_training import method_section

MIB = method_section("mib")


def recipe(**changed):
    """MiB's recipe with other sections; `base` changes single keys of that section."""
    section = copy.deepcopy(MIB)
    section["base"] |= changed.pop("base", {})
    return Recipe.of(section | changed)


def named(name):
    return Recipe.of(copy.deepcopy(method_section(name)))


class TestRecipe:
    def test_parts_are_those_named_with_their_numbers(self):
        method = Method.of(recipe())
        assert method.losses == {
            "unbiased_ce": UnbiasedCrossEntropy(),
            "unbiased_kd": UnbiasedDistillation(weight=10.0),
        }
        assert method.classifier_init == FromBackground()
        assert method.unknown == NoUnknown()
        assert method.freeze == FreezeNothing()
        assert method.after == AsTrained()
        assert method.replay == ReplayNothing()
        assert (method.penalties, method.statistics) == ({}, {})
        assert not method.from_scratch

    def test_what_acts_after_training_acts_in_increments_alone(self):
        assert Method.of(named("ewf_plop")).after == WeightFusion()
        assert Method.of_base(named("ewf_plop").base).after == AsTrained()

    def test_terms_over_weights_are_kept_apart(self):
        method = Method.of(named("ewc"))
        assert method.losses == {"ce": CrossEntropy()}
        assert method.penalties == {"ewc": ElasticWeights(weight=500.0)}
        assert list(method.terms) == ["ce", "ewc"]
        assert method.statistics == Method.of_base(named("ewc").base).statistics
        assert method.statistics == {"fisher": Fisher()}

    def test_what_the_network_is_stands_in_the_base_section(self):
        method = Method.of(named("ssul_m"))
        base = Method.of_base(named("ssul_m").base)
        for phase in (method, base):
            assert phase.unknown == Salient()
            assert phase.head_recipe == {"part": "conv"}
            assert phase.unknown_scores == phase.scores == "sigmoid"
        assert method.freeze == AllButNewest()
        assert method.classifier_init == FromUnknown()
        assert method.replay == Exemplars()
        assert base.freeze == FreezeNothing()
        assert base.replay == ReplayNothing()

    def test_terms_over_replayed_samples_are_kept_apart(self):
        method = Method.of(named("deepinversion"))
        assert isinstance(method.replay, DeepInversion)
        assert method.replayed == {"replayed": TeacherMse(weight=1.0)}
        assert list(method.terms) == ["unbiased_ce", "unbiased_kd"]
        assert Method.of_base(named("deepinversion").base).replayed == {}
        replay = {"part": "deepinversion", "labels": "hard", "weight": 2}
        assert Method.of(recipe(replay=replay)).replayed == {
            "replayed": CrossEntropy("labelled", weight=2.0)
        }
        replay = {"part": "deepinversion", "labels": "soft", "weight": 10}
        assert Method.of(recipe(replay=replay)).replayed == {
            "replayed": TeacherDistillation(weight=10.0)
        }
        assert Method.of(named("ssul_m")).replayed == {}

    @pytest.mark.parametrize(
        ("losses", "scores", "unknown"),
        [
            ({"ce": {"part": "ce"}}, "softmax", "softmax"),
            ({"bce": {"part": "bce"}}, "sigmoid", "sigmoid"),
            ({"mse": {"part": "feature_mse"}}, None, "softmax"),
            ({"mse": {"part": "feature_mse"}, "b": {"part": "bce"}}, "sigmoid", "sigmoid"),
        ],
    )
    def test_losses_say_how_scores_are_read(self, losses, scores, unknown):
        made = Method.of(recipe(losses=losses, base={"unknown_class": {"part": "everything"}}))
        assert (made.scores, made.unknown_scores) == (scores, unknown)
        assert Method.of(recipe(losses=losses)).unknown_scores is None

    def test_later_steps_gather_what_the_base_step_does_unless_they_say(self):
        assert named("ewc").statistics == named("ewc").base.statistics != {}
        assert Method.of(recipe(statistics={"fisher": {"part": "fisher"}})).statistics.keys() == {
            "fisher"
        }
        assert Method.of_base(recipe().base).statistics == {}

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
            "cssegcore.method.after.none",
            "cssegcore.method.background.argmax",
            "cssegcore.method.classifier_init.background",
            "cssegcore.method.freeze.none",
            "cssegcore.method.losses.unbiased_ce",
            "cssegcore.method.losses.unbiased_kd",
            "cssegcore.method.replay.none",
            "cssegcore.method.unknown_class.none",
            "cssegcore.models.heads.linear",
        ]
        assert sorted(base_modules(recipe().base)) == [
            "cssegcore.method.after.none",
            "cssegcore.method.background.argmax",
            "cssegcore.method.classifier_init.none",
            "cssegcore.method.freeze.none",
            "cssegcore.method.losses.ce",
            "cssegcore.method.replay.none",
            "cssegcore.method.unknown_class.none",
            "cssegcore.models.heads.linear",
        ]
        assert sorted(recipe_modules(named("ssul_m"))) == [
            "cssegcore.method.after.none",
            "cssegcore.method.background.argmax",
            "cssegcore.method.classifier_init.unknown",
            "cssegcore.method.freeze.all_but_newest",
            "cssegcore.method.losses.bce",
            "cssegcore.method.replay.exemplars",
            "cssegcore.method.unknown_class.salient",
            "cssegcore.models.heads.conv",
        ]
        fusion = "cssegcore.method.after.weight_fusion"
        assert fusion in recipe_modules(named("ewf_mib"))
        assert fusion not in base_modules(named("ewf_mib").base)
        assert sorted(recipe_modules(named("deepinversion"))) == [
            "cssegcore.method.after.none",
            "cssegcore.method.background.argmax",
            "cssegcore.method.classifier_init.background",
            "cssegcore.method.freeze.none",
            "cssegcore.method.losses.teacher_mse",
            "cssegcore.method.losses.unbiased_ce",
            "cssegcore.method.losses.unbiased_kd",
            "cssegcore.method.replay.deepinversion",
            "cssegcore.method.unknown_class.none",
            "cssegcore.models.heads.linear",
        ]
        assert "cssegcore.method.statistics.walk" in recipe_modules(named("rw"))
        assert "cssegcore.method.statistics.walk" in base_modules(named("rw").base)

    def test_every_slot_has_parts_of_its_own(self):
        assert len(set(SLOTS.values())) == len(SLOTS)
        assert set(SLOTS) <= set(Recipe.__dataclass_fields__) | {*BaseRecipe.__dataclass_fields__}


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"loses": {}}, r"`method\.loses` is not a key.*Did you mean `losses`"),
            ({"start": "fresh"}, r"`method\.start` must be one of previous, scratch; got 'fresh'"),
            ({"images": "all"}, r"`method\.images` must be one of train, seen; got 'all'"),
            ({"losses": {"ce": "ce"}}, r"`method\.losses\.ce` must be a mapping, got 'ce'"),
            ({"base": {"loss": {}}}, r"`method\.base\.loss` is not a key"),
            ({"head": {"part": "conv"}}, r"`method\.head` is not a key"),
            ({"base": {"head": "conv"}}, r"`method\.base\.head` must be a mapping, got 'conv'"),
            ({"freeze": None}, r"`method\.freeze` must be a mapping, got None"),
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
                r"there is no part '_base' in cssegcore\.method\.losses",
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
                {"statistics": {"mine": {"part": "fisher"}}},
                r"`method\.statistics\.mine` holds the part 'fisher'.*write `fisher:`",
            ),
            ({"statistics": {"fishr": {"part": "fishr"}}}, r"`method\.statistics\.fishr\.part`"),
            ({"freeze": {"part": "all"}}, r"`method\.freeze\.part`: there is no part 'all'"),
            (
                {"replay": {"part": "exemplars", "size": 0}},
                r"`method\.replay`: `size` must be >= 1, got 0",
            ),
            ({"base": {"head": {"part": "mlp"}}}, r"`method\.base\.head\.part`.* 'mlp'"),
            (
                {"base": {"unknown_class": {"part": "x"}}},
                r"`method\.base\.unknown_class\.part`.* 'x'",
            ),
        ],
    )
    def test_parts_of_the_increments(self, changed, message):
        made = recipe(**changed)
        with pytest.raises(InputError, match=message):
            Method.of(made)

    @pytest.mark.parametrize("taken", ["epoch", "lr", "loss", "auxiliary"])
    def test_a_term_that_would_overwrite_a_column_of_the_curve(self, taken):
        made = recipe(losses={taken: {"part": "ce"}})
        with pytest.raises(InputError, match=rf"`method\.losses\.{taken}`.*column.*another name"):
            Method.of(made)

    def test_a_term_that_would_hide_one_of_the_replay(self):
        losses = {"replayed": {"part": "ce"}}
        assert list(Method.of(recipe(losses=losses)).losses) == ["replayed"]
        made = recipe(losses=losses, replay={"part": "deepinversion"})
        with pytest.raises(InputError, match=r"`method\.losses\.replayed`.*column.*another name"):
            Method.of(made)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"losses": {}}, r"`method\.base\.losses` is empty"),
            (
                {"statistics": {"mine": {"part": "walk"}}},
                r"`method\.base\.statistics\.mine` holds the part 'walk'",
            ),
        ],
    )
    def test_parts_of_the_base(self, changed, message):
        made = recipe(base=changed)
        with pytest.raises(InputError, match=message):
            Method.of_base(made.base)

    @pytest.mark.parametrize(
        "slot", ["replay", "pseudo_labels", "classifier_init", "freeze", "after"]
    )
    def test_what_the_base_step_has_nothing_for(self, slot):
        with pytest.raises(
            InputError, match=rf"^`method\.base\.{slot}`: .*no step before.*`method\.{slot}`"
        ):
            recipe(base={slot: {"part": "none"}})
