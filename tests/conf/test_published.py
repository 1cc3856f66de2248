import copy
import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from cssegcore.inversion.settings import InversionWeights
from cssegcore.method.assembled import AssembledRecipe
from cssegcore.method.compatibility import check_recipe
from cssegcore.method.method import SLOTS, Method, Recipe
from cssegcore.method.pseudo_labels import PseudoLabels
from cssegcore.method.replay import Replay
from cssegcore.method.replay.deepinversion import DeepInversion
from cssegcore.method.replay.exemplars import Exemplars
from cssegcore.models._base import Architecture
from cssegcore.scenario.scenario import Scenario
from cssegcore.training.optimizer import build_optimizer
from stages import compose
from stages.common.params import Params
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import METHODS

pytestmark = pytest.mark.slow

CONF = scenes.HOME / "conf"
PUBLISHED = CONF / "published"
FILES = sorted(
    str(path.relative_to(PUBLISHED).with_suffix("")) for path in PUBLISHED.glob("*/*/*.yaml")
)
"""Of pairs."""
OF_DATASETS = sorted(
    str(path.relative_to(PUBLISHED).with_suffix(""))
    for path in PUBLISHED.glob("*/*.yaml")
    if path.parent.name != "_shared"
)
SCENARIOS = sorted(
    str(path.relative_to(CONF / "scenario").with_suffix(""))
    for path in (CONF / "scenario").glob("*/*.yaml")
)
MOMENTUM = "batchnorm_momentum"
OF_SOME_SCENARIOS = {
    "ade/ewf_mib": "weights and batches by scenario, none for 50-50",
    "cityscapes/mib": "of cities, not of 13-6 and 17-2",
    "cityscapes/plop": "of cities, not of 13-6 and 17-2",
    "voc/deepinversion": "15-5 alone was tried",
    "voc/lgkd": "factors by scenario",
    "voc/mib": "15-1 has a weight of its own, 10 elsewhere",
    "voc/nest_mib": "epochs by scenario",
    "voc/nest_plop": "epochs by scenario",
    "voc/plop": "10-1 has epochs of its own",
}
"""Why a method has published settings in some scenarios of a dataset and none in others."""
VOC = ("19-1", "19-1b", "15-5", "15-1", "10-10", "10-5", "10-1", "5-5", "5-3", "5-1", "2-2", "2-1")
ADE = ("100-50", "50-50", "100-10", "100-5")
CITIES = tuple(f"cityscapes/{order}" for order in ("1-1", "11-1", "11-5"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a pair is trained with: of base step and increments, or of the increments."""

    terms: dict[str, float]
    epochs: tuple[int, int] = (30, 30)
    lr: tuple[float, float] = (0.01, 0.001)
    batch: int = 24
    crop: int = 512
    backbone_lr: float = 1
    warmup: float = 0
    floor: float = 0
    pod: tuple[float, float] | None = None
    background: str = "argmax"
    positive: tuple[float, float] | None = None
    network: tuple[str, float] = ("summed", 0.1)
    exemplars: tuple[float, str, str, float] | None = None
    init: str = "none"
    freeze: str = "none"
    after: dict[str, Any] = dataclasses.field(default_factory=lambda: {"part": "none"})
    pretuned: tuple[int, float] | None = None
    guided: tuple[float, float] | None = None
    pseudo_labels: dict[str, Any] = dataclasses.field(default_factory=lambda: {"part": "none"})
    unknown: str = "none"
    memory: int = 0
    weight_decay: float = 1e-4
    power: float = 0.9
    made: dict[str, Any] = dataclasses.field(default_factory=dict)


FEATURES = {"prototype_matching": 0.01, "attraction": 1e-3, "repulsion": 1e-3}
FEATURES |= {"sparsification": 1e-3}
FT = Settings({"ce": 1})
LWF = Settings({"ce": 1, "kd": 100})
LWF_MC = Settings({"bce": 1, "bce_kd": 10})
ILT = Settings({"ce": 1, "kd": 100, "feature_mse": 100})
EWC = Settings({"ce": 1, "ewc": 500})
PI = Settings({"ce": 1, "pi": 500})
RW = Settings({"ce": 1, "rw": 100})
JOINT = Settings({"ce": 1}, lr=(0.01, 0.01))
MIB = Settings({"unbiased_ce": 1, "unbiased_kd": 10}, init="background")
PLOP = Settings(
    {"adaptive_ce": 1, "local_pod": 1},
    pod=(0.01, 0.0005),
    init="background",
    pseudo_labels={"part": "entropy", "threshold": 0.001, "rule": "released"},
)
SDR = Settings({"unbiased_ce": 1, "unbiased_kd": 100, **FEATURES}, batch=8)
SSUL = Settings(
    {"bce": 1},
    epochs=(50, 50),
    lr=(0.01, 0.01),
    batch=32,
    crop=513,
    backbone_lr=0.1,
    floor=1e-6,
    network=("summed", 0.01),
    init="unknown",
    freeze="all_but_newest",
    pseudo_labels={"part": "sigmoid", "threshold": 0.7},
    unknown="salient",
)
DEEPINVERSION = dataclasses.replace(
    MIB,
    epochs=(20, 20),
    lr=(0.01, 0.01),
    batch=16,
    weight_decay=0,
    made={
        "per_class": 32,
        "beside": 15,
        "terms": {"replayed": {"part": "teacher_mse", "weight": 1}},
        "least": (0, 0),
        "extra": 0,
        "target": "presence",
        "phases": ((1, 2000), (1, 8000)),
        "lr": 0.2,
        "betas": (0.5, 0.9),
        "jitter": 30,
        "flip": 0.5,
        "stem_factor": 10,
        "weights": InversionWeights(features=0.05, total_variation_l2=1e-4, image_l2=1e-5),
    },
)
changed = dataclasses.replace
USUAL = {"epochs": (30, 30), "lr": (0.01, 0.001), "batch": 24, "crop": 512}
USUAL |= {"backbone_lr": 1, "floor": 0, "network": ("summed", 0.1)}
LONG = {"epochs": (60, 60)}
SDR_MIB = changed(SDR, init="background")
SLOW = {"lr": (0.001, 0.0001)}
PLOP_ADE = changed(PLOP, pod=(0.001, 0.00001), **LONG)
EWF = {"freeze": "old_heads", "after": {"part": "weight_fusion"}}
EWF_MIB = changed(MIB, **EWF)
NEST = {"init": "pretuned", "pretuned": (5, 0.001), "lr": (0.02, 0.001)}
NEST_ADE = {**NEST, "pretuned": (15, 0.5), **LONG}
NEST_QUICK = {"init": "pretuned", "pretuned": (5, 0.02)}
NEST_PLOP = changed(PLOP, freeze="old_heads", **NEST)
LGKD = changed(PLOP, terms=PLOP.terms | {"label_guided_kd": 1}, guided=(1, 1))
LGKD_ADE = changed(LGKD, pod=(0.001, 0.00001), lr=(0.02, 0.002), **LONG)
SSUL_ADE = changed(
    SSUL,
    epochs=(100, 100),
    lr=(0.01, 0.05),
    batch=24,
    warmup=0.1,
    floor=0,
    unknown="everything",
)
DKD = Settings(
    {"mbce": 1, "bce_kd": 5, "reasoning_for": 5, "reasoning_against": 5, "ac": 1},
    epochs=(60, 60),
    batch=32,
    backbone_lr=0.1,
    background="auxiliary",
    positive=(2, 1),
    network=("concatenated", 0.01),
    init="auxiliary",
    freeze="norms",
)
DKD_M = {"exemplars": (0, "concatenated", "step", 0.9)}
DKD_QUICK = changed(
    DKD,
    terms=DKD.terms | dict.fromkeys(("bce_kd", "reasoning_for", "reasoning_against"), 0.25),
    backbone_lr=1,
    network=("summed", 0.1),
)
DKD_ANIMALS = changed(DKD_QUICK, terms=dict.fromkeys(DKD.terms, 1))
DKD_ADE = changed(
    DKD, epochs=(100, 100), lr=(0.025, 0.0025), batch=24, warmup=0.2, positive=(35, 35)
)
STAR = changed(
    DKD,
    terms={"replayed_bce": 1, "old_features": 5, "separation": 0.05},
    batch=24,
    background="rejected",
    positive=(4, 4),
    init="none",
)
STAR_ADE = changed(STAR, epochs=(100, 100), lr=(0.025, 0.0025), warmup=0.2, positive=(30, 30))
STAR_QUICK = changed(STAR, backbone_lr=1, network=("summed", 0.1))
MBS = Settings(
    {
        "ce": 1,
        "weighted_feature_mse": 1,
        "class_feature_mse": 1,
        "label_guided_kd": 25,
        "orthogonal": 1,
    },
    epochs=(32, 32),
    lr=(0.001, 0.0001),
    batch=16,
    init="background_copy",
    guided=(1, 1),
    pseudo_labels={"part": "selective", "threshold": 0.7},
    weight_decay=1e-5,
    power=0,
)
MBS_ADE = changed(
    MBS,
    terms=MBS.terms | {"label_guided_kd": 50},
    epochs=(64, 64),
    lr=(0.001, 0.0005),
    batch=8,
)
DRIVE = Settings({"ce": 1, "local_pod": 1}, epochs=(50, 50))

SHAPES = {"epochs": (18, 8), "lr": (0.05, 0.02), "batch": 8, "crop": 96}
CAMVID = {"epochs": (20, 10), "lr": (0.1, 0.02), "batch": 8, "crop": 176}
ANIMALS = {"epochs": (8, 4), "lr": (0.05, 0.02), "batch": 16, "crop": 160, "backbone_lr": 0.1}
QUICK = {
    **{f"shapes/{name}": SHAPES for name in ("4-2", "4-1")},
    **{f"camvid/{name}": CAMVID for name in ("7-2", "6-1")},
    **{f"animals/{name}": ANIMALS for name in ("3-1", "2-2", "4-2")},
}

# The numbers of the scripts, typed from the papers' repositories, pairs without a file among them.
TABLE = {
    **{
        f"voc/15-5/{method}": settings
        for method, settings in {
            **{"ft": FT, "lwf": LWF, "lwf_mc": LWF_MC, "ilt": ILT},
            **{"ewc": EWC, "pi": PI, "rw": RW, "joint": JOINT, "mib": MIB},
            "deepinversion": DEEPINVERSION,
        }.items()
    },
    **{f"voc/{name}/plop": PLOP for name in ("19-1", "15-5", "15-1")},
    "voc/10-1/plop": changed(PLOP, epochs=(30, 10)),
    "voc/15-1/mib": changed(MIB, terms={"unbiased_ce": 1, "unbiased_kd": 100}),
    "voc/19-1/sdr": changed(SDR, **SLOW),
    "voc/19-1/sdr_mib": changed(SDR_MIB, **SLOW),
    **{f"voc/{name}/sdr": SDR for name in VOC if name != "19-1"},
    **{f"voc/{name}/sdr_mib": SDR_MIB for name in VOC if name != "19-1"},
    **{
        f"voc/{name}/{method}": changed(SSUL, memory=memory)
        for name in VOC
        for method, memory in {"ssul": 0, "ssul_m": 100}.items()
    },
    **{
        f"voc/{name}/{method}": settings
        for name in VOC
        for method, settings in {"ewf_mib": EWF_MIB, "ewf_plop": changed(PLOP, **EWF)}.items()
    },
    **{
        f"voc/{name}/{method}": settings
        for name in VOC
        for method, settings in {"dkd": DKD, "dkd_m": changed(DKD, memory=100, **DKD_M)}.items()
    },
    **{
        f"voc/{name}/{method}": settings
        for name in VOC
        for method, settings in {"star": STAR, "star_m": changed(STAR, memory=50, **DKD_M)}.items()
    },
    **{
        f"ade/{name}/{method}": settings
        for name in ADE
        for method, settings in {
            "star": STAR_ADE,
            "star_m": changed(STAR_ADE, memory=50, **DKD_M),
            "ewf_plop": changed(PLOP_ADE, **EWF),
            "ewf_lgkd": changed(LGKD_ADE, **EWF),
            "sdr_plop": changed(PLOP_ADE, terms=PLOP.terms | FEATURES),
        }.items()
    },
    **{
        f"ade/{name}/{method}": settings
        for name in ADE
        for method, settings in {
            "dkd": DKD_ADE,
            "dkd_m": changed(DKD_ADE, memory=300, **DKD_M),
        }.items()
    },
    **{
        f"voc/{name}/{method}": changed(settings, epochs=(30, epochs))
        for name, epochs in {"19-1": 30, "15-5": 30, "15-1": 30, "10-1": 10}.items()
        for method, settings in {"nest_mib": changed(MIB, **NEST), "nest_plop": NEST_PLOP}.items()
    },
    **{
        f"ade/{name}/{method}": settings
        for name in ADE
        for method, settings in {
            "nest_mib": changed(MIB, **NEST_ADE),
            "nest_plop": changed(PLOP_ADE, **NEST_ADE),
        }.items()
    },
    "ade/100-50/ewf_mib": changed(EWF_MIB, batch=48, **LONG),
    **{
        f"ade/{name}/ewf_mib": changed(
            EWF_MIB, terms={"unbiased_ce": 1, "unbiased_kd": 100}, **LONG
        )
        for name in ("100-10", "100-5")
    },
    **{
        f"voc/{name}/lgkd": changed(LGKD, guided=factors)
        for name, factors in {"15-1": (1, 0), "15-5": (5, 1), "19-1": (5, 0.5)}.items()
    },
    "voc/10-1/lgkd": LGKD,
    **{
        f"ade/{name}/lgkd": changed(LGKD_ADE, guided=factors, batch=batch)
        for name, factors, batch in (
            ("100-50", (1, 20), 12),
            ("50-50", (2, 10), 12),
            ("100-10", (1, 1), 16),
            ("100-5", (1, 1), 24),
        )
    },
    "ade/100-10/lwf": changed(LWF, **LONG),
    "ade/100-10/mib": changed(MIB, **LONG),
    "ade/100-10/joint": changed(JOINT, **LONG),
    **{
        f"ade/{name}/{method}": changed(settings, batch=4, **LONG)
        for name in ADE
        for method, settings in {"sdr": SDR, "sdr_mib": SDR_MIB}.items()
    },
    **{
        f"ade/{name}/{method}": settings
        for name in ADE
        for method, settings in {
            "plop": PLOP_ADE,
            "ssul": SSUL_ADE,
            "ssul_m": changed(SSUL_ADE, memory=300),
        }.items()
    },
    **{f"voc/{name}/mbs": MBS for name in VOC},
    **{f"ade/{name}/mbs": MBS_ADE for name in ADE},
    "cityscapes/1-1/plop": changed(DRIVE, pod=(0.0001, 0.001)),
    "cityscapes/11-1/plop": changed(DRIVE, pod=(0.0001, 0.0001)),
    "cityscapes/11-5/plop": changed(DRIVE, pod=(0.0001, 0.001)),
    **{f"{name}/mib": Settings({"ce": 1, "kd": 10}, epochs=(50, 50)) for name in CITIES},
    # our own: a rate at which the small networks' features stay
    **{
        f"{name}/{method}": changed(settings, **quick | {"lr": (quick["lr"][0], 0.004)})
        for name, quick in QUICK.items()
        if not name.startswith("animals")
        for method, settings in {
            "star": STAR_QUICK,
            "star_m": changed(STAR_QUICK, memory=50, **DKD_M),
        }.items()
    },
    # our own: the weights that go with the quick schedules of the small networks
    **{
        f"{name}/{method}": changed(settings, **quick)
        for name, quick in QUICK.items()
        for method, settings in {
            "lwf": Settings({"ce": 1, "kd": 10}),
            "ilt": Settings({"ce": 1, "kd": 10, "feature_mse": 10}),
            "ewc": Settings({"ce": 1, "ewc": 25}),
            "pi": Settings({"ce": 1, "pi": 25}),
            "rw": Settings({"ce": 1, "rw": 5}),
            "nest_mib": changed(MIB, **NEST_QUICK),
            "nest_plop": changed(PLOP, freeze="old_heads", **NEST_QUICK),
            "sdr": changed(SDR, terms=SDR.terms | {"unbiased_kd": 10}),
            "sdr_mib": changed(SDR_MIB, terms=SDR.terms | {"unbiased_kd": 10}),
            "dkd": DKD_QUICK,
            "dkd_m": changed(DKD_QUICK, memory=100, **DKD_M),
        }.items()
    },
    # our own: with the backbone at a tenth, the lr of all methods and weights between the two
    **{
        f"animals/{name}/{method}": changed(settings, **ANIMALS)
        for name in ("3-1", "2-2", "4-2")
        for method, settings in {
            "star": STAR_QUICK,
            "star_m": changed(STAR_QUICK, memory=50, **DKD_M),
            "dkd": DKD_ANIMALS,
            "dkd_m": changed(DKD_ANIMALS, memory=100, **DKD_M),
        }.items()
    },
}


@functools.cache
def _composed(folder: Path, *overrides: str) -> dict[str, Any]:
    made = OmegaConf.to_container(compose.composed(overrides, folder))
    assert isinstance(made, dict)
    return {str(key): value for key, value in made.items()}


def composed(pair: str, *overrides: str, folder: Path = CONF) -> dict[str, Any]:
    """Returns the parameters of the pair `DATASET/SCENARIO/METHOD`."""
    scenario, _, method = pair.rpartition("/")
    chosen = (f"scenario={scenario}", f"method={method}", *overrides)
    return copy.deepcopy(_composed(folder, *chosen))


ALIKE: dict[str, tuple[Params, AssembledRecipe]] = {}


def first_alike(pair: str) -> tuple[Params, AssembledRecipe]:
    """Returns the checked parameters of the first pair whose files choose the same as this one's.

    Hydra takes half a second for each pair, and most scenarios of a dataset are trained alike.
    """
    scenario, _, method = pair.rpartition("/")
    dataset = pair.partition("/")[0]
    own, shared, chosen = (
        yaml.safe_load(path.read_text()) if path.exists() else None
        for path in (
            PUBLISHED / f"{pair}.yaml",
            PUBLISHED / dataset / f"{method}.yaml",
            CONF / "scenario" / f"{scenario}.yaml",
        )
    )
    key = json.dumps([method, own or [dataset, shared], chosen["defaults"]])
    if key not in ALIKE:
        fetched_by_hand = ["model.backbone.weights=none"] * pair.startswith("animals")
        ALIKE[key] = checked(composed(pair, *fetched_by_hand))
    return ALIKE[key]


def checked(values: dict[str, Any]) -> tuple[Params, AssembledRecipe]:
    """Builds everything that `stages.check` builds without the dataset and pretrained weights."""
    params = parse(Params, values, "params.yaml")
    params.check_chain()
    recipe = Recipe.of(params.method)
    labels = build_part(SLOTS["pseudo_labels"], PseudoLabels, recipe.pseudo_labels, "method.x")
    whole = AssembledRecipe(recipe, Method.of_base(recipe.base), Method.of(recipe), labels)
    check_recipe(whole)
    build_optimizer(params.optimizer)
    Augmentation.of(params.augmentation)
    build_part("cssegcore.models.architectures", Architecture, params.model, "model")
    return params, whole


def decoder_of(model: dict[str, Any]) -> tuple[str, float]:
    """Returns the decoder and the momentum of the backbone's normalisations."""
    return model.get("decoder", "summed"), model["backbone"].get(MOMENTUM, 0.1)


def settings_of(params: Params, whole: AssembledRecipe) -> Settings:
    """Reads what a run would be trained with, off the steps and the built parts."""
    first, *later = params.steps.values()
    assert len({(step.epochs, step.lr) for step in later}) == 1
    optimizer = build_optimizer(params.optimizer)
    method, init = whole.increment, whole.increment.classifier_init
    pod, guided = method.losses.get("local_pod"), method.losses.get("label_guided_kd")
    return Settings(
        terms={name: term.weight for name, term in method.terms.items()},
        epochs=(first.epochs, later[0].epochs),
        lr=(first.lr, later[0].lr),
        batch=optimizer.batch_size,
        crop=params.augmentation["size"],
        backbone_lr=optimizer.backbone_lr,
        warmup=optimizer.warmup,
        floor=optimizer.floor,
        pod=(pod.factor, pod.last_factor) if pod else None,  # type: ignore[attr-defined]
        background=whole.recipe.base.background["part"],  # type: ignore[arg-type]
        positive=positive_of(whole),
        network=decoder_of(params.model),
        exemplars=exemplars_of(method.replay),
        init=whole.recipe.classifier_init["part"],  # type: ignore[arg-type]
        freeze=whole.recipe.freeze["part"],  # type: ignore[arg-type]
        after=whole.recipe.after,
        pretuned=(init.epochs, init.lr) if init.epochs else None,
        guided=(guided.old, guided.new) if guided else None,  # type: ignore[attr-defined]
        pseudo_labels=whole.recipe.pseudo_labels,
        unknown=whole.recipe.base.unknown_class["part"],  # type: ignore[arg-type]
        memory=method.replay.size,
        weight_decay=optimizer.weight_decay,
        power=optimizer.power,
        made=made_of(method.replay, optimizer.batch_size) if method.replay.generates else {},
    )


def positive_of(whole: AssembledRecipe) -> tuple[float, float] | None:
    """Reads what a yes counts in the base step and in increments."""
    terms = [t for _, method in whole.phases() for t in method.losses.values()]
    found = [p for t in terms if (p := getattr(t, "positive", None)) is not None]
    return (found[0], found[1]) if found else None


def exemplars_of(replay: Replay) -> tuple[float, str, str, float] | None:
    """Reads how a memory is mixed and labelled, unless it is as SSUL's."""
    if not isinstance(replay, Exemplars) or replay == Exemplars(size=replay.size):
        return None
    return replay.share, replay.mix, replay.labels, replay.threshold


def made_of(replay: DeepInversion, batch: int) -> dict[str, Any]:
    """Reads how images are made and rehearsed; the largest shift in pixels of 256."""
    how = replay.inversion
    return {
        "per_class": replay.per_class,
        "beside": round(batch * replay.share / (1 - replay.share)),
        "terms": replay.terms,
        "least": (replay.confidence, replay.agreement),
        "extra": replay.extra,
        "target": how.target,
        "phases": how.phases,
        "lr": how.lr,
        "betas": how.betas,
        "jitter": round(256 * how.jitter),
        "flip": how.flip,
        "stem_factor": how.stem_factor,
        "weights": how.weights,
    }


@pytest.mark.parametrize("pair", TABLE)
def test_a_pair_is_trained_as_published(pair):
    params, whole = first_alike(pair)
    assert settings_of(params, whole) == TABLE[pair]
    assert params.optimizer["momentum"] == 0.9
    if not pair.startswith(("shapes", "camvid", "animals")):
        assert params.model["backbone"]["part"] == "resnet"
        assert params.model["backbone"]["depth"] == 101
        assert params.model["output_stride"] == 16


def scenarios_of(dataset: str) -> list[str]:
    return [name for name in SCENARIOS if name.startswith(f"{dataset}/")]


def test_settings_hold_in_every_scenario_of_a_dataset_or_it_is_said_why_not():
    partly = set[str]()
    for pair in FILES:
        dataset, _, method = pair.split("/")
        pairs = {f"{scenario}/{method}" for scenario in scenarios_of(dataset)}
        partly |= {f"{dataset}/{method}"} if pairs - {*FILES} else set()
    assert partly - {*OF_DATASETS} == OF_SOME_SCENARIOS.keys()


def test_every_file_belongs_to_a_pair_and_says_where_it_is_from():
    for name in OF_DATASETS:
        dataset, _, method = name.partition("/")
        assert {f"{scenario}/{method}" for scenario in scenarios_of(dataset)} <= set(TABLE)
        assert method in METHODS
    assert set(FILES) <= set(TABLE)
    for name in FILES:
        scenario, _, method = name.rpartition("/")
        assert scenario in SCENARIOS
        assert method in METHODS
    for path in (PUBLISHED).glob("*/**/*.yaml"):
        header, source = path.read_text().splitlines()[:2]
        assert header == "# @package _global_", path
        assert source.startswith("# "), path


def test_a_shared_file_is_used():
    shared = {path.stem for path in (PUBLISHED / "_shared").glob("*.yaml")}
    texts = [path.read_text() for path in (PUBLISHED).glob("*/**/*.yaml")]
    assert {name for name in shared if any(f"_shared/{name}" in text for text in texts)} == shared


@pytest.mark.parametrize(
    ("pair", "own"),
    [
        ("voc/15-1/mib", MIB),
        ("voc/15-5/ssul", changed(SSUL, **USUAL)),
        ("ade/100-5/plop", changed(PLOP, **LONG)),
        ("ade/100-5/ssul_m", changed(SSUL, memory=100, **USUAL | LONG)),
        ("cityscapes/1-1/plop", changed(PLOP, epochs=(50, 50))),
    ],
)
def test_left_out_a_method_has_its_own_numbers(pair, own):
    assert settings_of(*checked(composed(pair, "published=none"))) == own


def test_what_is_asked_for_by_hand_comes_before_what_is_published():
    asked = ("optimizer.batch_size=7", "schedule.increment.epochs=3", "method.replay.size=5")
    found = settings_of(*checked(composed("ade/100-50/ssul_m", *asked)))
    assert found == changed(SSUL_ADE, memory=5, batch=7, epochs=(SSUL_ADE.epochs[0], 3))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_sense(method):
    _, whole = checked(composed(f"shapes/4-2/{method}"))
    assert whole.recipe.name == method


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_learns_every_class_of_its_dataset_once(scenario):
    # the animals have weights in a file that a user fetches
    own = ("model.backbone.weights=none",) * scenario.startswith("animals/")
    params, _ = checked(composed(f"{scenario}/ft", *own))
    assert params.scenario.name == scenario
    learned = [name for step in params.scenario.classes.values() for name in step]
    table = params.dataset["classes"] or ["background", *learned]
    left_out = params.scenario.left_out is not None
    known = [name for name in table[1:] if not left_out or name in learned]
    assert sorted(learned) == sorted(known)
    if scenario != "voc/19-1b":  # whose last class is the bottle
        assert learned == known  # in the dataset's order
    params.scenario_of(tuple(table))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schedule: {increment: {epoch: 10}}", "epoch` is not a key .* mean `epochs`"),
        ("optimiser: {batch_size: 32}", "optimiser` is not a key .* mean `optimizer`"),
        ("optimizer: {bach_size: 32}", "bach_size` is not a key .* mean `batch_size`"),
        ("augmentation: {sise: 513}", "sise` is not a key .* mean `size`"),
        ("method: {losses: {local_pot: {factor: 1}}}", "local_pot` must be a mapping with a key"),
        ("method: {losses: {local_pod: {facto: 1}}}", "facto` is not a key .* mean `factor`"),
        ("method: {losses: null}", "`method.losses` must be a mapping"),
    ],
)
def test_a_mistake_in_a_file_is_noticed(tmp_path, text, words):
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)
    path = folder / "published" / "voc" / "10-1" / "plop.yaml"
    path.write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(InputError, match=words):
        checked(composed("voc/10-1/plop", folder=folder))


