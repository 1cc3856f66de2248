"""Damaged and hostile text: one line, short, whatever it holds."""

import contextlib
import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.config import LONGEST, cut, parse, shown
from cssegcore.core.errors import InputError
from cssegcore.core.files import read_manifest
from cssegcore.core.registry import build_part
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import read_index
from stages.common.cli import _refuse, say
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_dataset import run_module

pytestmark = pytest.mark.slow

BOMB = "\n".join(
    [
        "a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]",
        *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)),
        "seed: *a11",
    ]
)
"""A few hundred bytes that are 9 to the power of 12 numbers."""


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@dataclasses.dataclass(frozen=True)
class Numbers:
    seed: bool


VALUES = [
    "x" * 10**6,
    list(range(10**6)),
    {str(k): k for k in range(10**5)},
    nested(10**4),
    10**4000,
    b"x" * 10**6,
    {"a": ["x" * 10**6] * 10**4},
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_value_of_any_size_is_cut(value):
    assert len(shown(value)) <= LONGEST + 1
    for given in ({"seed": value}, {f"{value!s}"[: 10**6] if isinstance(value, str) else "x": 1}):
        with pytest.raises(InputError) as refused:
            parse(Numbers, given, "numbers")
        assert len(str(refused.value)) < 1000
    with pytest.raises(InputError) as refused:
        build_part("cssegcore.method.losses", object, value, "method.losses.x")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("hint", [int, float, tuple[int, ...], float | None])
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400])
def test_a_number_that_no_machine_holds_is_refused(hint, value):
    there = dataclasses.make_dataclass("there", [("width", hint)])
    given = [8, value] if hint == tuple[int, ...] else value
    with pytest.raises(InputError, match=r"`numbers\.width.*64 bits, got") as refused:
        parse(there, {"width": given}, "numbers")
    assert len(str(refused.value)) < 300


def test_a_long_message_keeps_its_way_out(project):
    project.set("steps.step1.previous", "x" * 10**5)
    line = project.run("check").refusal()
    assert "`steps.step1.previous` must be 'step0', got 'xxx" in line
    assert len(line) < 300
    message = "where it is: " + "x" * 10**6 + ", the way out"
    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit):
        _refuse(message)
    assert said.getvalue().startswith("error: where it is: ")
    assert said.getvalue().endswith(", the way out\n")
    assert len(said.getvalue()) < 4000


@pytest.mark.parametrize("value", [3, "text", [1, 2], {"a": 1}, None, 1e-4, True])
def test_a_short_value_is_shown_as_it_is(value):
    assert shown(value) == repr(value)


def test_a_key_is_one_line():
    assert cut("a\nb") == "a b"
    assert len(cut("x" * 10**6)) == 61


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB.encode(), "is not a key of"),
        (b"seed: \xff", "params.yaml is not YAML: 'utf-8' codec can't decode"),
        (b"[" * 5000, "params.yaml is not YAML: "),
        (b"seed: " + b"[" * 5000 + b"]" * 5000, "params.yaml is not YAML: "),
        (b"seed: 2001-99-99", "params.yaml is not YAML: "),
        (b"seed: " + b"9" * 5000, "params.yaml is not YAML: "),
        (b"seed: \0", "params.yaml is not YAML: "),
        (
            b"seed: 1\na: {b: 1}\nseed: 2\n",
            "params.yaml, line 3: the key 'seed' stands twice: t",
        ),
        (b"a:\n  b: 1\n  b: 1\n", "params.yaml, line 3: the key 'b' stands twice: take one out."),
        (b"seed: 010\n", "params.yaml, line 1: '010' would be read in base 8: write the number in"),
        (
            b"\na: [1:30]\n",
            "params.yaml, line 2: '1:30' would be read in base 60: write",
        ),
        (
            b"a: -1:30.5\n",
            "params.yaml, line 1: '-1:30.5' would be read in base 60: write",
        ),
        (
            b'a: {b: "x\\e[2J"}\n',
            "params.yaml, line 1: the text 'x\\x1b[2J' holds a control character: leave it out.",
        ),
        (b"a: |\n  x\n  y\n", "params.yaml, line 1: the text 'x\\ny\\n' holds a control"),
        (b"seed: !!python/object/apply:os.system ['true']", "params.yaml is not YAML: "),
        (b"- 1", "params.yaml must hold a mapping"),
    ],
    ids=range(16),
)
def test_a_hostile_params_file_is_one_short_line(project, content, words):
    (project.folder / "params.yaml").write_bytes(content)
    line = project.run("check").refusal()
    assert words in line
    assert len(line) < 5000


def test_a_pipe_in_place_of_a_text_ends(project):
    """Opening one waits for a writer, for ever."""
    for path, stage in (
        (project.folder / "params.yaml", "check"),
        (project.root / "classes.txt", "index"),
        (project.root / "ImageSets/Segmentation/val.txt", "index"),
    ):
        kept = path.rename(path.with_suffix(".kept"))
        os.mkfifo(path)
        line = project.run(stage).refusal()
        assert path.name in line
        assert "it is no regular file" in line
        kept.replace(path)


