"""The door: what arrays give, what is refused, and what an import costs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import cssegcore
from cssegcore.core.errors import InputError
from cssegcore.models import checkpoint
from tests.helpers.tiny_dataset import HOME

BACKBONE = {"part": "small", "stem": [8, 8], "widths": [8, 8, 8]}
SMALL = {"part": "small", "depth": 8, "backbone": BACKBONE}
FT = {"name": "ft", "losses": {"ce": {"part": "ce"}}}
OPTIMIZER = {
    "part": "sgd",
    "batch_size": 2,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "power": 0.9,
    "clip": 0,
    "amp": False,
}
CPU = torch.device("cpu")


def pixels(count, classes, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 32, 36, 3), np.uint8)
    return images, rng.integers(0, classes + 1, (count, 32, 36), np.uint8)


def trained(folder, name="step0", recipe=FT, previous=None, classes=("cat", "dog"), **changed):
    known = len(cssegcore.load(previous, "cpu").classes) - 1 if previous else 0
    images, labels = changed.pop("pixels", None) or pixels(4, known + len(classes))
    out = folder / f"{name}.safetensors"
    usual = {"model": None if previous else SMALL, "optimizer": OPTIMIZER, "epochs": 1}
    rows = cssegcore.train_step(
        images,
        labels,
        classes,
        recipe=recipe,
        previous=previous,
        out=out,
        device="cpu",
        **usual | changed,
    )
    return out, rows


def recipe(name):
    text = (HOME / "conf/method" / f"{name}.yaml").read_text()
    return yaml.safe_load(text.replace("${scenario.setting}", "overlapped"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("base"))[0]


def test_every_name_of_the_door_is_there_and_lazy():
    code = "import sys, cssegcore; from cssegcore.core import types; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    assert all(callable(getattr(cssegcore, name)) for name in cssegcore.__all__)
    assert set(cssegcore.__all__) <= set(dir(cssegcore))
    assert not hasattr(cssegcore, "nothing")


def test_the_same_seed_gives_the_same_file_and_tells_each_epoch(tmp_path):
    told = []
    first, rows = trained(tmp_path, "a", epochs=2, tell=told.append)
    again, _ = trained(tmp_path, "b", epochs=2)
    other, _ = trained(tmp_path, "c", epochs=2, seed=2)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert rows == told
    assert [row["epoch"] for row in rows] == [1, 2]
    assert set(rows[0]) == {"epoch", "lr", "loss", "ce"}


@pytest.mark.parametrize("method", ["mib", "plop", "ewc", "sdr", "ssul"])
def test_recipes_of_conf_train_two_steps(method, tmp_path):
    given = recipe(method)
    given.pop("defaults", None)
    step0, _ = trained(tmp_path, "step0", given)
    step1, rows = trained(tmp_path, "step1", given, step0, ("sheep",))
    assert cssegcore.load(step1, "cpu").classes == ("background", "cat", "dog", "sheep")
    assert set(given["losses"]) <= set(rows[0])


def test_pseudo_labels_are_what_trains(base, tmp_path):
    """Where the previous model labels, MiB with and without pseudo-labels differ."""
    plain, _ = trained(
        tmp_path,
        "plain",
        recipe("plop") | {"pseudo_labels": {"part": "none"}, "losses": FT["losses"]},
        base,
        ("sheep",),
    )
    labelled, _ = trained(
        tmp_path,
        "labelled",
        recipe("plop")
        | {
            "losses": FT["losses"],
            "pseudo_labels": {"part": "entropy", "threshold": 0.0, "rule": "median"},
        },
        base,
        ("sheep",),
    )
    weights = [
        checkpoint.load_model(path, CPU).segmenter.state_dict() for path in (plain, labelled)
    ]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_memory_is_replayed(tmp_path):
    ssul_m = recipe("ssul") | {"replay": {"part": "exemplars", "size": 4, "share": 0.5}}
    base, _ = trained(tmp_path, "step0", ssul_m)
    first, other, without = (
        trained(tmp_path, name, ssul_m, base, ("sheep",), memory=memory)[0].read_bytes()
        for name, memory in {"a": pixels(4, 2, 5), "b": pixels(4, 2, 6), "c": None}.items()
    )
    assert len({first, other, without}) == 3


@pytest.mark.parametrize(
    ("method", "memory"), [("star", False), ("star", True), ("lwf_mc", True), ("ft", False)]
)
def test_old_classes_read_as_background_where_they_must_hide(method, memory, tmp_path):
    """STAR counts old pixels in the background, and `labels: step` shows the step's own alone."""
    mixed = {"part": "exemplars", "share": 0, "mix": "concatenated", "labels": "step"}
    given = recipe(method) | ({"replay": mixed} if memory else {})
    base, _ = trained(tmp_path, "step0", given)
    (images, shown), (kept, kept_shown) = pixels(4, 3), pixels(4, 3, 5)
    files = {}
    for name, own, old in (
        ("all", shown, kept_shown),
        ("own", np.where(shown == 3, 3, 0), np.where(kept_shown == 3, 3, 0)),
    ):
        given_memory = (kept, old.astype(np.uint8)) if memory else None
        step = {"pixels": (images, own.astype(np.uint8)), "memory": given_memory, "lr": 1e-3}
        files[name] = trained(tmp_path, name, given, base, ("sheep",), **step)[0].read_bytes()
    assert (files["all"] == files["own"]) == (method != "ft")


