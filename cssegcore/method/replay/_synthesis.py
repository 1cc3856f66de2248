"""A synthesis: the images of the classes that the step before learned, made, judged and kept."""

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8

from cssegcore.core.curves import write_rows
from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, read_manifest, write_json
from cssegcore.core.registry import build_part
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import Images
from cssegcore.data.crop_and_resize import normalise
from cssegcore.data.image_list import ImageList
from cssegcore.inversion import judging, layouts, sheet, store
from cssegcore.inversion.invert import Inverted, Wanted, invert
from cssegcore.inversion.store import Made
from cssegcore.method.replay._base import Synthesis
from cssegcore.models.checkpoint import load
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.resume import ResumeFile

if TYPE_CHECKING:
    from cssegcore.method.replay.deepinversion import DeepInversion

LEAST_OBJECT = 64
"""Pixels of the smallest object that is transplanted."""


def synthesize(out: Path, how: "DeepInversion", request: Synthesis) -> None:
    """Writes the images of all classes that the previous model knows; see `store` for the files.

    Those of earlier steps are taken over as they are; those of the classes that the previous model
    learned last are made. The manifest has `images` (names) and `steps`: for each model that was
    inverted, what came of it.

    Raises:
        InputError: The model cannot be inverted, or student or verifier know other classes.
    """
    session = _Session(how, request)
    made = session.run()
    shutil.copytree(request.kept, out, dirs_exist_ok=True)
    before = read_manifest(request.kept)
    had = store.opened(request.kept)
    images = [
        *(had.image_list.images if had else []),
        *(store.write(out, one) for one in made.images),
    ]
    model = store.teacher(out, session.step)
    model.parent.mkdir(exist_ok=True)
    shutil.copy(request.model, model)  # DVC's cache holds it once
    known = session.segmenter.outputs
    store.listed(request.current, known, images).write(out / store.LIST)
    write_rows(out / "curves" / f"{session.step}.csv", made.rows)
    sheet.save(out / "sheets" / f"{session.step}.png", made.by_class)
    steps = [*before.get("steps", []), made.statistics]
    write_json(out / "manifest.json", {"images": [name for name, _ in images], "steps": steps})


@dataclasses.dataclass(frozen=True)
class _Result:
    images: list[Made]
    by_class: dict[str, list[Made]]
    rows: list[dict[str, float]]
    statistics: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Batch:
    """A finished batch and what the inverted model sees in it."""

    wanted: Wanted
    inverted: Inverted
    classes: UInt8[np.ndarray, "n s s"]
    confidence: UInt8[np.ndarray, "n s s"]