@pytest.mark.parametrize("content", [b"", b"name,x\n", b"\xff\xfe", b"a\0b\n", b'"', b"{}"])
def test_a_damaged_index_is_one_line(tmp_path, content):
    path = tmp_path / "index.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"index\.csv is damaged \(.*: run `dvc repro -f index`"):
        read_index(path)


@pytest.mark.parametrize(
    "row", ["t0,train,,x,y,1,1,0", "t0,train,,x,y,1,1,0,1,2", "t0,train,,x,y,a,1,0,1"]
)
def test_a_damaged_row_of_the_index_is_one_line(tmp_path, row):
    path = tmp_path / "index.csv"
    path.write_text(f"name,parts,domain,digest,photograph,height,width,void,b\n{row}\n")
    with pytest.raises(InputError, match=r"index\.csv is damaged \(.*: run `dvc repro -f index`"):
        read_index(path)


WHOLE = {
    "step": "step0",
    "index": 0,
    "classes": [["b", "c"]],
    "raw": [[0, 1]],
    "visible": [1],
    "images": [["t0", "x"]],
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 90000,
        *(
            json.dumps(WHOLE | changed).encode()
            for changed in (
                {"images": [["t0"]]},
                {"images": [["t0", "x", "y"]]},
                {"images": ["t0"]},
                {"raw": [[0]]},
                {"raw": [[0, 300]]},
                {"visible": [7]},
                {"classes": []},
                {"more": 1},
            )
        ),
    ],
    ids=range(12),
)
def test_a_damaged_list_is_one_line(tmp_path, content):
    path = tmp_path / "train.json"
    path.write_bytes(json.dumps(WHOLE).encode())
    assert ImageList.read(path).names == ["t0"]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.json") as refused:
        ImageList.read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"\xff", b"[" * 90000, b'{"other": 1}'])
def test_a_damaged_manifest_is_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json .*delete it and run `dvc repro`"):
        read_manifest(tmp_path, "images")


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\0b", "a\x1b[31mb", "a\u2028"])
def test_class_names_that_are_no_text_are_refused(dataset_root, name):
    settings = {"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}}
    with pytest.raises(InputError, match=r"names a class .*: give it a name without") as refused:
        open_dataset(settings | {"classes": ["b", name]})
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\x9bb", "a\u202eb", "a\udce9b", "a\rb"])
def test_what_a_name_holds_never_acts_on_the_terminal(tmp_path, name):
    """As of photographs that somebody sent; bytes that are no UTF-8 would not even be printed."""
    refused = run_module("stages.predict", "model", str(tmp_path / f"{name}.jpg")).refusal()
    assert "/a" in refused
    assert refused.rstrip("\n").isprintable()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        say(name)
    assert out.getvalue().rstrip("\n").isprintable()


def test_a_tilde_in_the_root_is_refused_with_the_path(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.root.parent))
    project.set("dataset.root", f"~/{project.root.name}")
    line = project.run("check").refusal()
    assert f"which a shell would expand and DVC does not: write {project.root}." in line


BISENET = {"part": "bisenet", "backbone": {"part": "resnet", "depth": 18, "weights": "none"}}


class TestTooFewImages:
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_a_batch_is_refused_by_check(self, project, accumulate):
        project.set("model", BISENET)
        project.set("optimizer.accumulate", accumulate)
        project.set("optimizer.batch_size", 2 * accumulate - 1)
        line = project.run("check").refusal()
        assert "'bisenet' trains on 2 images at a time or more: set `opt" in line
        assert f"to {2 * accumulate} or more, not {2 * accumulate - 1}." in line
        project.set("optimizer.batch_size", 2 * accumulate)
        assert project.run("check").status == 0

    def test_a_step_with_one_image_is_refused_by_split(self, project):
        lists = project.root / "ImageSets/Segmentation/train.txt"
        blue = [n for n in lists.read_text().split() if 3 in shown_by(project, n)]
        others = [n for n in lists.read_text().split() if n not in blue]
        scenes.write_lines(lists, [*others, blue[0]])
        assert project.run("check", "index", "split").status == 0
        project.set("model", BISENET)
        line = project.run("check", "index", "split").refusal()
        assert "`steps.step1` trains on 1 images, and `model`" in line
        scenes.write_lines(lists, [*others, *blue])
        assert project.run("check", "index", "split").status == 0


def shown_by(project, name):
    with Image.open(project.root / "SegmentationClass" / f"{name}.png") as image:
        return set(np.unique(image).tolist())


def test_a_copy_that_fails_is_one_line(project, monkeypatch):
    """As of a whole folder by `shutil.copytree`, whose error has no number of its own."""

    def fail(*_):
        raise shutil.Error([("a/x", "b/x", "[Errno 28] No space left on device: 'b/x'")])

    monkeypatch.setattr("cssegcore.data.index.write_index", fail)
    line = run_module(*project.commands["index"]).refusal()
    assert "cannot copy: [Errno 28] No space left on device: 'b/x'. Fix that" in line


@pytest.mark.parametrize(
    "content",
    [b"x: !!python/object/apply:os.system ['true']", b"x: \xff", b"x: " + b"[" * 5000, b"x: [1"],
    ids=range(4),
)
def test_hostile_conf_is_one_line(tmp_path, monkeypatch, content):
    shutil.copytree(scenes.HOME / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "model" / "small.yaml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    line = run_module("stages.compose", "params.yaml").refusal()
    assert len(line) < 5000
    assert not (tmp_path / "params.yaml").exists()
