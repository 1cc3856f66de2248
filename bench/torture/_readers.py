"""Which stage reads which file, and how often it is tried what it makes of a changed one."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image

from bench.torture import _mutate
from bench.torture._ledger import ACCEPTED, DIFFERS
from bench.torture._target import Target, run, stage
from bench.torture._tree import Tree, digests
from bench.torture._weights_read import weights
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.data.index import build_index, examine
from tests.helpers import tiny_dataset as scenes

NEEDED = ("plain", "exemplars", "images")
CPU = torch.device("cpu")


def targets(trees: Mapping[str, Tree]) -> Iterator[Target]:
    """Yields every file that any stage reads."""
    for tree in trees.values():
        yield from (_FILES[tree.kind])(tree)


def _plain(items: Iterable[Any], _: int) -> Iterable[Any]:
    return items


def _of_plain(tree: Tree) -> Iterator[Target]:
    yield from _dataset(tree)
    yield from _parameters(tree)
    yield from weights(tree)
    yield from _tables(tree)
    yield from _report(tree)
    yield from _predict(tree)
    yield from _journal(tree)


def _dataset(tree: Tree) -> Iterator[Target]:
    png = _with_png(tree)
    photograph = tree.root / "JPEGImages" / "t0.jpg"
    label = tree.root / "SegmentationClass" / "t0.png"
    dataset = open_dataset(tree.params["dataset"])
    once = ImageList.read(tree.folder / "work/split/step0/train.json")
    once = dataclasses.replace(once, images=[i for i in once.images if i[0] == "t0"])

    def index() -> object:
        entry = examine(dataset, "t0", ("train",))
        return entry.pixels, entry.void, dataset.photograph("t0").tobytes()

    def training() -> object:
        sample = ImageStore(dataset, once).sample(0)
        return sample.photograph.tobytes(), [m.tobytes() for m in sample.maps]

    def whole_index() -> object:
        return [
            (e.name, e.parts) for e in build_index(open_dataset(tree.params["dataset"]), _plain)
        ]

    def folder() -> object:
        there = open_dataset({"name": "x", "root": str(png), "layout": {"part": "folder"}})
        return examine(there, "a", ("train",)).pixels, there.photograph("a").tobytes()

    change = _mutate.change_bytes
    yield Target("photograph (JPEG): `index`", "plain", photograph, change, index, 300)
    yield Target(
        "photograph (JPEG) after `index`: `train`, `evaluate`",
        *("plain", photograph, change, training, 300, DIFFERS),
    )
    yield Target("photograph (PNG): `index`", "plain", png / "images/a.png", change, folder, 200)
    yield Target("label image: `index`", "plain", label, change, index, 300)
    yield Target(
        "label image after `index`: `train`, `evaluate`",
        *("plain", label, change, training, 100, DIFFERS),
    )
    lists = tree.root / "ImageSets/Segmentation"
    for name in ("train.txt", "val.txt"):
        fault = "list of images: `index`"
        yield Target(fault, "plain", lists / name, _mutate.change_lines, whole_index, 120)
    names = tree.root / "classes.txt"
    fault = "class names: `check`, `index`"
    yield Target(
        fault,
        *("plain", names, _mutate.change_lines),
        lambda: open_dataset(tree.params["dataset"]).classes,
        200,
    )


def _with_png(tree: Tree) -> Path:
    """Writes a dataset of a PNG photograph."""
    root = tree.place / "png"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    photograph, labels = scenes.draw([1, 2], 4)
    Image.fromarray(photograph).save(root / "images/a.png")
    Image.fromarray(labels).save(root / "labels/a.png")
    scenes.write_lines(root / "classes.txt", ["background", *scenes.CLASSES])
    scenes.write_lines(root / "train.txt", ["a"])
    return root


def _parameters(tree: Tree) -> Iterator[Target]:
    path = tree.folder / "params.yaml"
    read = stage(tree, "check")
    yield Target("`params.yaml`: `check`", "plain", path, _mutate.change_yaml, read, 400)
    train = stage(tree, "train@step0")
    yield Target("`params.yaml`: `train`", "plain", path, _mutate.change_yaml, train, 100)
    shutil.copytree(scenes.HOME / "conf", tree.folder / "conf")
    out = tree.folder / "work/composed.yaml"

    def compose() -> bytes:
        run(["stages.compose", str(out)])
        return out.read_bytes()

    for name in ("config.yaml", "scenario/shapes/4-2.yaml", "method/mib.yaml"):
        fault, path = "`conf/`: `dvc exp run`, `stages.compose`", tree.folder / "conf" / name
        yield Target(fault, "plain", path, _mutate.change_yaml, compose, 16)


def _tables(tree: Tree) -> Iterator[Target]:
    work = tree.folder / "work"
    split, lists = stage(tree, "split"), work / "split/step1/train.json"
    fault = "`work/index.csv`: `split`"
    yield Target(fault, "plain", work / "index.csv", _mutate.change_lines, split, 300)
    for name, reader in (("costs.json", "evaluate@step1"), ("timing.json", "report")):
        fault, path = f"`{name}`: `{reader.partition('@')[0]}`", work / "step1" / name
        read = _undrawn(stage(tree, reader))
        yield Target(fault, "plain", path, _mutate.change_json, read, 60)
    fault = "`work/code/*.json`: `split`"
    yield Target(fault, "plain", work / "code/split.json", _mutate.change_json, split, 120)
    dataset = open_dataset(tree.params["dataset"])

    def images() -> object:
        given = ImageList.read(lists)
        samples = ImageStore(dataset, given)
        return given, [samples.sample(at).photograph.tobytes() for at in range(len(samples))]

    fault = "`work/split/*/*.json`: all later stages"
    yield Target(fault, "plain", lists, _mutate.change_json, images, 250)
    yield Target(fault, "plain", lists, _mutate.change_json, stage(tree, "train@step1"), 40)
    path = work / "split/step1/test.json"
    yield Target(fault, "plain", path, _mutate.change_json, stage(tree, "evaluate@step1"), 40)
    for part in ("pseudo_labels", "memory", "synthesis"):
        path, fault = work / f"step1/{part}/manifest.json", f"`{part}/manifest.json`, empty"
        read = stage(tree, "evaluate@step1" if part != "memory" else "train@step1")
        yield Target(fault, "plain", path, _mutate.change_json, read, 30)


def _report(tree: Tree) -> Iterator[Target]:
    folder = tree.folder / "work/step2/evaluation"
    tables = _undrawn(stage(tree, "report"))
    names = {"confusion.json": 120, "further.json": 50, "epochs.csv": 120}
    if tree.kind == "exemplars":
        names = {"further.json": 60, "pseudo_labels.json": 100}
    if tree.kind == "images":
        names = {"synthesis.json": 100, "sheet.png": 40}
    for name, usual in names.items():
        change = _mutate.change_json if name.endswith(".json") else _mutate.change_lines
        change = _mutate.change_bytes if name.endswith(".png") else change
        fault = f"`evaluation/*/{name}`: `report`"
        yield Target(fault, tree.kind, folder / "step1" / name, change, tables, usual)
    if tree.kind == "plain":
        (photograph,) = (folder / "step2/examples").glob("*.photo.jpg")
        (predicted,) = (folder / "step2/examples").glob("*.prediction.png")
        for path in (photograph, predicted):
            fault, change = "`evaluation/*/examples`: `report`", _mutate.change_bytes
            yield Target(fault, "plain", path, change, tables, 40)
        before = stage(tree, "evaluate@step2")
        path = tree.folder / "work/step1/evaluation/manifest.json"
        fault = "`evaluation/manifest.json`: `evaluate`"
        yield Target(fault, "plain", path, _mutate.change_json, before, 60)
        path = tree.folder / "work/step2/epochs.csv"
        fault = "`epochs.csv`: `evaluate`"
        yield Target(fault, "plain", path, _mutate.change_lines, before, 30)


def _undrawn(read: Callable[[], Any]) -> Callable[[], Any]:
    """Leaves the pixels of figures out, which take nearly all the time."""

    def quickly() -> object:
        with mock.patch("cssegcore.report.figures.drawn", return_value="<svg/>"):
            return read()

    return quickly


def _predict(tree: Tree) -> Iterator[Target]:
    folder, out = tree.place / "photographs", tree.folder / "labelled"
    folder.mkdir()
    photograph = Image.fromarray(scenes.draw([1, 3], 4)[0])
    for suffix in ("jpg", "png", "bmp", "webp", "tif"):
        path = folder / suffix / f"one.{suffix}"
        path.parent.mkdir()
        photograph.save(path)

        def read(path: Path = path) -> object:
            shutil.rmtree(out, ignore_errors=True)
            model = "work/step1/model.safetensors"
            run(["stages.predict", model, str(path.parent), "--out", str(out)])
            return digests(out)

        fault = "a photograph (JPEG, PNG, BMP, WebP, TIFF): `predict`"
        yield Target(fault, "plain", path, _mutate.change_bytes, read, 80)


def _journal(tree: Tree) -> Iterator[Target]:
    from stages.tracking.sender import Sender
    from tests.helpers.tracked_runs import Memory

    tree.run("train@step0", CSSEGCORE_TRACKING="later")
    (journal,) = (tree.folder / ".cssegcore/tracking").glob("*.jsonl")
    content = journal.read_bytes()

    def send() -> object:
        tracker = Memory()
        Sender(tracker).send()
        for path in journal.parent.glob("*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return tracker.points

    def restored(rng: Any, _: bytes) -> bytes:  # noqa: ANN401
        return _mutate.change_bytes(rng, content)

    fault = "journal of tracking: the sender"
    yield Target(fault, "plain", journal, restored, send, 200)


def _of_exemplars(tree: Tree) -> Iterator[Target]:
    work, one = tree.folder / "work", tree.folder / "work/step1"
    base, increment = stage(tree, "train@step0"), stage(tree, "train@step1")
    json, change = _mutate.change_json, _mutate.change_bytes
    maps = work / "saliency"
    yield Target(
        "`saliency/manifest.json`: `train`", "exemplars", maps / "manifest.json", json, base, 80
    )
    fault, split = "`saliency/manifest.json`: `split`", stage(tree, "split")
    yield Target(fault, "exemplars", maps / "manifest.json", json, split, 60)
    yield Target("a saliency map: `train`", "exemplars", maps / "t0.png", change, base, 80, DIFFERS)
    guesses = one / "pseudo_labels"
    fault = "`pseudo_labels/manifest.json`: `train`"
    yield Target(fault, "exemplars", guesses / "manifest.json", json, increment, 80)
    guess = next(iter(sorted(guesses.rglob("*.png"))), None)
    if guess:
        yield Target(
            "a pseudo-label image: `train`", "exemplars", guess, change, increment, 80, DIFFERS
        )
    fault = "`memory/list.json`: `train`, `memory`, `pseudo_label`"
    for reader, usual in (("train@step1", 60), ("memory@step2", 60), ("pseudo_label@step1", 40)):
        read = stage(tree, reader)
        yield Target(fault, "exemplars", one / "memory/list.json", json, read, usual)
    fault = "`memory/manifest.json`: `train`"
    yield Target(fault, "exemplars", one / "memory/manifest.json", json, increment, 40)
    yield from _report(tree)


def _of_images(tree: Tree) -> Iterator[Target]:
    folder = tree.folder / "work/step1/synthesis"
    train, later = stage(tree, "train@step1"), stage(tree, "synthesize@step2")
    for name in ("list.json", "manifest.json"):
        fault = "`synthesis/*.json`: `train`, `synthesize`"
        for read, usual in ((train, 80), (later, 40)):
            yield Target(fault, "images", folder / name, _mutate.change_json, read, usual)
    for kind in ("images", "labels"):
        path = sorted((folder / kind).glob("*.png"))[0]
        fault = "a made image or its labels: `train`"
        yield Target(fault, "images", path, _mutate.change_bytes, train, 60, DIFFERS)
    path = sorted((folder / "models").glob("*"))[0]
    yield Target(
        "a model kept beside made images: `train`",
        "images",
        path,
        _mutate.change_bytes,
        train,
        30,
        ACCEPTED,
    )
    yield from _report(tree)


_FILES = {"plain": _of_plain, "exemplars": _of_exemplars, "images": _of_images}