def ade_settings(root):
    section = yaml.safe_load((CONF / "dataset" / "ade.yaml").read_text())
    return section | {"root": str(root)}


@pytest.fixture
def ade(tmp_path):
    """Four photographs of 4x3 pixels; b holds wall and flag, a poster, c and d nothing but void."""
    root = tmp_path / "ADEChallengeData2016"
    contents = {"training/b": (1, 150), "training/a": (0, 101), "validation/d": (0, 0)}
    contents |= {"training/c": (0, 0), "validation/e": (150, 101)}
    for folder in ("images", "annotations"):
        for part in ("training", "validation"):
            (root / folder / part).mkdir(parents=True)
    for name, (top, rest) in contents.items():
        labels = np.full((3, 4), rest, np.uint8)
        labels[0] = top
        Image.new("RGB", (4, 3)).save(root / "images" / f"{name}.jpg")
        Image.fromarray(labels).save(root / "annotations" / f"{name}.png")
    (root / "images" / "training" / "index.txt").write_text("no photograph")
    return root


def indexed(root):
    dataset = open_dataset(ade_settings(root))
    return dataset, build_index(dataset, lambda items, _: items)


class TestAde:
    def test_classes_stand_in_the_benchmark_s_order(self):
        classes = composed("ade/100-50/ft")["dataset"]["classes"]
        assert len(classes) == len(set(classes)) == 151
        known = {0: "background", 1: "wall", 13: "person", 20: "chair", 44: "signboard"}
        known |= {50: "fireplace", 51: "refrigerator", 59: "screen door", 64: "blind"}
        known |= {90: "television receiver", 100: "buffet", 101: "poster", 105: "fountain"}
        known |= {110: "swimming pool", 120: "ball", 131: "screen", 142: "crt screen", 150: "flag"}
        assert {place: classes[place] for place in known} == known

    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("100-50", [100, 50]),
            ("100-10", [100] + 5 * [10]),
            ("100-5", [100] + 10 * [5]),
            ("50-50", [50, 50, 50]),
        ],
    )
    def test_steps(self, name, sizes):
        params, _ = checked(composed(f"ade/{name}/ft"))
        assert [len(step) for step in params.scenario.classes.values()] == sizes
        assert params.scenario.setting == "overlapped"
        assert params.dataset["name"] == "ade"

    def test_names_are_the_sorted_photographs_of_a_folder(self, ade):
        dataset = open_dataset(ade_settings(ade))
        assert dataset.names("train") == ["training/a", "training/b", "training/c"]
        assert dataset.names("val") == dataset.names("test") == ["validation/d", "validation/e"]

    def test_void_is_background_and_classes_keep_their_numbers(self, ade):
        before = {path: path.stat().st_mtime_ns for path in ade.rglob("*")}
        _, entries = indexed(ade)
        found = {e.name: {raw: n for raw, n in enumerate(e.pixels) if n} for e in entries}
        assert found == {
            "training/a": {0: 4, 101: 8},
            "training/b": {1: 4, 150: 8},
            "training/c": {0: 12},
            "validation/d": {0: 12},
            "validation/e": {150: 4, 101: 8},
        }
        assert all((e.height, e.width, e.void) == (3, 4, 0) for e in entries)
        assert {e.name: e.parts for e in entries}["validation/e"] == ("val", "test")
        assert {path: path.stat().st_mtime_ns for path in ade.rglob("*")} == before

    def test_images_of_a_step(self, ade):
        params = checked(composed("ade/100-50/ft"))[0]
        dataset, entries = indexed(ade)
        scenario: Scenario = params.scenario_of(dataset.classes)
        train = [e for e in entries if "train" in e.parts]
        chosen = [[e.name for e in train if scenario.trains(e.present, k)] for k in (0, 1)]
        assert chosen == [["training/b"], ["training/a", "training/b"]]

    @pytest.mark.parametrize("folder", ["images", "images/training", "images/validation"])
    def test_a_missing_folder_is_named(self, ade, folder):
        shutil.rmtree(ade / folder)
        with pytest.raises(InputError, match=r"images/\w+ cannot be listed \(No such file.*root"):
            indexed(ade)

    def test_an_empty_folder_is_named(self, ade):
        for path in (ade / "images" / "validation").iterdir():
            path.unlink()
        with pytest.raises(InputError, match=r"images/validation holds no photograph"):
            indexed(ade)

    def test_a_missing_annotation_is_named(self, ade):
        (ade / "annotations" / "training" / "c.png").unlink()
        with pytest.raises(InputError, match=r"annotations/training/c\.png does not exist"):
            indexed(ade)

    def test_sizes_are_held_against_each_other(self, ade):
        Image.new("RGB", (5, 3)).save(ade / "images" / "training" / "a.jpg")
        with pytest.raises(InputError, match=r"is 5x3 pixels .*training/a\.png 4x3"):
            indexed(ade)

    def test_a_number_beyond_the_classes_is_refused(self, ade):
        Image.new("L", (4, 3), 151).save(ade / "annotations" / "validation" / "d.png")
        with pytest.raises(InputError, match=r"holds the value 151, .* 0 to 150 \(flag\)"):
            indexed(ade)

    def test_the_root_is_asked_for(self, tmp_path):
        with pytest.raises(InputError, match=r"no such folder.*Set ADE_ROOT"):
            open_dataset(ade_settings(tmp_path / "nowhere"))


