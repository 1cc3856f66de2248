"""Exported files say what `predict` says, of photographs of any size; what they cannot is told."""

import ast
import json
import re
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore import load, predict
from cssegcore.export import write
from cssegcore.export.file import DESCRIPTION, FILES, OnnxFile
from cssegcore.export.network import PhotographNetwork
from cssegcore.models import checkpoint
from cssegcore.models.checkpoint import Loaded, Model
from tests.helpers.tiny_dataset import HOME, composed, run_module
from tests.helpers.tiny_training import BACKBONE, FOUR, LINEAR, MODEL, VIT_MODEL, write_model

SIZES = ((70, 131), (97, 64), (300, 290))
DEEPLAB = {"part": "deeplabv3", "output_stride": 8, "depth": 8, "backbone": BACKBONE}
RESNET18 = {"part": "resnet", "depth": 18, "weights": "none"}
NETWORKS = {
    "deeplabv3": (DEEPLAB, ".onnx"),
    "deeplabv3 concatenated": (DEEPLAB | {"decoder": "concatenated"}, ".pt2"),
    "bisenet": ({"part": "bisenet", "backbone": RESNET18}, ".pt2"),
    "mask_transformer": (VIT_MODEL, ".pt2"),
}
"""Besides the small one, which the command exports; where ONNX adds no operation, without it."""
ALIKE = ("segmenter_vit_b16", "bisenet_r101")
"""Models of conf/ that are others in larger: `segmenter_vit_tiny`, `bisenet_r50`."""
CONF = (
    *(p.stem for p in sorted((HOME / "conf/model").glob("*.yaml")) if p.stem not in ALIKE),
    "deeplabv3_mobilenet model/backbone=timm",
)
"""What `conf/` offers, as large as it is."""


def photographs():
    """Blocks of colours, so that networks that nobody trained tell some places apart."""
    rng = np.random.default_rng(0)
    made = []
    for height, width in SIZES:
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        made.append(coarse.repeat(8, 0).repeat(8, 1)[:height, :width].copy())
    return made


def exported(model, out):
    loaded = checkpoint.load_model(model, torch.device("cpu"))
    told = []
    agreed = write.export_model(loaded, out, photographs(), None, told.append)
    return agreed, told


def expect(out, model):
    """Holds a file, read by what reads such files, against `predict`."""
    shown = [*photographs(), np.stack([p[:64, :64] for p in photographs()])]
    door, classes = load(model, "cpu"), set()
    batches = [p[None] if p.ndim == 3 else p for p in shown]
    for batch, answers in zip(batches, FILES[out.suffix].run(out, batches), strict=True):
        labels, confidences, scores = answers
        assert (labels.dtype, confidences.dtype) == (np.uint8, np.float32)
        assert scores.shape == (len(batch), 4, *batch.shape[1:3])
        for at, wanted in enumerate(predict(door, batch)):
            differ = labels[at] != wanted.labels
            second, first = np.sort(scores[at], axis=0)[-2:]
            assert (first - second)[differ].max(initial=0) < 1e-3, "they differ where classes tie"
            assert differ.mean() < 1e-2
            assert np.abs(confidences[at] - wanted.confidences).max() < 1e-3
            classes |= set(np.unique(labels[at]).tolist())
    assert len(classes) > 1, "a network that gives one class shows nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("deeplabv3", "mask_transformer") else pytest.mark.long)
        for n in NETWORKS
    ],
)
def test_files_say_what_predict_says(tmp_path, name):
    if name == "mask_transformer":
        pytest.importorskip("timm")
    network, suffix = NETWORKS[name]
    model = write_model(tmp_path / "model.safetensors", network)
    agreed, told = exported(model, tmp_path / f"model{suffix}")
    assert (agreed.size, told) == (None, [])
    assert agreed.photographs == len(SIZES) + 1
    expect(tmp_path / f"model{suffix}", model)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("chosen", CONF)
def test_networks_of_conf_say_what_predict_says(tmp_path, chosen):
    """As both kinds of files, with random weights."""
    if "timm" in chosen or "vit" in chosen:
        pytest.importorskip("timm")
    network, *backbone = chosen.split()
    section = composed(f"model={network}", *backbone, "model.backbone.weights=none")["model"]
    model = write_model(tmp_path / "model.safetensors", section)
    for suffix in FILES:
        agreed, told = exported(model, tmp_path / f"model{suffix}")
        assert (agreed.size, told) == (None, []), "of any size, without a word"
        expect(tmp_path / f"model{suffix}", model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "background"), [("sigmoid", "argmax"), (None, "rejected"), (None, "auxiliary")]
)
def test_decisions_are_those_of_the_recipe(tmp_path, unknown, background):
    """The network that is written decides as `predict`; a file of it is held against it."""
    model = write_model(tmp_path / "model.safetensors", MODEL, unknown, background)
    network = PhotographNetwork(checkpoint.load_model(model, torch.device("cpu")).segmenter)
    (shown, *_), door = photographs(), load(model, "cpu")
    with torch.no_grad():
        labels, confidences, _ = network(torch.from_numpy(shown[None]))
    (wanted,) = predict(door, [shown])
    assert np.array_equal(labels[0].numpy(), wanted.labels)
    assert np.allclose(confidences[0].numpy(), wanted.confidences, atol=1e-5)
    assert len(np.unique(wanted.labels)) > 1


@pytest.mark.slow
def test_a_sigmoid_recipe_with_a_rejected_background(tmp_path):
    model = write_model(tmp_path / "model.safetensors", MODEL, None, "rejected")
    exported(model, tmp_path / "model.pt2")
    write.check_replaceable(tmp_path / "model.pt2")
    expect(tmp_path / "model.pt2", model)


