"""What hostile inputs there are, how each is made, and what must come of it."""

import dataclasses
import os
import pickle
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from bench.torture import _bad_files as bad_files
from bench.torture._ledger import REFUSED, SAME
from bench.torture._place import Place
from bench.torture._tree import Tree
from tests.helpers import tiny_dataset as scenes

BEFORE = ("check", "index", "split")
TRAINED = (*BEFORE, "saliency", "train@step0")


@dataclasses.dataclass(frozen=True)
class Hostile:
    """One input.

    Attributes:
        fault: The row of the table.
        make: Makes it.
        stages: Which are run, up to the first that refuses it; or `predict`.
        wanted: `one line`, `same` (read rightly), or "" for either.
        right: Whether it was read rightly.
        varies: Whether each trial is another one.
    """

    fault: str
    make: Callable[[Place], object]
    stages: tuple[str, ...] = BEFORE
    wanted: str = REFUSED
    right: Callable[[Tree], bool] | None = None
    varies: bool = False

    def commands(self, tree: Tree) -> list[list[str]]:
        """Returns what is run."""
        predict = ["stages.predict", "work/step1/model.safetensors", "photographs"]
        own = {"predict": [*predict, "--out", "labelled"]}
        return [own.get(stage) or tree.project.commands[stage] for stage in self.stages]


def every() -> Iterator[Hostile]:
    """Yields all of them."""
    yield from _names()
    yield from _files()
    yield from _values()
    yield from _programs()
    yield from _parameters()
    yield from _predictions()


def _names() -> Iterator[Hostile]:
    lines: dict[str, Callable[[Place], str | bytes]] = {
        "an absolute path": lambda p: str(p.tree.place / "mine"),
        "`../../`": lambda p: "../../mine",
        "`x/../../y`": lambda p: "t1/../../../mine",
        "NUL": lambda p: b"t\0x",
        "an escape of terminals": lambda p: "\x1b[31mt0",
        "bytes that are no UTF-8": lambda p: b"\xff\xfet0",
        "a carriage return within": lambda p: "t1\rt2",
        "a tab and another column": lambda p: "t1\tt2",
        "a name of 10,000 characters": lambda p: "x" * 10_000,
        "a name twice": lambda p: "t0",
        "`.`": lambda p: ".",
        "a shell's command": lambda p: f"$(touch {p.marker})",
        "a direction override": lambda p: "t0\u202egpj",
        "a test image": lambda p: "v0",
    }
    for what, line in lines.items():
        yield Hostile(f"a list names {what}", lambda p, line=line: p.list(line(p)))
    for what, name in {
        "a newline": "a\nb",
        "NUL": "a\0b",
        "an escape": "a\x1b]0;x\x07",
        "nothing": "",
        "spaces alone": "  ",
        "the name of another class": "red",
    }.items():
        fault = f"a class name that is {what}" if "no" in what else f"a class name with {what}"
        yield Hostile(fault, lambda p, name=name: p.class_name(name))
    for what, name in {
        "dollar signs, braces and backslashes": r"$5_to_$10 {\frac{1}{0}} %s {0}",
        "HTML, and no letter of our font": "<script>alert(1)</script>猫🐈",
        "a thousand characters": "x" * 1000,
        "a path": "../../x/y",
    }.items():
        stages = (*TRAINED, *(s for s in scenes.EVERY_STAGE if s not in TRAINED))
        fault = f"a class name with {what}, to the report"
        yield Hostile(fault, lambda p, name=name: p.class_name(name), stages, SAME)


def _files() -> Iterator[Hostile]:
    yield Hostile("a photograph is a pipe (FIFO)", lambda p: os.mkfifo(p.photograph))
    yield Hostile("a label image is a pipe (FIFO)", lambda p: os.mkfifo(p.label))
    yield Hostile("a photograph is a folder", lambda p: p.photograph.mkdir())
    yield Hostile("a photograph links to /dev/zero", lambda p: p.photograph.symlink_to("/dev/zero"))
    yield Hostile("a photograph links to itself", lambda p: bad_files.loop(p.photograph))
    yield Hostile("a photograph links to nowhere", lambda p: p.photograph.symlink_to("/nowhere"))
    yield Hostile("a list is a pipe (FIFO)", lambda p: os.mkfifo(p.removed(_train_list(p))))
    yield Hostile("the class names are a pipe (FIFO)", lambda p: os.mkfifo(p.removed(_names_of(p))))
    yield Hostile("`params.yaml` is a pipe (FIFO)", lambda p: os.mkfifo(p.removed(_params(p))))
    yield Hostile("the labels are a link to a folder", _linked)
    yield Hostile("a photograph is empty", lambda p: p.photograph.write_bytes(b""))
    yield Hostile("a list is empty", lambda p: _train_list(p).write_bytes(b""))
    yield Hostile("a list is missing", lambda p: p.removed(_train_list(p)))
    yield Hostile(
        "an EPS is called .jpg", lambda p: p.photograph.write_text(bad_files.eps(p.marker))
    )
    yield Hostile("an SVG is called .jpg", lambda p: p.photograph.write_text("<svg/>"))
    yield Hostile("a PDF is called .jpg", lambda p: p.photograph.write_text("%PDF-1.7\n"))
    yield Hostile("random bytes are called .jpg", _noise, varies=True)
    yield Hostile("a PNG says it has 10^10 pixels", lambda p: bad_files.bomb(p.photograph, 100_000))
    yield Hostile(
        "a PNG says it has 2^62 pixels", lambda p: bad_files.bomb(p.photograph, 2**31 - 1)
    )
    yield Hostile(
        "a PNG's text is a gigabyte of nothing", lambda p: bad_files.text_bomb(p.photograph)
    )