def test_memory_without_replay_is_refused(base, tmp_path):
    with pytest.raises(InputError, match="`memory` holds images of earlier steps"):
        trained(tmp_path, "step1", FT, base, ("sheep",), memory=pixels(4, 2))


def test_predict_against_the_network_itself(base):
    model = cssegcore.load(base, "cpu")
    images, _ = pixels(3, 2)
    found = cssegcore.predict(model, [*images[:2], images[2, :9]])
    assert [p.labels.shape for p in found] == [(32, 36), (32, 36), (9, 36)]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = ((images[:1] / 255 - mean) / deviation).astype(np.float32)
    with torch.no_grad():
        scores = model.segmenter(torch.from_numpy(normal).permute(0, 3, 1, 2)).logits.softmax(1)
    np.testing.assert_array_equal(found[0].labels, scores[0].argmax(0).numpy())
    np.testing.assert_allclose(found[0].confidences, scores[0].amax(0).numpy(), atol=1e-4)
    assert found[0].labels.dtype == np.uint8


def test_iterators_will_do(base, tmp_path):
    model, (images, labels) = cssegcore.load(base, "cpu"), pixels(4, 2)
    found = cssegcore.predict(model, (image for image in images))
    assert [p.labels.tolist() for p in found] == [
        p.labels.tolist() for p in cssegcore.predict(model, images)
    ]
    for name, arrays in (("a", (images, labels)), ("b", (iter(images), iter(labels)))):
        out = tmp_path / f"{name}.safetensors"
        usual = {"recipe": FT, "model": SMALL, "epochs": 1, "device": "cpu", "out": out}
        cssegcore.train_step(*arrays, ("cat", "dog"), **usual)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"image 0 has type uint8 and shape \(0, 5, 3\)"):
        cssegcore.predict(model, [np.zeros((0, 5, 3), np.uint8)])


def test_confusion_by_hand():
    labels = [np.array([[0, 1, 2, 3, 255]], np.uint8)]
    predicted = [np.array([[0, 1, 1, 2, 2]], np.uint8)]
    matrix = cssegcore.compute_confusion(labels, predicted, [["a"], ["b"], ["c"]], step=1)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
    ignoring = cssegcore.compute_metrics(matrix, [["a"], ["b"], ["c"]], step=1, future="ignore")
    assert ignoring["miou"]["base"] == pytest.approx(75, abs=1e-3)  # background 1, a 1/2
    assert ignoring["miou"]["added"] == 0.0
    counted = cssegcore.compute_metrics(matrix, [["a"], ["b"], ["c"]], step=1)
    assert counted["miou"]["base"] == pytest.approx(
        50, abs=1e-3
    )  # c counts as background: 1/2, a 1/2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"classes": ("cat",)}, r"holds 2, but its classes are 0 to 1"),
        ({"classes": ()}, r"`classes` must list"),
        ({"classes": ("cat", "cat")}, r"`classes` names 'cat'"),
        ({"classes": ("cat", "d\no\ng")}, r"`classes` names a class 'd\\no\\ng'"),
        ({"classes": ("cat", " dog")}, r"`classes` names a class ' dog'"),
        ({"classes": [f"c{k}" for k in range(300)]}, r"301 classes, and label images hold 255"),
        ({"epochs": 0}, r"`epochs` must be >= 1, got 0"),
        ({"lr": -1.0}, r"`lr` must be a finite number > 0, got -1\.0"),
        ({"seed": -1}, r"`seed` must be >= 0, got -1"),
        ({"images": []}, r"0 images and 4 label maps"),
        ({"recipe": FT | {"loses": {}}}, r"`method.loses` is not a key"),
        ({"recipe": FT | {"replay": {"part": "exemplar"}}}, r"no part 'exemplar'"),
        ({"images": np.zeros((4, 32, 36, 3), np.float32)}, r"train image 0 has type float32"),
        ({"labels": np.zeros((4, 32, 32), np.uint8)}, r"train label map 0 has type uint8 and"),
        ({"labels": np.zeros((3, 32, 36), np.uint8)}, r"4 images and 3 label maps"),
    ],
)
def test_refusals(changed, words, tmp_path):
    images, labels = pixels(4, 2)
    labels[0, 0, 0] = 2
    usual = {"images": images, "labels": labels, "classes": ("cat", "dog"), "recipe": FT}
    out = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=words):
        cssegcore.train_step(**usual | changed, model=SMALL, out=out, device="cpu")
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_said_before_training(base, tmp_path):
    images, labels = pixels(4, 2)
    usual = {"images": images, "labels": labels, "classes": ("sheep", "pig"), "recipe": FT}
    mine = tmp_path / "mine.safetensors"
    mine.write_text("mine")
    (tmp_path / "file").write_text("")
    for out, words in (
        (tmp_path, "is the folder"),
        (mine, "is there and no model"),
        (base, "the model of `previous`, too"),
        (tmp_path / "file" / "model.safetensors", "cannot write"),
    ):
        told = []
        with pytest.raises(InputError, match=words):
            cssegcore.train_step(**usual, out=out, previous=base, tell=told.append)
        assert not told
    assert mine.read_text() == "mine"