def run_documented_block(capsys):
    """Runs what docs/deploy.md shows, on one of these photographs."""
    (block,) = re.findall(r"```python\n(.*?)```", (HOME / "docs/deploy.md").read_text(), re.S)
    assert "farm.onnx" in block
    assert "photos/a.jpg" in block
    exec(block.replace("photos/a.jpg", "photos/0.png"), {})
    assert set(ast.literal_eval(capsys.readouterr().out)) <= {"background", "red", "green", "blue"}


@pytest.mark.slow
def test_the_command_and_what_is_in_the_file(tmp_path, monkeypatch, capsys):
    import onnx

    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "model.safetensors", MODEL)
    Path("photos").mkdir()
    for at, pixels in enumerate(photographs()):
        Image.fromarray(pixels).save(f"photos/{at}.png")
    done = run_module("stages.export", str(model), "photos", "--out", "farm.onnx")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"farm\.onnx: photographs from \d+x\d+ pixels on; labels of", done.out)
    write.check_replaceable(Path("farm.onnx"))  # it may be replaced
    expect(Path("farm.onnx"), model)
    run_documented_block(capsys)
    made = onnx.load("farm.onnx")
    about = {entry.key: json.loads(entry.value) for entry in made.metadata_props}
    assert about["classes"] == ["background", "red", "green", "blue"]
    assert about["palette"][1] == [128, 0, 0]
    assert about["normalization"]["mean"] == [0.485, 0.456, 0.406]
    assert about["input"]["layout"] == "batch, height, width, red-green-blue"
    assert about[DESCRIPTION]["raw"] == [0, 1, 2, 3]
    (given,) = made.graph.input
    sides = given.type.tensor_type.shape.dim
    assert [side.dim_param for side in sides[:3]] == ["batch", "height", "width"]
    assert sides[3].dim_value == 3

    done = run_module("stages.export", str(model), "photos", "--out", "f.pt2", "--size", "96x64")
    assert "f.pt2: photographs of 96x64 pixels" in done.out
    extra = {DESCRIPTION: ""}
    program = torch.export.load("f.pt2", extra_files=extra)
    assert json.loads(extra[DESCRIPTION])["input"]["size"] == [64, 96]
    labels, *_ = program.module()(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert labels.shape == (1, 64, 96)


PROGRAM = mock.Mock(spec=torch.export.ExportedProgram)


class Answering(OnnxFile):
    """A file whose scores are off by a number."""

    def __init__(self, network, error=0.0):
        self._network, self._error = network, error

    def write(self, path, program, about):
        path.write_bytes(b"x")

    def run(self, path, batches):
        for batch in batches:
            with torch.no_grad():
                labels, sure, scores = (a.numpy() for a in self._network(torch.from_numpy(batch)))
            yield labels, sure, scores + self._error


@pytest.fixture
def answering(monkeypatch):
    """Returns a way to export by such a file, and what was told."""
    torch.manual_seed(0)
    model = Model("step1", MODEL, LINEAR, None, FOUR)
    segmenter, told = model.segmenter().eval(), []

    def export(out, error, trace):
        kind = Answering(write.PhotographNetwork(segmenter), error)
        monkeypatch.setitem(FILES, ".onnx", kind)
        monkeypatch.setattr(write, "trace", trace)
        loaded = Loaded(segmenter, model, {}, "d")
        return write.export_model(loaded, out, photographs(), None, told.append), told

    return export


def test_a_network_for_one_size_is_told(tmp_path, answering):
    def static(network, size):
        if size is None:
            raise write.StaticSizeError("the network's height cannot vary")
        return write.Traced(PROGRAM, size, fixed=True)

    agreed, told = answering(tmp_path / "model.onnx", 0.0, static)
    assert agreed.size == SIZES[0]
    (line,) = told
    assert "cannot vary): it is made for 131x70 pixels" in line
    assert (tmp_path / "model.onnx").read_bytes() == b"x"


def test_a_file_that_says_something_else_is_not_put_in_place(tmp_path, answering):
    out = tmp_path / "model.onnx"
    before = f"before {write.DESCRIPTION}"
    out.write_text(before)
    with pytest.raises(write.InputError, match=r"does not say what the model says: \d+ of"):
        answering(out, 0.01, lambda _, size: write.Traced(PROGRAM, size or (1, 1), bool(size)))
    assert out.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "model.tflite"], "neither .pt2 nor .onnx"),
        (["--out", "model.pt2", "--size", "96"], "give WIDTHxHEIGHT"),
        (["--out", "model.pt2"], "there is no photograph or folder photos"),
        (["--out", "there.mlflow"], "there.mlflow is there already"),
        (["--out", "mine.pt2"], "mine.pt2 is there already, and no export made it"),
        (["--out", "folder.pt2"], "folder.pt2 is there already, and no export made it"),
        (["--out", "a#1.mlflow"], "it takes # for a part of an address"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    for folder in ("there.mlflow", "folder.pt2"):
        Path(folder).mkdir()
    Path("mine.pt2").write_text("mine")
    assert said in run_module("stages.export", "model.safetensors", "photos", *words).refusal()


def test_missing_packages_are_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with warnings.catch_warnings(), pytest.raises(write.InputError, match="extra `export`"):
        write.exported_kind(Path("model.onnx"))
    assert write.exported_kind(Path("model.pt2")) is FILES[".pt2"]