def _values() -> Iterator[Hostile]:
    for what, mode, wanted in (("16-bit", "I;16", REFUSED), ("32-bit", "I", REFUSED)):
        fault = f"a photograph of {what} samples"
        yield Hostile(fault, lambda p, mode=mode: bad_files.grey(p.photograph, mode), wanted=wanted)
    yield Hostile(
        "a photograph of float samples (TIFF)", lambda p: bad_files.floating(p.photograph)
    )
    yield Hostile("a photograph with EXIF orientation 6", lambda p: bad_files.turned(p.photograph))
    yield Hostile("labels of 16 bits", lambda p: bad_files.grey(p.label, "I;16"))
    yield Hostile("labels in colour", lambda p: Image.new("RGB", (24, 24)).save(p.label))
    yield Hostile("labels with transparency", lambda p: Image.new("LA", (24, 24)).save(p.label))
    yield Hostile("labels as JPEG", lambda p: Image.new("L", (24, 24)).save(p.label, "JPEG"))
    yield Hostile("labels of another size", lambda p: Image.new("L", (9, 9)).save(p.label))
    yield Hostile("labels of a class that is not there", _strange_label, varies=True)
    for bits in (2, 4):
        fault = f"labels of {bits} bits a sample"
        yield Hostile(
            fault, lambda p, b=bits: bad_files.narrow(p.label, b), wanted=SAME, right=_reads_one
        )


def _programs() -> Iterator[Hostile]:
    """What would be run if it were unpickled, or read as YAML reads tags."""
    train = ("train@step1",)
    yield Hostile("the model of the step before is a pickle", _evil_model, train)
    yield Hostile("a published weight file is a pickle that runs a program", _evil_weights)
    yield Hostile("a resume file is a pickle that runs a program", _evil_resume, ("train@step0",))
    for tag in ("!!python/object/apply:os.system", "!!python/object/new:os.system"):
        text = f"seed: {tag} ['touch MARKER']\n"
        yield Hostile(f"`params.yaml` with `{tag}`", lambda p, text=text: _yaml(p, text))


def _parameters() -> Iterator[Hostile]:
    bomb = "a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12)
    )
    for what, text in {
        "a billion laughs": bomb + "seed: *a11\n",
        "a depth of 5,000": "seed: " + "[" * 5000 + "]" * 5000,
        "a number of 5,000 digits": "seed: " + "9" * 5000,
        "a key that is a list": "? [1, 2]\n: 3\n",
        "a list instead": "- 1\n- 2\n",
        "nothing": "",
        "two documents": "seed: 1\n---\nseed: 2\n",
        "an anchor of itself": "seed: &a [*a]\n",
        "a day that is none": "seed: 2001-99-99\n",
    }.items():
        yield Hostile(f"`params.yaml` with {what}", lambda p, text=text: _yaml(p, text))
    yield Hostile("`params.yaml` in UTF-16", lambda p: _params(p).write_text("seed: 1", "utf-16"))
    for key, value in (
        ("dataset.root", "~/dataset"),
        ("dataset.root", "/dev"),
        ("dataset.root", "a\0b"),
        ("seed", 2**70),
        ("seed", "1e400"),
        ("optimizer.batch_size", 10**12),
        ("augmentation.size", 10**7),
        ("model.depth", 10**9),
        ("model.backbone.widths", [10**9, 8, 8]),
        ("steps.step0.lr", float("inf")),
        ("steps.step0.epochs", 0),
        ("evaluation.batch_size", -1),
        ("scenario.classes.step1", ["blue", "blue"]),
        ("method.losses.unbiased_kd.part", "../../x"),
        ("method.losses.unbiased_kd.part", "os.system"),
        ("model.backbone.weights", "/dev/zero"),
    ):
        said = f"{str(value)[:24]!r}".replace("\\", "\\\\")
        fault = f"`{key}` is {said}"
        set_it = lambda p, key=key, value=value: p.tree.project.set(key, value)  # noqa: E731
        wanted = "" if key in ("seed", "augmentation.size", "optimizer.batch_size") else REFUSED
        yield Hostile(fault, set_it, TRAINED, wanted)


