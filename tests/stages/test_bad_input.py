"""What a person can get wrong: one line that says what, where, and the way out; no traceback."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_dataset import BEFORE_TRAINING, disk_full_beyond, run_module

MADE = {"part": "deepinversion"}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("optimiser", "`params.yaml.optimiser` is not a key of `params.yaml`. Did you mean `optim"),
        ("steps.step1.epoch", "`params.yaml.steps.step1.epoch` is not * Did you mean `epochs`?"),
        (
            "evaluation.example",
            "`params.yaml.evaluation.example` is not * Did you mean `examples`?",
        ),
        ("scenario.seting", "`params.yaml.scenario.seting` is not * Did you mean `setting`?"),
        ("schedule.base.lrr", "`params.yaml.schedule.base.lrr` is not * Did you mean `lr`?"),
        ("method.losse", "`method.losse` is not a key of `method`. Did you mean `losses`?"),
        ("method.base.loses", "`method.base.loses` is not a key * Did you mean `losses`?"),
        ("method.losses.unbiased_kd.wieght", "`method.losses.unbiased_kd.wieght` * mean `weight`?"),
        ("method.base.losses.ce.wieght", "`method.base.losses.ce.wieght` * mean `weight`?"),
        ("method.classifier_init.x", "`method.classifier_init.x` is not a key *Known: none."),
        ("method.freeze.x", "`method.freeze.x` is not a key *Known: none."),
        ("method.base.head.x", "`method.base.head.x` is not a key *Known: init."),
        ("method.base.unknown_class.x", "`method.base.unknown_class.x` is not a key *Known: none."),
        ("method.base.statistic", "`method.base.statistic` is not * Did you mean `statistics`?"),
        ("method.replay.x", "`method.replay.x` is not a key *Known: none."),
        ("method.pseudo_labels.x", "`method.pseudo_labels.x` is not a key *Known: none."),
        ("model.backbone.dilatoin", "`model.backbone.dilatoin` * Did you mean `dilation`?"),
        ("optimizer.momentun", "`optimizer.momentun` is not * Did you mean `momentum`?"),
        ("augmentation.sise", "`augmentation.sise` is not * Did you mean `size`?"),
        ("dataset.rooot", "`dataset.rooot` is not * Did you mean `root`?"),
        ("dataset.layout.labells", "`dataset.layout.labells` is not * Did you mean `labels`?"),
    ],
)
def test_a_misspelt_key_is_named_and_the_right_one_proposed(project, key, words):
    project.set(key, 1)
    assert_says(project.run("check").refusal(), words)
    assert not (project.folder / "work").exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (
            "method.losses.unbiased_ce.part",
            "unbiased",
            "'unbiased' in cssegcore.method.losses. Did you m",
        ),
        ("method.base.losses.ce.part", "os", "'os' in cssegcore.method.losses.*Known: * ce,"),
        (
            "method.classifier_init.part",
            "unknwn",
            "'unknwn' in cssegcore.method.classifier_init.*Known: ",
        ),
        ("method.pseudo_labels.part", "x", "'x' in cssegcore.method.pseudo_labels. Known: "),
        (
            "method.freeze.part",
            "x",
            "'x' in cssegcore.method.freeze. Known: all_but_newest, none, norms, old_",
        ),
        ("method.after.part", "x", "'x' in cssegcore.method.after. Known: none, weight_fusion."),
        ("method.base.head.part", "x", "'x' in cssegcore.models.heads. Known: conv, linear."),
        (
            "method.base.unknown_class.part",
            "x",
            "'x' in cssegcore.method.unknown_class. Known: everything, none, s",
        ),
        ("method.replay.part", "x", "'x' in cssegcore.method.replay. Known: "),
        (
            "model.part",
            "deeplab",
            "'deeplab' in cssegcore.models.architectures. Did you mean `deeplabv3`? Kn",
        ),
        (
            "optimizer.part",
            "adam",
            "'adam' in cssegcore.training.optimizer. Did you mean `adamw`? ",
        ),
        ("augmentation.part", "crop", "'crop' in cssegcore.data.augmentation. Known: color_jitt"),
        ("dataset.layout.part", "vok", "'vok' in cssegcore.data.layouts. Did you mean `voc`?"),
    ],
)
def test_an_unknown_part_is_named_and_the_known_ones_listed(project, key, value, words):
    project.set(key, value)
    assert_says(project.run("check").refusal(), f"`{key}`: there is no part {words}")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (
            "scenario.setting",
            "overlaped",
            "`params.yaml.scenario.setting` * one of overlapped, dis",
        ),
        ("scenario.classes.step1", ["violet"], "no class 'violet'. Known: red, green, blue, yell"),
        ("scenario.classes.step1", ["bleu"], "no class 'bleu'. Did you mean `blue`?"),
        ("scenario.classes.step1", [], "`scenario.classes.step1` is empty: give"),
        ("scenario.last", "step3", "`scenario.last` must be 'step2', got 'step3'."),
        ("steps.step2.previous", "step0", "`steps.step2.previous` must be 'step1', got 'step0'."),
        ("steps.step0.previous", "step2", "`steps.step0.previous` must be 'none', got 'step2'."),
        ("steps.step0.recipe", "method", "`steps.step0` must have `recipe: method.base`"),
        ("steps.step1.recipe", "method.base", "`steps.step1.recipe` must be 'method', got 'method"),
        (
            "increments.step2.previous",
            "step0",
            "`increments` must name * step1: {previous: step0}, step",
        ),
        ("steps.step3", {"previous": "step2"}, "`params.yaml.steps.step3.recipe` is missing."),
        ("steps.step1.epochs", 0, "`params.yaml.steps.step1`: `epochs` must be >= 1, got 0"),
        ("steps.step1.epochs", "ten", "`params.yaml.steps.step1.epochs` must be a whole number, g"),
        (
            "steps.step1.lr",
            -0.1,
            "`params.yaml.steps.step1`: `lr` must be a finite number > 0, g",
        ),
        (
            "optimizer",
            {"batch_size": 8},
            "`optimizer.part` is missing: set `optimizer.part: sgd`, ",
        ),
        ("seed", -1, "`params.yaml`: `seed` must be >= 0, got -1"),
        ("evaluation.batch_size", 0, "`batch_size` must be >= 1"),
        ("optimizer.momentum", 2, "`optimizer`: `momentum` must lie in (0, 1) for Nesterov, got 2"),
        ("optimizer.batch_size", 0, "`optimizer`: `batch_size` must be >= 1, got 0"),
        ("augmentation.flip", 2, "`augmentation`: `flip` must lie in [0, 1], got 2"),
        ("model.backbone.widths", [4], "`model.backbone.widths` must hold 3 values, got [4]."),
        (
            "model.widths",
            [4, 4, 8],
            "`model.widths` is now `model.backbone.widths`: give it there.",
        ),
        ("model.weights", "none", "`model.weights` is not a key of `model`."),
        ("evaluation.panels", 6, "`params.yaml.evaluation.panels` is now `evaluation.examples`: "),
        ("scenario.portions", {}, "is now `scenario.partition_groups`: give it there."),
        (
            "steps.step1.prev",
            "step0",
            "`params.yaml.steps.step1.prev` is now `steps.STEP.previous`",
        ),
        (
            "increments.step1.prev",
            "step0",
            "`params.yaml.increments.step1.prev` is now `increments.STEP.previous`",
        ),
        ("method.base.unknown", {"part": "none"}, "is now `method.base.unknown_class`: give it th"),
        ("method.losses.unbiased_kd.part", "maker_kd", "'maker_kd' is now 'teacher_kd': write th"),
        (
            "model.backbone",
            "resnet101",
            "`model.backbone` is 'resnet101', but a backbone is a part",
        ),
        ("model.output_stride", 16, "`model.backbone`: the small backbone cannot end at stride 16"),
        (
            "model.backbone.weights",
            "x.pth",
            "`model.backbone`: `weights` is 'x.pth', and there is ",
        ),
        ("method.losses", {}, "`method.losses` is empty: name at least one term"),
        ("method.start", "scratch", "`method.losses.unbiased_kd` compares with the previous model"),
        ("method.losses.bce", {"part": "bce"}, "`method.losses`: 'unbiased_ce' reads logits as"),
        ("method.freeze.part", "all_but_newest", "`method.freeze: all_but_newest` works on the un"),
        (
            "method.after",
            {"part": "weight_fusion", "threshold": 1},
            "`method.after`: `threshold` must lie in [0, 1), got 1",
        ),
        (
            "method.base.after",
            {"part": "weight_fusion"},
            "`method.base.after`: the base step has no",
        ),
        ("method.base.replay", {"part": "exemplars"}, "`method.base.replay`: the base step has no"),
        (
            "method.replay",
            MADE | {"share": 0},
            "`method.replay`: `share` must lie in (0, 1), got 0",
        ),
        (
            "method.replay",
            MADE | {"share": 1},
            "`method.replay`: `share` must lie in (0, 1), got 1",
        ),
        (
            "method.replay",
            MADE | {"inversion": {"weights": {"competition": 0.2}}},
            "`inversion.weights.competition` is 0.2, and there is nobody *: set `student` to the",
        ),
        (
            "method.replay",
            MADE | {"inversion": {"phases": [[0, 9]]}},
            "`method.replay.inversion`: `phases` must hold pairs",
        ),
        ("method.replay", MADE | {"inversion": {"jiter": 0}}, "inversion.jiter` * mean `jitter`?"),
        ("optimizer.warmup", 2, "`optimizer`: `warmup` is a share of the iterations in [0, 1], go"),
        ("optimizer.floor", -1, "`optimizer`: `floor` must be a finite number >= 0, got -1"),
        ("method.start", "fresh", "`method.start` must be one of previous, scratch; got 'fresh'."),
        ("dataset.root", "nowhere", "`dataset.root` is 'nowhere', and there is no such folder bel"),
        ("dataset.root", "/nowhere/at all", "'/nowhere/at all', and there is no such folder. Fetc"),
        ("dataset.classes", ["background"], "class table of dataset 'shapes' must hold 2 to 255"),
        ("dataset", None, "`params.yaml.dataset` must be a mapping, got None."),
    ],
)
def test_a_value_that_makes_no_sense_is_named(project, key, value, words):
    project.set(key, value)
    assert_says(project.run("check").refusal(), words)
    assert not (project.folder / "work").exists()


def test_a_base_step_that_compares_with_a_model_before_it_is_refused(project):
    project.set("method.base.losses.kd", {"part": "unbiased_kd"})
    assert_says(project.run("check").refusal(), "`method.base.losses.kd` compares with a previous")


def test_replay_that_finds_no_place_in_a_batch_is_refused(project):
    project.params["method"] = scenes.composed("method=ssul_m")["method"]
    project.set("method.replay.size", 3)
    project.set("optimizer.batch_size", 1)
    refusal = project.run("check").refusal()
    assert_says(refusal, "`method.replay.share` of 0.5 leaves no place in a batch of 1: set `opt")


def test_made_images_that_are_too_few_for_the_network_are_refused(project):
    asked = ("model=deeplabv3_r50", "model.backbone.weights=none", "method/replay=deepinversion")
    made = scenes.composed("method=mib", *asked)
    project.params |= {name: made[name] for name in ("method", "model")}
    project.set("method.replay.share", 0.1)
    project.set("optimizer.batch_size", 8)
    refusal = project.run("check").refusal()
    assert_says(refusal, "`method.replay.share` of 0.1 puts 1 image(s) beside a batch of 8, and")
    assert "set it to 0.2 or more" in str(refusal)


def test_a_setting_that_a_part_knows_otherwise_is_refused(project):
    project.params["method"] = scenes.composed("method=sdr")["method"]
    project.set("scenario.setting", "disjoint")
    refusal = project.run("check").refusal()
    assert_says(refusal, "`method.base.statistics.prototypes.setting` is 'overlapped', but `scen")


def test_lists_may_be_disjoint_where_a_recipe_says_so(listed):
    listed.params["method"] = scenes.composed("method=star")["method"]
    for setting, status in {"disjoint": 0, "overlapped": 0, "listed": 0, "partitioned": 2}.items():
        listed.set("method.statistics.class_features.setting", setting)
        listed.set("method.base.statistics.class_features.setting", setting)
        done = listed.run("check")
        assert done.status == status, done
    also = "so set them alike, or this one to overlapped or disjoint."
    assert also in str(done.refusal())


@pytest.fixture
def listed(project):
    """A project whose steps all list the same two images."""
    names = {"train": "t7", "test": "v0"}
    Path("lists").mkdir()
    for part, name in names.items():
        Path(f"lists/{part}.txt").write_text(f"{name}\n")
    own = {part: f"lists/{part}.txt" for part in names} | {"annotated": None}
    project.set("scenario.lists", {step: {**own} for step in project.params["steps"]})
    project.set("scenario.setting", "listed")
    return project


def test_labels_that_no_term_reads_are_told(listed):
    listed.set("scenario.lists.step2.annotated", ["red", "yellow"])
    done = listed.run("check")
    assert done.status == 0
    assert "warning: `scenario.lists.step2.annotated` has 'red'" in done.err


def test_void_as_background_is_refused_where_there_is_no_background(project):
    project.set("dataset.background", "none")
    project.set("labels.void", "background")
    refusal = project.run("check").refusal()
    assert_says(refusal, "`labels.void` is 'background', and the dataset has none: * 'background'")
    project.set("labels.void", "ignore")
    refusal = project.run("check").refusal()
    assert_says(refusal, "`scenario.setting` is 'overlapped', which makes classes the background,")
    project.params["method"] = scenes.composed("method=dkd")["method"]
    project.set("seed", 1)
    refusal = project.run("check").refusal()
    assert_says(refusal, "`method.base.background` is 'auxiliary', and the dataset has none: * to")


@pytest.mark.parametrize(("size", "refused"), [(8, False), (9, True)])
def test_a_memory_larger_than_the_dataset_is_refused(project, size, refused):
    project.params["method"] = scenes.composed("method=ssul_m")["method"]
    project.set("method.replay", {"part": "exemplars", "size": size})
    outcome = project.run("check")
    assert (outcome.status == 2) == refused
    if refused:
        words = "`method.replay.size` is 9, but the dataset has 8 training photographs in all: keep"
        assert_says(outcome.refusal(), words)
        assert not (project.folder / "work").exists()


def test_steps_beside_the_scenario_s_are_refused(project):
    project.set("steps.step3", project.params["steps"]["step2"])
    assert_says(project.run("check").refusal(), "`steps` must be those of `scenario.classes` (ste")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no params.yaml in * run from the repository's root."),
        ("seed: [1\nmodel: {\n", "params.yaml is not YAML: "),
        ("- 1\n", "params.yaml must hold a mapping: run `python -m stages.compose par"),
        ("", "params.yaml must hold a mapping: run `python -m stages.compose par"),
    ],
    ids=["missing", "broken", "list", "empty"],
)
def test_a_missing_or_broken_parameters_file_stops_every_stage(project, text, words):
    path = project.folder / "params.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    stages = ("check", "index", "saliency", *(f"{s}@step1" for s in scenes.BEFORE_STEP))
    for stage in (*stages, "train@step0", "report"):
        assert_says(project.run(stage).refusal(), words)


def photograph(project, name):
    return project.root / "JPEGImages" / f"{name}.jpg"


def label(project, name):
    return project.root / "SegmentationClass" / f"{name}.png"


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILT = {
    "photograph missing": (photograph, lambda p: p.unlink(), "photograph {} does not exist: put"),
    "label missing": (label, lambda p: p.unlink(), "label image {} does not exist: put it there"),
    "photograph truncated": (photograph, truncate, "photograph {} cannot be read (*): replace the"),
    "label truncated": (label, truncate, "label image {} cannot be read (*): replace the file."),
    "photograph cut at its end": (
        photograph,
        lambda p: p.write_bytes(p.read_bytes()[:-40]),
        "photograph {} cannot be read (*truncated*): replace the file.",
    ),
    "photograph empty": (
        photograph,
        lambda p: p.write_bytes(b""),
        "photograph {} cannot be read (no i",
    ),
    "no image": (photograph, lambda p: p.write_text("text"), "photograph {} cannot be read (*): r"),
    "a folder": (label, lambda p: [p.unlink(), p.mkdir()], "label image {} cannot be read (*): r"),
    "other size": (
        label,
        lambda p: Image.new("L", (23, 24)).save(p),
        "photograph *t3.jpg is 24x24 pixels and its label image {} 23x24: they must be of one size",
    ),
    "unknown value": (
        label,
        lambda p: Image.new("L", (24, 24), 5).save(p),
        "label image {} holds the value 5, but its classes are 0 to 4 (yellow), void is 255: fix",
    ),
    "RGB label": (
        label,
        lambda p: Image.new("RGB", (24, 24)).save(p),
        "label image {} has mode RGB, not one 8-bit channel (palette or grey PNG): store",
    ),
    "16-bit label": (label, lambda p: Image.new("I;16", (24, 24)).save(p), "{} has mode I;16, not"),
}


@pytest.mark.parametrize(("place", "spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_a_wrong_image_is_named_by_the_index(project, place, spoil, words):
    path = place(project, "t3")
    spoil(path)
    assert_says(project.run("check", "index").refusal(), words.format(path))
    assert not (project.folder / "work" / "index.csv").exists()


def test_the_number_of_wrong_images_is_told(project):
    for name in ("t0", "t3", "v1"):
        photograph(project, name).unlink()
    line = project.run("index").refusal()
    assert_says(line, "t0.jpg does not exist: * off the list. (2 more images are wrong.)")


def test_a_missing_list_file_is_named_by_the_index(project):
    (project.root / "ImageSets/Segmentation/val.txt").unlink()
    line = project.run("index").refusal()
    assert_says(line, "no complete arrangement * put ImageSets/Segmentation/val.txt there. Looked")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the list *train.txt is empty: put one name a line."),
        ("t0\r\nt1\r\nt0", "the list *train.txt names 't0' twice: remove one of the lines."),
        ("t0\nt99\n", "label image *t99.png does not exist: put it there or take its name off the"),
        ("a/t0.jpg b/t1.png\n", "the list *train.txt pairs 't0' with 't1': a photograph and its"),
    ],
    ids=["empty", "twice", "missing image", "pair"],
)
def test_a_wrong_list_is_named_by_the_index(project, text, words):
    (project.root / "ImageSets/Segmentation/train.txt").write_bytes(text.encode())
    assert_says(project.run("index").refusal(), words)
    assert not (project.folder / "work" / "index.csv").exists()


def test_a_step_without_images_is_named_before_any_training(project):
    for part in ("train", "val"):
        path = project.root / "ImageSets" / "Segmentation" / f"{part}.txt"
        names = [n for n in path.read_text().split() if 3 not in shown(project, n)]
        scenes.write_lines(path, names)
    line = project.run("check", "index", "split").refusal()
    assert_says(line, "`steps.step1` has no train images: * shows blue as the setting 'overlapped'")
    assert not (project.folder / "work" / "split").exists()


def test_a_class_that_was_painted_as_void_is_told_apart_from_one_that_is_not_there(project):
    for path in (project.root / "SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            labels = np.asarray(image).copy()
        labels[labels == 3] = 255
        Image.fromarray(labels).save(path)
    line = project.run("check", "index", "split").refusal()
    assert_says(
        line, "`steps.step1` has no train images: * label images hold 255, which is void, a"
    )
    assert_says(line, "if blue was painted 255, as in masks of black and white, paint it 3.")


def shown(project, name):
    with Image.open(label(project, name)) as image:
        return set(np.unique(image).tolist())


def test_a_stage_that_runs_before_what_it_needs_says_so(project):
    assert_says(project.run("split").refusal(), "work/index.csv: No such file or directory. Fix")
    line = project.run("train@step0").refusal()
    assert_says(line, "work/code/method.base.json does not exist: run `dvc repro`.")
    line = project.run("check", "train@step0").refusal()
    assert_says(line, "step0/watched holds no lists: run `dvc")
    line = project.run(*BEFORE_TRAINING, "train@step1").refusal()
    assert_says(line, "the model work/step0/model.safetensors does not exist: run `dvc repro` firs")


def test_a_step_that_the_parameters_do_not_name_is_refused(project):
    words = [w.replace("step1", "step7") for w in project.commands["train@step1"]]
    line = run_module(*words).refusal()
    assert_says(line, "`steps` in params.yaml has no 'step7'.*Known: step0, step1, step2.")


def test_a_half_written_resume_file_is_named_and_can_be_deleted(project):
    model = project.folder / "work" / "step0" / "model.safetensors"
    model.mkdir(parents=True)  # so that the training ends without a result
    line = project.run(*BEFORE_TRAINING, "train@step0").refusal()
    assert_says(line, "cannot write work/step0/model.safetensors: * run the same command again")
    (resume,) = project.folder.glob(".cssegcore/resume/step0-*.pt")
    model.rmdir()

    truncate(resume)
    line = project.run("train@step0").refusal()
    assert_says(line, f"the resume file {resume.relative_to(project.folder)} is damaged: delete it")
    assert not model.exists()
    resume.unlink()
    assert project.run("train@step0").status == 0
    assert model.is_file()


def test_a_full_disk_in_training_is_one_line_and_leaves_no_half_file(project, monkeypatch):
    monkeypatch.setattr("cssegcore.runtime.resume.ResumeFile.save", lambda *_: None)
    assert project.run(*BEFORE_TRAINING).status == 0
    with disk_full_beyond(6000):
        line = project.run("train@step0").refusal()
    assert_says(line, "cannot write work/step0/model.safetensors: * Free space")
    assert not list(project.folder.glob(".cssegcore/resume/.*"))
    assert not list(project.folder.glob("work/step0/*model*"))


def test_a_full_disk_in_the_index_is_one_line(project):
    with disk_full_beyond(100):
        line = project.run("index").refusal()
    assert_says(line, "cannot write work/index.csv: File too large. Free space")
    assert not list((project.folder / "work").iterdir())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "method=mibb",
            "Could not find 'method/mibb' Available options in 'method': * ft * joint * mib",
        ),
        ("scenario=shapes/4-3", "Could not find 'scenario/shapes/4-3': look into conf/ for what"),
        ("optimiser.clip=1", "Could not override 'optimiser.clip'."),
    ],
)
def test_what_conf_does_not_hold_is_refused_when_composing(tmp_path, monkeypatch, override, words):
    monkeypatch.chdir(scenes.HOME)
    line = run_module("stages.compose", str(tmp_path / "params.yaml"), override).refusal()
    assert_says(line, words)
    assert list(tmp_path.iterdir()) == []


def test_what_is_right_is_composed(tmp_path, monkeypatch):
    monkeypatch.chdir(scenes.HOME)
    out = tmp_path / "params.yaml"
    assert run_module("stages.compose", str(out), "method=ft", "seed=4").status == 0
    params = yaml.safe_load(out.read_text())
    assert (params["method"]["name"], params["seed"]) == ("ft", 4)


def test_no_photograph_or_result_is_overwritten(project, tmp_path):
    assert project.run(*BEFORE_TRAINING, "train@step0").status == 0
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("t0", "t1"):
        shutil.copy(photograph(project, name), mine / f"{name}.jpg")
    (mine / "t1.png").write_text("mine")
    words = ["stages.predict", "work/step0/model.safetensors", str(mine / "t0.jpg")]
    assert_says(
        run_module(*words, str(mine / "t1.jpg"), "--out", str(mine)).refusal(),
        f"{mine}/t1.png is there already: name an --out",
    )
    assert (mine / "t1.png").read_text() == "mine"
    assert len(list(mine.iterdir())) == 3

    out = run_module(*words, "--out", str(tmp_path / "out"))
    assert out.status == 0, out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"t0.png", "t0.overlay.jpg"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = run_module(*words, "--out", str(tmp_path / "out"))
    assert (again.status, again.err) == (0, "")
    assert "1 photographs, 1 of them before" in again.out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    (other,) = (run_module(*words, "--out", str(tmp_path / "out"), "--opacity", "0.1").refusal(),)
    assert_says(other, "1 of 1 photographs are not labelled*t0.png was made of another photograph")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.jpg"], "there is no photograph or folder nothing.jpg: check the path."),
        (["empty"], "the folder empty holds no photograph (.jpg, "),
        (["."], "the folder . holds no photograph (*). Name the folders below as well: a, b."),
        (["a/x.jpg", "b/x.jpg"], "two photographs are called 'x': label them into two folders."),
        (["a/x.jpg"], "the model model.safetensors does not exist: run `dvc repro` first."),
    ],
)
def test_predict_says_what_it_cannot_find(project, arguments, words):
    for folder in ("a", "b", "empty"):
        (project.folder / folder).mkdir()
    for folder in ("a", "b"):
        Image.new("RGB", (8, 8)).save(project.folder / folder / "x.jpg")
    assert_says(run_module("stages.predict", "model.safetensors", *arguments).refusal(), words)


def test_predict_says_which_folders_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (".", "june", "out", ".hidden", "notes"):
        Path(folder).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(Path(folder, "x.jpg"))
    Path("notes/x.jpg").rename("notes/x.txt")
    outcome = run_module("stages.predict", "none.safetensors", ".", "--out", "out")
    warned, refused = outcome.err.splitlines()
    left = "Name the folders below as well: june."
    assert warned == f"warning: only photographs directly in . are read. {left}"
    assert "the model none.safetensors does not exist" in refused


def test_shapes_are_not_made_into_a_folder_in_use(tmp_path):
    (tmp_path / "mine").write_text("mine")
    line = run_module("stages.make_shapes", str(tmp_path)).refusal()
    assert_says(line, f"{tmp_path} is in use: name a folder that is empty or not yet there.")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_device_that_is_not_there_is_named(project, monkeypatch):
    assert project.run(*BEFORE_TRAINING).status == 0
    monkeypatch.setenv("CSSEGCORE_DEVICE", "gpu")
    assert_says(project.run("train@step0").refusal(), "CSSEGCORE_DEVICE is 'gpu', which cannot be")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.6 TiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Storage size calculation overflowed with sizes=[1000000000, 1000000000]"),
    ],
)
def test_too_little_memory_is_one_line(project, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("cssegcore.data.index.build_index", fail)
    line = run_module(*project.commands["index"]).refusal()
    assert_says(
        line, f"the memory does not suffice ({error}): set a smaller `optimizer.batch_size`"
    )
    monkeypatch.setattr("cssegcore.data.index.build_index", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run_module(*project.commands["index"])


def assert_says(line, words):
    """Asserts that a line holds words in order; `*` stands for any text between them."""
    at = 0
    for part in words.split("*"):
        found = line.find(part, at)
        assert found >= 0, f"{part!r} is not in order in: {line}"
        at = found + len(part)
