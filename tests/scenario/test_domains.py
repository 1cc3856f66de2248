"""Steps that bring cities instead of classes."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.data.index import Entry, build_index, read_index, write_index
from cssegcore.evaluation import evaluate
from cssegcore.method.assembled import AssembledRecipe
from cssegcore.method.method import SLOTS, Method, Recipe
from cssegcore.method.pseudo_labels import PseudoLabels
from cssegcore.method.scenario_compatibility import check_without_new_classes
from cssegcore.metrics.continual import step_metrics
from cssegcore.metrics.record import evaluated
from cssegcore.models import checkpoint
from cssegcore.scenario.domains import domain_images
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import step_lists, write_splits
from cssegcore.training.setup import build_trainer
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU, plan, run, state, whole

COUNTS = {  # of the fine annotations; the last three cities are the official validation part
    **{"aachen": 174, "bremen": 316, "darmstadt": 85, "erfurt": 109, "hanover": 196},
    **{"krefeld": 99, "strasbourg": 365, "tubingen": 144, "weimar": 142, "bochum": 96},
    **{"cologne": 154, "dusseldorf": 221, "hamburg": 248, "jena": 119, "monchengladbach": 94},
    **{"stuttgart": 196, "ulm": 95, "zurich": 122, "frankfurt": 267, "lindau": 59, "munster": 174},
}
VALIDATION = ("frankfurt", "lindau", "munster")
TABLE = ("road", "car", "sky")
NONE = {"part": "none"}


def cityscapes():
    """The images of the dataset in its order: the training cities by name, then the others."""
    for official in (False, True):
        for city in sorted(COUNTS):
            if (city in VALIDATION) == official:
                for at in range(COUNTS[city]):
                    parts = ("val", "test") if official else ("train",)
                    yield Entry(f"{city}/{at}", parts, "", 8, 8, 0, (1, 0, 0), city)


def scenario(name, setting="domain"):
    path = scenes.HOME / "conf" / "scenario" / "cityscapes" / f"{name}.yaml"
    given = yaml.safe_load(path.read_text(encoding="utf-8"))["scenario"]
    classes = {step: ["car", "sky"] if i == 0 else [] for i, step in enumerate(given["classes"])}
    return Scenario.of(setting, TABLE, classes, domains=given["domains"])


def whole_of(section):
    """A recipe with its parts built."""
    recipe = Recipe.of(section)
    rule = build_part(SLOTS["pseudo_labels"], PseudoLabels, recipe.pseudo_labels, "x")
    return AssembledRecipe(recipe, Method.of_base(recipe.base), Method.of(recipe), rule)


def names(entries):
    return [e.name for e in entries]


class TestPublished:
    def test_steps_train_on_as_many_images_as_published(self):
        sizes = {n: [len(d.train) for d in domain_images(scenario(n), list(cityscapes()))] for n in
                 ("11-5", "11-1", "1-1")}  # fmt: skip
        assert sizes["11-5"] == [1504, 702, 573]
        assert sizes["11-1"] == [1504, 176, 198, 95, 75, 156, 76, 97, 213, 47, 139]
        first = [139, 252, 68, 87, 156, 79, 292, 115, 113, 76, 123]
        assert sizes["1-1"] == [*first, *sizes["11-1"][1:]]

    @pytest.mark.parametrize(("name", "leak"), [("1-1", 77.8), ("11-1", 72.1), ("11-5", 71.4)])
    def test_the_last_test_set_and_how_much_of_it_was_trained_on(self, name, leak):
        steps = domain_images(scenario(name), list(cityscapes()))
        assert len(steps[-1].test) == 695
        trained = {n for step in steps for n in names(step.train)}
        assert 100 * np.mean([n in trained for n in names(steps[-1].test)]) == pytest.approx(
            leak, abs=0.06
        )
        assert trained.isdisjoint(names(steps[0].test))

    def test_val_is_the_rest_of_the_same_cut(self):
        for step in domain_images(scenario("11-5"), list(cityscapes())):
            cities = {e.domain for e in step.train}
            of_cities = [n for n in names(cityscapes()) if n.split("/")[0] in cities]
            assert sorted(names(step.train) + names(step.val)) == sorted(of_cities)

    def test_the_cut_is_the_shuffle_of_a_list(self):
        order = list(range(174))
        np.random.RandomState(1).shuffle(order)
        (first, *_) = domain_images(scenario("1-1"), list(cityscapes()))
        assert names(first.train) == [f"aachen/{i}" for i in order[:139]]


def test_apart_no_test_image_was_trained_on_by_any_step():
    steps = domain_images(scenario("1-1", "domain_apart"), list(cityscapes()))
    trained = {n for step in steps for n in names(step.train)}
    tested = names(steps[-1].test)
    assert trained.isdisjoint(tested)
    assert len(set(tested)) == len(tested)
    assert len(trained) + len(tested) == 3475
    for before, after in itertools.pairwise(steps):
        assert set(names(before.test)) < set(names(after.test))


def test_lists_know_all_classes_and_seen_holds_what_was_trained_on():
    lists = step_lists(scenario("11-5"), list(cityscapes()), TABLE)
    for at, kinds in enumerate(lists.values()):
        for kind, image_list in kinds.items():
            steps = 3 if kind == "test" else at + 1
            assert image_list.classes.names_by_step == (tuple(TABLE), (), ())[:steps]
            assert image_list.visible == [1, 2]
            assert image_list.label_table()[[0, 1, 2, 255]].tolist() == [0, 1, 2, 255]
    before = [n for step in ("step0", "step1") for n in lists[step]["train"].names]
    assert sorted(lists["step1"]["seen"].names) == sorted(before)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"setting": "overlapped"}, "`scenario.domains` says where"),
        ({"domains": {}}, "must name the domains of step0, step1; got those of none"),
        ({"classes": {"step0": ["car"], "step1": ["sky"]}}, "`scenario.classes.step1` adds"),
        ({"domains": {"step0": ["a", "b"], "step1": ["a"]}}, "names 'a' twice"),
        ({"classes": {"step0": [], "step1": []}}, "`scenario.classes.step0` is empty"),
    ],
)
def test_what_does_not_fit(changed, said):
    usual = {
        "setting": "domain",
        "classes": {"step0": ["car", "sky"], "step1": []},
        "domains": {"step0": ["a"], "step1": ["b"]},
    }
    given = usual | changed
    with pytest.raises(InputError, match=said):
        Scenario.of(given["setting"], TABLE, given["classes"], domains=given["domains"])


def test_a_step_whose_domains_have_no_images(tmp_path):
    without = [e for e in cityscapes() if e.domain != "jena"]
    with pytest.raises(InputError, match=r"`steps\.step3` has no train images.* of jena"):
        write_splits(tmp_path, scenario("11-1"), without, TABLE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four photographs of each of three cities in Cityscapes' folders: road, some cars, void."""
    root, rng = tmp_path_factory.mktemp("cityscapes"), np.random.default_rng(0)
    for part, city in (("train", "aachen"), ("train", "bremen"), ("val", "lindau")):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / part / city).mkdir(parents=True)
        for at in range(5):
            labels = np.full((20, 32), 7, np.uint8)
            labels[:10, : 4 + at] = 26
            labels[10:, 20:] = 23
            labels[0, 0] = 1
            image = np.choose(labels % 3, [30, 120, 220])[..., None] + rng.integers(0, 20, 3)
            name = f"{city}_{at:06}_000019"
            Image.fromarray(image.astype(np.uint8)).save(
                root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png"
            )
            Image.fromarray(labels).save(
                root / "gtFine" / part / city / f"{name}_gtFine_labelIds.png"
            )
    return root