class _Session:
    """One model's inversion."""

    def __init__(self, how: "DeepInversion", request: Synthesis) -> None:
        self._how, self._task, self._device = how, request, choose_device()
        loaded = load(request.model, self._device)
        self.segmenter, self.step = loaded.segmenter, loaded.model.step
        self.segmenter.to(memory_format=torch.channels_last)
        self._names = loaded.model.classes.names
        self._stems = store.file_stems([f"{self.step}_{name}" for name in self._names])
        self._new = [output for output in loaded.model.classes.new if output != BACKGROUND]
        self._student = self._other(how.student, "student")
        self._verifier = self._other(how.verifier, "verifier")
        views = build_part(
            "cssegcore.data.augmentation", Augmentation, request.augmentation, "augmentation"
        )
        self._views, self._size = views, views.size
        how.check_size(self._size)
        self._shapes = self._outlines()

    def run(self) -> _Result:
        """Makes batches until every class has its images, or no more are allowed."""
        how, settings = self._how, self._how.inversion
        need = dict.fromkeys(self._new, how.per_class)
        planned = -(-how.per_class * len(self._new) // settings.batch_size)
        batches: list[_Batch] = []
        kept: dict[int, list[Made]] = {c: [] for c in self._new}
        finished = _Finished(ResumeFile(self._task.resume()))
        for at in range(planned + how.extra):
            batch = self._batch(at, need, finished)
            batches.append(batch)
            self._keep(batch, need, kept)
            held = sum(map(len, kept.values()))
            self._task.tell(
                f"{self.step}: batch {at + 1}, {held} of {how.per_class * len(need)} images kept"
            )
            if not any(need.values()):
                break
        rows = [
            {"batch": float(at), **row}
            for at, batch in enumerate(batches)
            for row in batch.inverted.rows
        ]
        by_class = {self._names[c]: made for c, made in kept.items()}
        images = [one for made in by_class.values() for one in made]
        if not images:
            raise InputError(
                f"none of {len(batches) * settings.batch_size} images made from {self.step}'s model"
                " shows what was asked for: give `method.replay.inversion.phases` more iterations,"
                " or lower `method.replay.agreement`."
            )
        result = _Result(images, by_class, rows, self._statistics(batches, by_class))
        finished.forget()
        return result

    def _batch(self, at: int, need: dict[int, int], finished: "_Finished") -> _Batch:
        """Makes a batch, or takes it from a run that was killed."""
        rng = np.random.default_rng([self._task.seed, self._task.current.index, at])
        primaries = _shared_out(need, self._how.inversion.batch_size)
        wanted = self._wanted(primaries, rng)
        inverted = finished.get(at)
        if inverted is None:
            inverted = invert(
                self.segmenter,
                self._student,
                wanted,
                self._how.inversion,
                rng,
                self._task.progress,
            )
            finished.add(inverted)
        return _Batch(wanted, inverted, *judging.seen(self.segmenter, inverted.images))

    def _wanted(self, primaries: list[int], rng: np.random.Generator) -> Wanted:
        if self._by_layout:
            known = range(1, len(self._names))
            asked = layouts.draw(primaries, known, self._size, self._shapes, rng)
        else:
            asked = np.full((len(primaries), self._size, self._size), IGNORE, np.uint8)
        return Wanted(np.array(primaries), asked)

    def _keep(self, batch: _Batch, need: dict[int, int], kept: dict[int, list[Made]]) -> None:
        """Takes what is good enough, in the order made, as long as its class needs it."""
        asked = batch.wanted.layouts if self._by_layout else None
        labels = judging.believed(batch.classes, batch.confidence, asked, self._how.confidence)
        primaries = batch.wanted.primaries[:, None, None]
        found = labels == primaries
        score = found.mean((1, 2))
        if asked is not None:
            score = judging.overlap(asked == primaries, batch.classes == primaries)
        for at, primary in enumerate(batch.wanted.primaries.tolist()):
            if need[primary] and score[at] >= self._how.agreement:
                need[primary] -= 1
                kept[primary].append(
                    Made(
                        f"{self._stems[primary]}_{len(kept[primary]):04d}",
                        batch.inverted.images[at],
                        labels[at],
                        batch.confidence[at],
                        batch.wanted.layouts[at],
                    )
                )

    def _statistics(self, batches: list[_Batch], by_class: dict[str, list[Made]]) -> dict[str, Any]:
        size = self._how.inversion.batch_size
        images = [one for made in by_class.values() for one in made]
        asked = np.stack([one.layout if self._by_layout else one.labels for one in images])
        photographs = np.stack([one.image for one in images])
        see = {"inverted": self.segmenter, "independent": self._verifier}
        outputs = len(self._names)
        return {
            "step": self.step,
            "images": [one.name for one in images],
            "batches": len(batches),
            "classes": [
                {
                    "class": name,
                    "wanted": self._how.per_class,
                    "kept": len(made),
                    "made": sum(int((b.wanted.primaries == c).sum()) for b in batches),
                }
                for c, (name, made) in zip(self._new, by_class.items(), strict=True)
            ],
            "agreement": {
                who: judging.agreement(asked, judging.classes_seen(by, photographs, size), outputs)
                for who, by in see.items()
                if by
            },
            "verifier": self._how.verifier and digest(_path(self._how.verifier).read_bytes()),
            "labelled": float(np.mean([(one.labels != IGNORE).mean() for one in images])),
            "distance": self._distances(batches[0]),
        }

    def _distances(self, batch: _Batch) -> dict[str, float]:
        """Compares a made batch with as many photographs of the step to come."""
        made = normalise(torch.from_numpy(batch.inverted.images).to(self._device))
        rng = np.random.default_rng([self._task.seed, self._task.current.index])
        image_list = self._some(len(made), rng)
        views = Images(self._task.dataset, image_list).epoch(
            self._views, len(made), rng, self._device
        )
        real = next(iter(views)).images
        return {
            "made": judging.distance(self.segmenter, made[: len(real)]),
            "real": judging.distance(self.segmenter, real),
        }

    def _some(self, count: int, rng: np.random.Generator) -> ImageList:
        """Returns the step's list with `count` of its images."""
        current = self._task.current
        places = rng.permutation(len(current.images))[:count]
        return dataclasses.replace(current, images=[current.images[at] for at in sorted(places)])

    def _outlines(self) -> layouts.Shapes:
        if self._how.inversion.layouts == "procedural":
            return layouts.procedural
        request = self._task
        rng = np.random.default_rng([request.seed, request.current.index])
        image_list = self._some(200, rng)
        table, new = image_list.label_table(), image_list.classes.new
        masks = [
            mask
            for name in image_list.names
            for mask in layouts.components(table[request.dataset.label(name)], new, LEAST_OBJECT)
        ]
        if not masks:
            raise InputError(
                f"no object of {LEAST_OBJECT} pixels or more is annotated for {request.current.step},"
                " so there is none to transplant: set `method.replay.inversion.layouts` to"
                " procedural."
            )
        return layouts.transplanted(masks)

    def _other(self, path: str, role: str) -> Segmenter | None:
        """Loads a second model of the same classes, if there is one."""
        if not path:
            return None
        loaded = load(_path(path), self._device)
        names = loaded.model.classes.names
        if names != self._names or loaded.model.unknown:
            raise InputError(
                f"`method.replay.{role}`: the model {path} tells {', '.join(names)} apart, and the"
                f" one that is inverted {', '.join(self._names)}: give one of the same classes."
            )
        return loaded.segmenter.requires_grad_(False)

    @property
    def _by_layout(self) -> bool:
        return self._how.inversion.target == "layout"


class _Finished:
    """The batches that a killed run had finished, and those of this one."""

    def __init__(self, file: ResumeFile) -> None:
        self._file = file
        state = file.load(torch.device("cpu")) or {"batches": []}
        self._batches: list[dict[str, Any]] = state["batches"]

    def get(self, at: int) -> Inverted | None:
        if at >= len(self._batches):
            return None
        return Inverted(self._batches[at]["images"].numpy(), self._batches[at]["rows"])

    def add(self, batch: Inverted) -> None:
        images = torch.from_numpy(batch.images)
        self._batches.append({"images": images, "rows": batch.rows})
        self._file.save({"batches": self._batches})

    def forget(self) -> None:
        self._file.remove()


def _shared_out(need: dict[int, int], places: int) -> list[int]:
    """Gives places to classes, always the next to the one that needs most."""
    left = dict(need)
    image_list = []
    for _ in range(places):
        neediest = max(left, key=lambda c: left[c])
        left[neediest] -= 1
        image_list.append(neediest)
    return image_list


def _path(given: str) -> Path:
    return Path(given).expanduser()