def test_a_replay_has_numbers_of_its_own_for_some_methods():
    for path in (CONF / "paired").glob("*/*.yaml"):
        assert (CONF / "method" / "replay" / f"{path.parent.name}.yaml").exists()
        assert path.stem in METHODS

    def replay(*asked):
        return scenes.composed(*asked)["method"]["replay"]

    on = "method/replay=deepinversion"
    usual = replay("method=plop", on)
    assert (usual["labels"], usual["weight"], usual["moves_statistics"]) == ("soft", 10, False)
    method = scenes.composed("method=mib", on)["method"]
    assert (method["replay"]["labels"], method["replay"]["weight"]) == ("soft", 5)
    assert method["losses"]["unbiased_kd"] == {"part": "unbiased_kd", "weight": 5}
    fine_tuned = replay("method=ft", on, "method.replay.weight=2")
    assert (fine_tuned["labels"], fine_tuned["weight"]) == ("logits", 2)
    assert fine_tuned["moves_statistics"]
    assert replay("method=ft") == {"part": "none"}


def test_a_replay_has_numbers_of_its_own_on_some_networks():
    for path in (CONF / "fitted").glob("*/*.yaml"):
        assert (CONF / "method" / "replay" / f"{path.parent.name}.yaml").exists()
        assert (CONF / "model" / path.name).exists()

    def features(*asked):
        method = scenes.composed("method=mib", "method/replay=deepinversion", *asked)["method"]
        return method["replay"]["inversion"]["weights"]["features"]

    on = "scenario=animals/3-1"
    assert features() == 0.03
    assert features(on) == 0.003
    assert features(on, "fitted=none") == 0.03
    assert features(on, "method.replay.inversion.weights.features=1") == 1