def _predictions() -> Iterator[Hostile]:
    def image(name: str, draw: Callable[[Path], object]) -> Callable[[Place], object]:
        return lambda p: draw(p.to_predict(name))

    for fault, name, draw in (
        ("one of two photographs is cut off", "bad.jpg", lambda q: q.write_bytes(bad_files.cut())),
        ("one of two photographs is text", "bad.png", lambda q: q.write_text("hello")),
        ("one of two photographs has 16 bits", "bad.png", lambda q: bad_files.grey(q, "I;16")),
        ("one of two photographs is a bomb", "bad.png", lambda q: bad_files.bomb(q, 100_000)),
        ("one of two photographs links to /dev/zero", "x.png", lambda q: q.symlink_to("/dev/zero")),
    ):
        made = image(name, draw)
        yield Hostile(f"`predict`: {fault}", made, ("predict",), right=_good_is_labelled)
    fine: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
        ("a `._name.jpg` of macOS beside", "._good.jpg", lambda q: q.write_bytes(b"\0\5\x16\7")),
        ("a pipe (FIFO) that is no photograph", "notes.txt", os.mkfifo),
        ("a photograph of one pixel", "one.png", lambda q: Image.new("RGB", (1, 1)).save(q)),
        ("a photograph of 3000 by 1", "thin.png", lambda q: Image.new("RGB", (3000, 1)).save(q)),
        ("a photograph that viewers turn", "turned.jpg", bad_files.turned),
        ("a grey photograph", "grey.png", lambda q: Image.new("L", (30, 20)).save(q)),
        ("a photograph in CMYK", "print.jpg", lambda q: Image.new("CMYK", (30, 20)).save(q)),
    )
    for fault, name, draw in fine:
        yield Hostile(
            f"`predict`: {fault}", image(name, draw), ("predict",), SAME, _good_is_labelled
        )


def _good_is_labelled(tree: Tree) -> bool:
    return (tree.folder / "labelled/good.png").is_file()


def _train_list(place: Place) -> Path:
    return place.tree.root / "ImageSets/Segmentation/train.txt"


def _names_of(place: Place) -> Path:
    return place.tree.root / "classes.txt"


def _params(place: Place) -> Path:
    return place.tree.folder / "params.yaml"


def _yaml(place: Place, text: str) -> None:
    _params(place).write_text(text.replace("MARKER", str(place.marker)))


def _linked(place: Place) -> None:
    labels = place.tree.root / "SegmentationClass"
    labels.rename(place.tree.place / "labels")
    labels.symlink_to(place.tree.place / "labels")


def _noise(place: Place) -> None:
    heads = (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF")
    place.photograph.write_bytes(place.rng.choice(heads) + place.rng.randbytes(2000))


def _strange_label(place: Place) -> None:
    value = place.rng.randint(len(scenes.CLASSES) + 1, 254)
    Image.new("L", (24, 24), value).save(place.label)


def _reads_one(tree: Tree) -> bool:
    """Whether the index has class 1 in every pixel of the first image."""
    rows = (tree.folder / "work/index.csv").read_text().splitlines()
    (row,) = (row.split(",") for row in rows if row.startswith("t0,"))
    return row[8:10] == ["0", str(24 * 24)]


def _evil_model(place: Place) -> None:
    path = place.tree.folder / "work/step0/model.safetensors"
    path.write_bytes(pickle.dumps(bad_files.Evil(place.marker)))


def _evil_weights(place: Place) -> None:
    import torch

    path = place.tree.place / "weights.pth"
    torch.save({"stem": bad_files.Evil(place.marker)}, path)
    place.tree.project.set("model.backbone.weights", str(path))


def _evil_resume(place: Place) -> None:
    """Under the very name that the training looks for, and with the digest that it wants."""
    import torch

    from cssegcore.runtime.resume import _head

    tree = place.tree
    tree.anew("train@step0")
    tree.run("train@step0")
    (path,) = (tree.folder / ".cssegcore/resume").glob("*.pt")
    whole = BytesIO()
    torch.save({"model": bad_files.Evil(place.marker)}, whole)
    path.write_bytes(_head(whole.getvalue()) + whole.getvalue())
