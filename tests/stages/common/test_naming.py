import pytest

from stages.common.naming import as_texts, name_run
from tests.helpers import tiny_dataset as scenes

CONF = scenes.HOME / "conf"


def named(*overrides):
    return name_run(scenes.composed(*overrides), CONF)


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ((), "mib"),
        (("method=plop", "scenario=shapes/4-1", "seed=7"), "plop"),
        (("scenario=voc/15-1", "order=voc/15-1/b", "method=dkd"), "dkd"),
        (("scenario=voc/19-1b",), "mib"),  # an order that is in no file of its own
        (("scenario=voc/19-1b", "steps.step1.lr=0.5"), "mib step1.lr=0.5"),
        (("scenario.order=own", "method/replay=deepinversion"), "mib+deepinversion"),
        (("evaluation.view=crop", "validation.times=0", "evaluation.batch_size=3"), "mib"),
        (("method/replay=deepinversion",), "mib+deepinversion"),
        (("method=lwf", "method.losses.kd.weight=5"), "lwf kd.weight=5"),
        (("method=mbs", "model=segmenter_vit_tiny"), "mbs+segmenter_vit_tiny"),
        (("optimizer=adamw", "optimizer.clip=2"), "mib+optimizer=adamw optimizer.clip=2"),
        (("steps.step2.lr=0.5",), "mib step2.lr=0.5"),
        (("schedule.base.epochs=3",), "mib base.epochs=3"),
        (("scenario=animals/3-1", "model.backbone.weights=/elsewhere/same.pth"), "mib"),
        (
            ("scenario=animals/3-1", "model.backbone.weights=none"),
            "mib backbone.weights=none",
        ),
    ],
)
def test_a_name_says_what_differs_from_the_default(overrides, label):
    assert named(*overrides).label == label


def test_a_long_list_is_cut_in_the_name_alone():
    values = (
        "seed=2",
        "model.depth=8",
        "optimizer.clip=1",
        "optimizer.momentum=0.5",
        "labels.void=background",
    )
    name = named(*values)
    assert name.label.endswith(" +1 more")
    assert len(name.differences) == 4


def test_texts_of_a_tracker_will_do():
    params = scenes.composed("method/replay=deepinversion")
    assert name_run(as_texts(params), CONF).label == "mib+deepinversion"


@pytest.mark.parametrize("key", ["method", "scenario"])
def test_what_conf_does_not_know_is_told_apart_by_a_digest(key):
    def named(*overrides):
        params = scenes.composed(*overrides)
        params[key]["name"] = "own/own"
        return name_run(params, CONF)

    name = named()
    method = "mib" if key == "scenario" else "own/own"
    assert name.label == f"{method} parameters={name.differences['parameters']}"
    assert named("seed=2", "evaluation.batch_size=3", "validation.times=1") == name
    assert named("steps.step1.lr=0.5") != name
    assert named("validation.keep=best") != name