def test_made_images_take_the_pipeline(base, tmp_path):
    made = FT | {"replay": recipe("replay/deepinversion")}
    with pytest.raises(InputError, match="the pipeline's stage `synthesize`"):
        trained(tmp_path, "x", made, base, ("sheep",))


def test_refused_matrices():
    with pytest.raises(InputError, match="these classes need"):
        cssegcore.compute_metrics(np.zeros((2, 2), np.int64), [["a"], ["b"]])
    with pytest.raises(InputError, match="`step` is 2"):
        cssegcore.compute_metrics(np.zeros((3, 3), np.int64), [["a"], ["b"]], step=2)
    one = [np.zeros((2, 2), np.uint8)]
    with pytest.raises(InputError, match="has shape"):
        cssegcore.compute_confusion(one, [np.zeros((2, 3), np.uint8)], [["a"]])
    with pytest.raises(InputError, match="prediction 0 has type float32: give an array of whole"):
        cssegcore.compute_confusion(one, [np.full((2, 2), 0.9, np.float32)], [["a"]])
    with pytest.raises(InputError, match="prediction 0 holds 2"):
        cssegcore.compute_confusion(one, [np.full((2, 2), 2, np.uint8)], [["a"]])


OF_OTHER_TYPES = """
import numpy as np
import cssegcore
from cssegcore.core.errors import InputError

images, labels = np.zeros((4, 32, 36, 3), np.uint8), np.zeros((4, 32, 36), np.uint8)
for changed in (
    {"classes": ("cat", 5)},
    {"epochs": 1.5},
    {"seed": None},
    {"void": "ignor"},
    {"images": None},
    {"images": [[[0]]] * 4},
):
    usual = {"images": images, "labels": labels, "classes": ["cat"]}
    try:
        losses = {"ce": {"part": "ce"}}
        cssegcore.train_step(**usual | changed, recipe={"losses": losses}, out="none")
    except InputError as error:
        print(error)
try:
    cssegcore.compute_confusion([[[0, 0], [0, 0]]], [np.zeros((2, 2), np.uint8)], [["a"]])
except InputError as error:
    print(error)
try:
    cssegcore.compute_metrics(np.zeros((2, 2), np.int64), [["a"]], future="ignor")
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_values_of_other_types_are_refused_where_nothing_checks_types(tmp_path):
    """As a notebook calls it: these tests themselves run with types checked."""
    done = subprocess.run(
        [sys.executable, "-c", OF_OTHER_TYPES],
        env=os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    wanted = (
        "`classes` names a class 5",
        "epochs",
        "seed",
        "void",
        "`images` and its labels are NoneType and ndarray",
        "train image 0 has type list",
        "label map 0 has type list",
        "`future` is 'ignor': it may be background or ignore",
    )
    assert len(said) == len(wanted), said
    for line, words in zip(said, wanted, strict=True):
        assert words in line
    assert not list(tmp_path.iterdir())


def test_a_file_of_it_says_what_it_says(base, tmp_path):
    photographs, _ = pixels(3, 2, seed=4)
    agreed = cssegcore.export_file(base, tmp_path / "cats.pt2", photographs)
    assert (agreed.photographs, agreed.size) == (4, None)
    program = torch.export.load(tmp_path / "cats.pt2").module()
    labels, *_ = program(torch.from_numpy(photographs))
    for at, wanted in enumerate(cssegcore.predict(cssegcore.load(base, "cpu"), photographs)):
        assert np.mean(labels[at].numpy() != wanted.labels) < 1e-2  # ties
    with pytest.raises(InputError, match=r"neither \.pt2 nor \.onnx"):
        cssegcore.export_file(base, tmp_path / "cats.tflite", photographs)
    with pytest.raises(InputError, match="image 0"):
        cssegcore.export_file(base, tmp_path / "cats.pt2", [np.zeros((3, 3), np.uint8)])
    mine = tmp_path / "mine.pt2"
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"mine\.pt2 is there already, and no export made it"):
        cssegcore.export_file(base, mine, photographs)
    assert mine.read_text() == "mine"