@pytest.mark.parametrize("losses", [{"kd": {"part": "kd", "weight": 10}},
                                    {"pod": {"part": "local_pod", "scales": [1, 2]}}])  # fmt: skip
def test_a_step_trains_the_same_outputs_on_other_cities(tree, tmp_path, losses):
    conf = scenes.composed("scenario=cityscapes/11-5")["dataset"]
    dataset = open_dataset(conf | {"root": str(tree)})
    assert len(dataset.classes) == 19
    assert dataset.classes[0] == "road"
    entries = build_index(dataset, whole)
    write_index(tmp_path / "index.csv", entries, dataset.classes)
    entries, table = read_index(tmp_path / "index.csv")
    assert [e.domain for e in entries] == ["aachen"] * 5 + ["bremen"] * 5 + ["lindau"] * 5
    assert entries[0].pixels[0] > 0
    assert entries[0].void == 1
    cities = {"step0": ["aachen", "bremen"], "step1": ["lindau"]}
    classes = {"step0": list(table[1:]), "step1": []}
    write_splits(tmp_path, Scenario.of("domain", table, classes, domains=cities), entries, table)
    how = plan("ft", 2)
    lists = [ImageList.read(tmp_path / f"step{k}" / "train.json") for k in (0, 1)]
    base = build_trainer(how, dataset, lists[0], None, CPU)
    run(base, tmp_path / "r0")
    checkpoint.save(tmp_path / "m0", base.segmenter, base.model, {})
    how.method["losses"] |= losses
    trainer = build_trainer(how, dataset, lists[1], tmp_path / "m0", CPU)
    assert trainer.segmenter.outputs == trainer.data.num_old == 19
    rows = run(trainer, tmp_path / "r1").rows
    assert all(row[name] >= 0 for row in rows for name in losses)
    checkpoint.save(tmp_path / "m1", trainer.segmenter, trainer.model, {})

    loaded = checkpoint.load_model(tmp_path / "m1", CPU)
    assert loaded.model.classes.names_by_step == (tuple(table), ())
    assert state(loaded.segmenter) == state(trainer.segmenter)
    test = ImageList.read(tmp_path / "step1" / "test.json")
    images = ImageStore(dataset, test)
    matrix, _ = evaluate.count_confusion(loaded.segmenter, images, 19, 4, CPU, whole, set())
    assert matrix.shape == (19, 19)
    assert matrix[0].sum() > 0
    confusion = {
        "step": "step1",
        "index": 1,
        "classes": list(table),
        "learned": [0] * 19,
        "seen": 19,
        "images": len(images),
        "matrix": matrix.tolist(),
    }
    miou = step_metrics(evaluated(confusion, "x"), future="background")["miou"]
    assert miou["all"] == miou["old"] == miou["base"] is not None
    assert miou["new"] is miou["added"] is None
    json.dumps(dataclasses.asdict(test))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("method=mib", "`method.losses.unbiased_ce` sets new classes apart"),
        ("method=ssul", "is 'all_but_newest'|is 'unknown'"),
        ("method/replay=deepinversion", "`method.replay` is 'deepinversion'"),
        ("method.after.part=weight_fusion", "`method.after` is 'weight_fusion'.*set it to none"),
    ],
)
def test_recipes_that_need_new_classes_are_refused(override, said):
    overrides = ["scenario=cityscapes/11-5", "published=none", override]
    if not override.startswith("method="):
        overrides.append("method=lwf")
    section = scenes.composed(*overrides)["method"]
    section["classifier_init"] = section["classifier_init"] if "ssul" in override else NONE
    with pytest.raises(InputError, match=said):
        check_without_new_classes(whole_of(section))


@pytest.mark.slow
def test_the_published_pairs_are_taken():
    for name in ("11-5", "11-1", "1-1"):
        for method in ("ft", "mib", "plop"):
            composed = scenes.composed(f"scenario=cityscapes/{name}", f"method={method}")
            check_without_new_classes(whole_of(composed["method"]))
