"""The scenarios and orders in conf/, and the command that writes more of them."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image
from ruamel.yaml import YAML

from cssegcore.core.config import parse
from cssegcore.data.index import Entry
from cssegcore.scenario.splits import training_images
from stages.common import recommend
from stages.common.params import Params
from tests.helpers import tiny_dataset as scenes

pytestmark = pytest.mark.slow

CONF = scenes.HOME / "conf"


def names_in(group):
    files = (CONF / group).rglob("*.yaml")
    return sorted(str(path.relative_to(CONF / group).with_suffix("")) for path in files)


SCENARIOS, ORDERS = names_in("scenario"), [name for name in names_in("order") if name != "none"]
TABLES = {
    name: yaml.safe_load((CONF / f"dataset/{name}.yaml").read_text())["classes"]
    for name in ("voc", "ade", "camvid")
}
TABLES["shapes"] = ["background", "disc", "triangle", "square", "star", "cross", "crescent"]
TABLES["shapes"] += ["ring", "hexagon"]

# arthurdouillard/CVPR2021_PLOP, tasks.py, 15-5s_b to 15-5s_w, which clovaai/SSUL has as well: ids
# of the base classes in the order of their outputs, then of the class of each step.
VOC_ORDERS = """
b 12 9 20 7 15 8 14 16 5 19 4 1 13 2 11 | 17 3 6 18 10
c 13 19 15 17 9 8 5 20 4 3 10 11 18 16 7 | 12 14 6 1 2
d 15 3 2 12 14 18 20 16 11 1 19 8 10 7 17 | 6 5 13 9 4
e 7 5 3 9 13 12 14 19 10 2 1 4 16 8 17 | 15 18 6 11 20
f 7 13 5 11 9 2 15 12 14 3 20 1 16 4 18 | 8 6 10 19 17
g 7 5 9 1 15 18 14 3 20 10 4 19 11 17 16 | 12 8 6 2 13
h 12 9 19 6 4 10 5 18 14 15 16 3 8 7 11 | 13 2 20 17 1
i 13 10 15 8 7 19 4 3 16 12 14 11 5 20 6 | 2 18 9 17 1
j 1 14 9 5 2 15 8 20 6 16 18 7 11 10 19 | 3 4 17 12 13
k 16 13 1 11 12 18 6 14 5 3 7 9 20 19 15 | 4 2 10 8 17
l 10 7 6 19 16 8 17 1 14 4 9 3 15 11 12 | 2 18 20 13 5
m 18 4 14 17 12 10 7 3 9 1 8 15 6 13 2 | 5 11 20 16 19
n 5 4 13 18 14 10 19 15 7 9 3 2 8 16 20 | 1 12 11 6 17
o 9 12 13 18 7 1 15 17 10 8 4 5 20 16 6 | 14 19 11 2 3
p 9 12 13 18 2 11 15 17 10 8 4 5 20 16 6 | 14 19 1 7 3
q 3 14 13 18 2 11 15 17 10 8 4 5 20 16 6 | 12 19 1 7 9
r 3 14 13 1 2 11 15 17 7 8 4 5 9 16 19 | 12 6 18 10 20
s 3 14 6 1 2 11 12 17 7 20 4 5 9 16 19 | 15 13 18 10 8
t 3 15 13 1 2 11 18 17 7 20 8 5 9 16 19 | 14 6 12 10 4
u 3 15 13 14 6 11 18 17 7 20 8 4 9 16 10 | 1 2 12 19 5
v 1 2 12 14 6 19 18 17 5 20 8 4 9 16 10 | 3 15 13 11 7
w 1 2 12 14 13 19 18 7 11 20 8 4 9 16 10 | 3 15 6 5 17
"""

# fcdl94/MiB, tasks.py: steps 1 to 5 of 100-10b and 100-10c, then the middle step of 50b and 50c.
TENS = {
    "b": """
        11 16 50 64 66 73 89 92 145 146
        30 37 51 52 72 85 98 114 115 138
        2 35 65 97 110 111 112 118 124 141
        4 7 15 41 67 78 79 88 108 139
        17 20 59 68 83 94 102 122 127 137
    """,
    "c": """
        3 4 7 18 39 64 73 101 113 137
        47 51 55 60 62 80 116 127 140 148
        22 42 49 58 59 89 91 92 108 125
        2 38 53 100 104 117 130 131 141 145
        15 21 72 75 88 93 103 107 122 150
    """,
}
FIFTY = {
    "b": """
        3 5 6 8 10 12 13 19 21 23 26 31 33 34 36 39 40 43 44 53 55 57 60 70 71 80 86 87 91 95 99 101
        105 106 107 113 116 120 125 126 131 132 133 140 142 143 147 148 149 150
    """,
    "c": """
        1 6 8 9 14 24 25 26 29 34 35 36 40 41 44 45 48 50 54 61 63 67 68 71 78 81 84 85 90 94 95 96
        97 98 99 102 106 112 114 115 118 120 121 123 124 126 135 136 139 149
    """,
}


def ids(text):
    return [int(word) for word in text.split()]


def joined(lists):
    return [item for one in lists for item in one]


def published_orders():
    """The ids of each step of each order."""
    found = {}
    for line in VOC_ORDERS.split("\n")[1:-1]:
        base, later = line[2:].split("|")
        found[f"voc/15-1/{line[0]}"] = [ids(base), *([raw] for raw in ids(later))]
    for letter, text in TENS.items():
        tens = [ids(line) for line in text.split("\n")[1:-1]]
        last, middle = sorted(joined(tens)), ids(FIFTY[letter])
        base = [raw for raw in range(1, 151) if raw not in last]
        found[f"ade/100-10/{letter}"] = [base, *tens]
        found[f"ade/100-50/{letter}"] = [base, last]
        first = [raw for raw in base if raw not in middle]
        found[f"ade/50-50/{letter}"] = [first, middle, last]
    return found


PUBLISHED = published_orders()

# Of ours: the native order backwards, and one that numpy.random.RandomState(0).permutation draws.
ANIMALS = {"cat": 8, "cow": 10, "dog": 12, "horse": 13, "person": 15, "sheep": 17}
PUBLISHED["animals/3-1/b"] = [[17, 15, 13], [12], [10], [8]]
PUBLISHED["animals/3-1/c"] = [[17, 12, 10], [13], [8], [15]]
TABLES["animals"] = TABLES["voc"]


@functools.cache
def params_of(scenario, *overrides):
    composed = scenes.composed(f"scenario={scenario}", *overrides)
    params = parse(Params, composed, "params.yaml")
    params.check_chain()
    return params


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_composes_and_fits_its_dataset(scenario):
    params = params_of(scenario)
    params.scenario_of(tuple(params.dataset["classes"] or TABLES["shapes"]))


WHOLE = [n for n in SCENARIOS if n.split("/")[0] in TABLES and not n.startswith("animals")]


@pytest.mark.parametrize("scenario", WHOLE)
def test_a_scenario_learns_every_class_once(scenario):
    params = params_of(scenario)
    table = TABLES[scenario.split("/")[0]]
    steps = params.scenario_of(tuple(table)).steps  # refuses what is left out or stands twice
    learned = [raw for step in steps for raw in step.raw]
    if scenario.endswith("b"):
        assert params.scenario.order == "b"
        assert learned == [*(raw for raw in range(1, 21) if raw != 5), 5]
    else:
        assert params.scenario.order == "native"
        assert learned == list(range(1, len(table)))
    base, increment = map(int, scenario.split("/")[1].removesuffix("b").split("-"))
    assert {len(step.classes) for step in steps[1:]} == {increment}
    assert (params.scenario.name, len(steps[0].classes)) == (scenario, base)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_the_published_one(order):
    scenario, letter = order.rsplit("/", 1)
    params = params_of(scenario, f"order={order}")
    assert params.scenario.order == letter
    assert params.scenario.name == scenario
    steps = params.scenario_of(tuple(TABLES[scenario.split("/")[0]])).steps
    assert [list(step.raw) for step in steps] == PUBLISHED[order]
    header, source, *_ = (CONF / f"order/{order}.yaml").read_text().splitlines()
    assert header == "# @package _global_"
    assert source.startswith("# ")


def test_every_published_order_is_there():
    assert set(ORDERS) == set(PUBLISHED)
    learned = {"voc": range(1, 21), "ade": range(1, 151), "animals": ANIMALS.values()}
    for order, steps in PUBLISHED.items():
        assert sorted(joined(steps)) == [*learned[order.split("/")[0]]], order
    drawn = np.random.RandomState(0).permutation(sorted(ANIMALS.values())).tolist()
    assert drawn == joined(PUBLISHED["animals/3-1/c"])


def test_published_settings_apply_with_an_order():
    assert params_of("voc/15-1", "method=sdr", "order=voc/15-1/b").optimizer["batch_size"] == 8
    weighty = params_of("voc/15-1", "method=mib", "order=voc/15-1/q")
    assert weighty.method["losses"]["unbiased_kd"]["weight"] == 100


@pytest.mark.parametrize("order", ["none", "b", "c"])
def test_the_partition_of_100_50_joins_that_of_100_10(order):
    rng = np.random.default_rng(5)
    entries = []
    for place in range(400):
        shown = rng.choice(150, rng.integers(1, 12), replace=False) + 1
        pixels = np.bincount(shown, minlength=151).tolist()
        entries.append(Entry(f"{place}", ("train",), "", 1, 1, 0, tuple(pixels)))

    def images(scenario):
        chosen = order if order == "none" else f"{scenario}/{order}"
        params = params_of(scenario, "scenario.setting=partitioned", f"order={chosen}")
        steps = training_images(params.scenario_of(tuple(TABLES["ade"])), entries)
        return [{e.name for e in step} for step in steps]

    base, *tens = images("ade/100-10")
    assert images("ade/100-50") == [base, set().union(*tens)]
    assert sum(map(len, (base, *tens))) == 400


def test_the_chain_of_steps_follows_from_the_classes():
    base, added = {"epochs": 18, "lr": 0.05}, {"epochs": 8, "lr": 0.02}
    made = scenes.composed("scenario=shapes/4-2", "method=mib")
    assert made["steps"] == {
        "step0": {"previous": "none", "recipe": "method.base", "images": "train", **base},
        "step1": {"previous": "step0", "recipe": "method", "images": "train", **added},
        "step2": {"previous": "step1", "recipe": "method", "images": "train", **added},
    }
    assert list(made["steps"]) == ["step0", "step1", "step2"]
    assert made["increments"] == {"step1": {"previous": "step0"}, "step2": {"previous": "step1"}}
    assert made["scenario"]["last"] == "step2"
    made = scenes.composed("scenario=shapes/4-1", "method=joint")
    assert {step["images"] for name, step in made["steps"].items() if name != "step0"} == {"seen"}
    assert made["scenario"]["last"] == "step4"


def test_one_step_can_be_changed():
    made = scenes.composed("steps.step1.lr=0.5", "schedule.increment.lr=0.3")
    assert [step["lr"] for step in made["steps"].values()] == [0.05, 0.5, 0.3]


HEAD = "# @package _global_\ndefaults:\n"


@pytest.mark.parametrize(
    ("text", "steps", "changed"),
    [
        (f"{HEAD}  - shapes/4-2\n  - _self_\nscenario: {{setting: disjoint}}\n", 3, 0.02),
        (
            f"{HEAD}  - shapes/4-2\n  - _self_\nscenario: {{classes: {{more: [hexagon]}}}}\n",
            4,
            0.02,
        ),
        (
            f"{HEAD}  - override /dataset: shapes\nscenario:\n  name: own\n  setting: overlapped\n"
            "  classes: {a: [disc], b: [ring]}\nsteps: {b: {lr: 0.7}}\n",
            2,
            0.7,
        ),
    ],
    ids=["another setting", "one step more", "a rate of its own"],
)
def test_a_scenario_may_build_on_another_and_change_steps(tmp_path, text, steps, changed):
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/scenario/own.yaml").write_text(text)
    made = composed_elsewhere(tmp_path, "scenario=own")
    names = list(made["scenario"]["classes"])
    assert len(names) == steps
    assert list(made["steps"]) == names
    assert list(made["increments"].values()) == [{"previous": name} for name in names[:-1]]
    assert made["steps"][names[-1]]["lr"] == changed
    assert made["scenario"]["last"] == names[-1]


@pytest.mark.parametrize("own", ["[", "scenario: 3", "defaults: 7", "- a", ""])
def test_a_broken_scenario_harms_no_other(tmp_path, own):
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/scenario/broken.yaml").write_text(own)
    assert composed_elsewhere(tmp_path, "scenario=shapes/4-1")["scenario"]["last"] == "step4"


def test_hydra_plugins_of_a_user_s_own_are_seen_as_well(tmp_path):
    plugins = tmp_path / "installed" / "hydra_plugins"
    plugins.mkdir(parents=True)
    resolver = 'OmegaConf.register_new_resolver("double", lambda x: 2 * x)'
    (plugins / "own.py").write_text(f"from omegaconf import OmegaConf\n{resolver}\n")
    shutil.copytree(CONF, tmp_path / "conf")
    made = composed_elsewhere(tmp_path, "seed=${double:4}", installed=plugins.parent)
    assert (made["seed"], made["scenario"]["last"]) == (8, "step2")


def test_a_missing_plugin_is_said(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("hydra_plugins"))
    with pytest.raises(AssertionError, match=r"error: .*'\$\{hydra_plugins\.steps\."):
        composed_elsewhere(tmp_path)


def test_a_pair_s_own_file_comes_before_its_dataset_s(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    text = "# @package _global_\nschedule: {increment: {epochs: 7}}\n"
    (tmp_path / "conf/published/voc/2-1").mkdir()
    (tmp_path / "conf/published/voc/2-1/dkd.yaml").write_text(text)
    for scenario, epochs in (("voc/2-1", 7), ("voc/2-2", 60)):
        asked = (f"scenario={scenario}", "method=dkd")
        made = composed_elsewhere(tmp_path, *asked)
        assert made["schedule"]["increment"]["epochs"] == epochs
        none = composed_elsewhere(tmp_path, *asked, "published=none")
        assert none["schedule"]["increment"]["epochs"] == 30


def composed_elsewhere(folder, *overrides, installed=""):
    """Composes in a process of its own: Hydra looks for plugins once a process."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.compose", "made.yaml", *overrides],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{scenes.HOME}{os.pathsep}{installed}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load((folder / "made.yaml").read_text())


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with a copy of conf/ and the class table of the embedded dataset."""
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "data").mkdir()
    scenes.write_lines(tmp_path / "data" / "classes.txt", TABLES["shapes"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


PILOT = ("voc/pilot", 1, 1, "--order", "sheep,cat", "--left-out", "void")


def write(name, base, increment, *options):
    numbers = ("--base", str(base), "--increment", str(increment))
    return scenes.run_module("stages.scenario", name, *numbers, *options)


def without_portions(text):
    """Leaves out what a hand has added to a scenario that MiB shares out more finely."""
    return text.partition("  partition_groups:")[0]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in SCENARIOS
        if name.startswith(("voc", "ade", "shapes", "camvid")) and not name.endswith("b")
    ],
)
def test_the_command_writes_what_is_committed(elsewhere, name):
    path = Path("conf/scenario") / f"{name}.yaml"
    path.unlink()
    outcome = write(name, *name.split("/")[1].split("-"))
    assert (outcome.status, outcome.err) == (0, "")
    title = path.read_text().splitlines()[1]
    assert outcome.out == f"{path}: {title[2:]}\n"
    assert path.read_text() == without_portions((CONF / "scenario" / f"{name}.yaml").read_text())


def test_the_command_writes_the_scenarios_of_a_part_of_the_classes(elsewhere):
    for name in ("3-1", "2-2", "4-2"):
        path = Path(f"conf/scenario/animals/{name}.yaml")
        committed, _, _ = path.read_text().partition(
            "\nevaluation:"
        )  # found by a search, not written
        path.unlink()
        options = ("--order", ",".join(ANIMALS), "--left-out", "background")
        assert write(f"animals/{name}", *name.split("-"), *options).status == 0
        assert path.read_text() == committed


def written(name):
    text = Path("conf/scenario", f"{name}.yaml").read_text()
    return text, yaml.safe_load(text)


def test_a_last_step_may_be_shorter_and_that_is_said(elsewhere):
    said = write("voc/14-4", 14, 4).out
    assert said.endswith(
        "14 classes, then 4 a step, in the dataset's order: 3 steps, the last of 2.\n"
    )
    _, made = written("voc/14-4")
    assert [len(names) for names in made["scenario"]["classes"].values()] == [14, 4, 2]


def own_table(dataset, *names):
    """Writes a file in conf/dataset/ over a folder of which only the class table is there."""
    Path("own").mkdir()
    scenes.write_lines(Path("own/classes.txt"), ["background", *names])
    text = f"name: '{dataset}'\nroot: own\nlayout: {{part: folder}}\nclasses: null\n"
    Path(f"conf/dataset/{dataset}.yaml").write_text(text)


@pytest.mark.parametrize("dataset", ["no", "1e3"])
def test_a_class_is_called_what_it_is_called_whichever_yaml_is_read(elsewhere, dataset):
    own_table(dataset, *scenes.MISREAD)
    outcome = write(f"{dataset}/2-9", 2, 9, "--like", "voc/15-1")
    assert (outcome.status, outcome.err) == (0, "")
    path = Path(f"conf/scenario/{dataset}/2-9.yaml")
    by_hydra = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    by_ruamel = YAML(typ="safe", pure=True).load(path)
    made = composed_elsewhere(elsewhere, f"scenario={dataset}/2-9")
    for read in (yaml.safe_load(path.read_text()), by_hydra, by_ruamel, made):
        names = [name for step in read["scenario"]["classes"].values() for name in step]
        assert names == scenes.MISREAD
    assert made["dataset"]["name"] == dataset


@pytest.mark.parametrize("name", ["${oc.env:SECRET}", "${b}", "a${", "a\\${b}"])
def test_no_class_is_a_place_for_a_value(elsewhere, monkeypatch, name):
    monkeypatch.setenv("SECRET", "hunter2")
    own_table("own", "a", "b", name)
    said = write("own/1-1", 1, 1, "--like", "voc/15-1").refusal()
    assert f"own/classes.txt names a class {name!r}: Hydra and DVC put a value where `${{`" in said
    assert not Path("conf/scenario/own").exists()


@pytest.mark.parametrize("kind", ["text", "file"])
def test_an_order_of_one_s_own(elsewhere, kind):
    backwards = TABLES["ade"][:0:-1]
    order = ", ".join(backwards)
    if kind == "file":
        order = "names.txt"
        scenes.write_lines(elsewhere / order, backwards)
    assert "in an order of its own: 3 steps" in write("ade/back", 140, 5, "--order", order).out
    text, made = written("ade/back")
    assert joined(made["scenario"]["classes"].values()) == backwards
    assert made["scenario"]["order"] == "own"
    assert all(len(line) <= 100 for line in text.splitlines())
    native = ",".join(TABLES["voc"][1:])
    assert "in the dataset's order" in write("voc/10-2", 10, 2, "--order", native).out
    assert "order" not in written("voc/10-2")[1]["scenario"]


@pytest.mark.parametrize("meaning", ["background", "void"])
def test_a_part_of_the_classes(elsewhere, meaning):
    said = write(*PILOT[:-1], meaning).out
    assert said.endswith(f"1 a step, in an order of its own: 2 steps; 18 classes are {meaning}.\n")
    _, made = written("voc/pilot")
    assert made["scenario"]["classes"] == {"step0": ["sheep"], "step1": ["cat"]}
    assert made["scenario"]["left_out"] == meaning
    params = parse(Params, composed_elsewhere(elsewhere, "scenario=voc/pilot"), "params.yaml")
    params.check_chain()
    others = {raw for raw in range(1, 21) if TABLES["voc"][raw] not in ("cat", "sheep")}
    ignored = params.scenario_of(tuple(TABLES["voc"])).ignored
    assert set(ignored) == (others if meaning == "void" else set())


def test_choices_are_taken_from_another_scenario_but_for_the_dataset(elsewhere):
    own = ["background", "yes", "a: b", "traffic light", "5", "Straße"]
    text = yaml.safe_dump({"name": "mine", "root": "none", "classes": own}, allow_unicode=True)
    Path("conf/dataset/mine.yaml").write_text(text)
    assert write("mine/2-1", 2, 1, "--like", "voc/15-1").status == 0
    _, made = written("mine/2-1")
    chosen = {key: value for entry in made["defaults"] for key, value in entry.items()}
    assert chosen["override /dataset"] == "mine"
    assert chosen["override /schedule"] == "voc"
    assert joined(made["scenario"]["classes"].values()) == own[1:]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("voc/15-1", 15, 1), "voc/15-1.yaml is there already: give another name, or delete it"),
        (("voc/25-1", 25, 1), "--base is 25, and there are 20 classes: choose 1 to 19,"),
        (("voc/20-1", 20, 1), "--base is 20, and there are 20 classes: choose 1 to 19,"),
        (("voc/0-1", 0, 1), "--base is 0,"),
        (("voc/15-0", 15, 0), "--increment is 0, and 5 classes come after the base: choose 1 to 5"),
        (("voc/15-6", 15, 6), "--increment is 6, and 5 classes"),
        (("vok/15-2", 15, 2), "no dataset 'vok' in conf/dataset. Did you mean `voc`?"),
        (("15-2", 15, 2), "'15-2' is no name of a scenario: give DATASET/NAME, as voc/10-2."),
        (("voc/../../x", 15, 2), "is no name of a scenario"),
        (("voc/15-2", 15, 2, "--like", "voc/1"), "there is no scenario voc/1 in conf/scenario:"),
        (("voc/15-2", 15, 2, "--order", "cat"), "--order cat: no such file; or put commas"),
        (("voc/15-2", 15, 2, "--order", "cat,dog"), "--order lacks aeroplane, bicycle, bird,"),
        (
            ("voc/1-1", 1, 1, "--order", "cat,dog"),
            "or say with --left-out that they are",
        ),
        (("voc/3-1", 3, 1, "--left-out", "void"), "--left-out is void, but every class is learned"),
        (("voc/pilot", 2, 1, *PILOT[3:]), "--base is 2, and there are 2 classes: choose 1 to 1,"),
        (("voc/15-2", 15, 2, "--order", "cat,dgo"), "no class 'dgo'. Did you mean `dog`?"),
        (("voc/15-2", 15, 2, "--order", "cat,dog,cat"), "--order: 'cat' is given twice"),
        (("voc/15-2", 15, 2, "--order", "background,cat"), "no class 'background'"),
    ],
)
def test_nonsense_is_refused(elsewhere, arguments, words):
    before = {path: path.read_bytes() for path in elsewhere.rglob("*.yaml")}
    assert words in write(*arguments).refusal()
    assert {path: path.read_bytes() for path in elsewhere.rglob("*.yaml")} == before


@pytest.mark.parametrize(
    ("count", "side", "model", "size", "epochs", "view"),
    [
        (300, 96, "small", 96, (40, 20), "whole"),
        (1500, 3000, "small_mobilenet", 320, (16, 8), "crop"),
        (9000, 500, "deeplabv3_r101", 480, (30, 30), "whole"),
    ],
)
def test_what_suits_photographs_is_composed(
    elsewhere, monkeypatch, count, side, model, size, epochs, view
):
    """The numbers of the recommendation arrive in params.yaml, whatever network it chooses."""
    monkeypatch.setattr(recommend, "recommend", lambda *_: recommend.choose(count, side))
    shutil.copy(CONF / "dataset/shapes.yaml", "conf/dataset/mine.yaml")
    assert write("mine/4-2", 4, 2).status == 0
    text, _ = written("mine/4-2")
    assert f"# For {count} training photographs, shorter side {side} pixels:" in text
    made = composed_elsewhere(elsewhere, "scenario=mine/4-2", "tuned=none")
    parse(Params, made, "params.yaml").check_chain()
    with (CONF / "model" / f"{model}.yaml").open() as file:
        assert made["model"]["part"] == yaml.safe_load(file)["part"]
    assert made["augmentation"]["size"] == size
    assert (made["steps"]["step0"]["epochs"], made["steps"]["step1"]["epochs"]) == epochs
    assert made["evaluation"]["view"] == view
    if model == "small_mobilenet":
        assert made["model"]["backbone"]["weights"] == "imagenet"
        assert made["model"]["backbone"]["normalization"] is None


@pytest.mark.parametrize(
    ("count", "side", "model", "size", "epochs"),
    [
        (5000, 50, "small", 48, 8),
        (60, 480, "small_mobilenet", 320, 60),
        (1500, 300, "small_mobilenet", 288, 16),
    ],
)
def test_few_photographs_are_seen_often_and_small_ones_whole(count, side, model, size, epochs):
    found = recommend.choose(count, side)
    assert found.overrides["override /model"] == model
    assert found.numbers["augmentation"]["size"] == size
    assert found.numbers["schedule"]["base"]["epochs"] == epochs
    assert "evaluation" not in found.numbers


def test_photographs_are_looked_at(elsewhere):
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        Path("mine", folder).mkdir(parents=True)
    for at in range(30):
        height = 200 if at % 3 else 700
        pixels = rng.integers(0, 256, (height, 640, 3), np.uint8)
        Image.fromarray(pixels).save(f"mine/images/{at}.jpg")
        Image.fromarray(np.zeros((height, 640), np.uint8)).save(f"mine/labels/{at}.png")
    scenes.write_lines(Path("mine/classes.txt"), ["background", "a", "b"])
    settings = {"name": "mine", "root": "mine", "layout": {"part": "folder"}, "classes": None}
    Path("conf/dataset/mine.yaml").write_text(yaml.safe_dump(settings))
    assert write("mine/1-1", 1, 1, "--like", "auto").status == 0
    text, made = written("mine/1-1")
    assert re.search(r"# For \d+ training photographs, shorter side 200 pixels", text)
    assert made["augmentation"]["size"] == 192
    assert write("mine/again", 1, 1, "--like", "voc/15-1").status == 0
    assert "augmentation" not in written("mine/again")[1]


def test_a_dataset_without_scenario_or_table_is_refused(elsewhere):
    Path("conf/dataset/mine.yaml").write_text("classes: [background, a, b]\nroot: x\n")
    assert "there is no scenario mine/… in conf/" in write("mine/1-1", 1, 1).refusal()
    Path("conf/dataset/mine.yaml").write_text("classes: null\nroot: ${oc.env:NO_SUCH_ROOT}\n")
    assert "mine.yaml must say `classes` and" in write("mine/1-1", 1, 1).refusal()
    Path("conf/dataset/mine.yaml").write_text("name: mine\n")
    assert "mine.yaml must say `classes` and" in write("mine/1-1", 1, 1).refusal()
