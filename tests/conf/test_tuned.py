"""What a network asks for on a scenario, whatever the method."""

import pytest

from tests.helpers import tiny_dataset as scenes

CONF = scenes.HOME / "conf"
FILES = sorted(
    path.relative_to(CONF / "tuned").with_suffix("") for path in (CONF / "tuned").glob("*/*/*.yaml")
)


def composed(*asked):
    return scenes.composed(*asked)


def test_every_file_belongs_to_a_scenario_and_a_network():
    assert FILES
    for file in FILES:
        assert (CONF / "scenario" / file.parent).with_suffix(".yaml").exists()
        assert (CONF / "model" / f"{file.name}.yaml").exists()


@pytest.mark.slow
def test_they_apply_by_themselves_and_may_be_left_out():
    chosen = ("scenario=shapes/4-1", "model=segmenter_vit_tiny")
    tuned, by_hand, plain, other = (
        composed(*more)
        for more in (
            chosen,
            (*chosen, "optimizer.batch_size=7"),
            (*chosen, "tuned=none"),
            ("scenario=shapes/4-1",),
        )
    )
    assert (tuned["optimizer"]["part"], tuned["optimizer"]["batch_size"]) == ("adamw", 8)
    assert by_hand["optimizer"] == tuned["optimizer"] | {"batch_size": 7}
    assert plain["optimizer"] == other["optimizer"]
    assert plain["schedule"] == other["schedule"] != tuned["schedule"]
