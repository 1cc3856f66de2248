"""Synthesis: generates images of the classes that the previous model learned last."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.core.files import (
    append_csv,
    copy_content,
    digest,
    read_manifest,
    write_csv,
    write_manifest,
)
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import training_batches
from cssegcore.data.crop_and_resize import normalise
from cssegcore.data.image_store import ImageStore
from cssegcore.inversion import quality, store
from cssegcore.inversion.contact_sheet import COLUMNS, save_contact_sheet
from cssegcore.inversion.finished_batches import FinishedBatches
from cssegcore.inversion.invert import InvertedBatch, invert
from cssegcore.inversion.label_maps import InversionTargets, draw_targets, share_out
from cssegcore.inversion.object_shapes import Shapes, annotated_objects, procedural, transplanted
from cssegcore.inversion.request import SynthesisRequest
from cssegcore.inversion.settings import SynthesisSettings
from cssegcore.inversion.store import GeneratedImage
from cssegcore.inversion.teacher import Teacher, load_second, load_teacher
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.resume import ResumeFile

SAMPLED = 200
"""Images of the step whose annotated objects are transplanted."""


def synthesize(out: Path, settings: SynthesisSettings, request: SynthesisRequest) -> None:
    """Writes the images of all classes that the previous model knows; see `store` for the files.

    Images of earlier steps are copied; images of the classes that the previous model learned last
    are generated. The manifest has `images` (names) and `steps`: statistics of each model that
    images were inverted from.

    Raises:
        InputError: The model cannot be inverted, student or verifier has other classes, or no
            generated image is good enough.
    """
    device = choose_device()
    teacher = load_teacher(request.model, device)
    student = load_second(settings.student, "student", teacher, device)
    verifier = load_second(settings.verifier, "verifier", teacher, device)
    views = Augmentation.of(request.augmentation)
    earlier = _begin(out, request)
    loop = _Loop(teacher, student, settings, request, views.size, out)
    loop.run()
    statistics = _statistics(loop, verifier, settings)
    statistics["distance"] = _distances(teacher, loop.first, request, views)
    _finish(loop, request, earlier, statistics)


@dataclasses.dataclass(frozen=True)
class _Earlier:
    """List entries and manifest rows of the images of earlier steps."""

    entries: list[list[str]]
    steps: list[dict[str, Any]]


def _begin(out: Path, request: SynthesisRequest) -> _Earlier:
    """Copies the images of earlier steps, without the files that say that a folder is whole."""
    source = request.previous_synthesis
    copy_content(source, out)
    for name in ("manifest.json", store.LIST):
        (out / name).unlink(missing_ok=True)
    opened = store.open_images(source)
    entries = opened.image_list.images if opened else []
    return _Earlier(entries, read_manifest(source).get("steps", []))


@dataclasses.dataclass(frozen=True)
class _Batch:
    """A finished batch and the teacher's predictions for it."""

    targets: InversionTargets
    inverted: InvertedBatch
    classes: UInt8[np.ndarray, "n s s"]
    confidence: UInt8[np.ndarray, "n s s"]


class _Loop:
    """Generates batches until each class has its images, or until no more batches are allowed.

    Kept images and curves go to disk batch by batch, so memory holds one batch beside the first.

    Attributes:
        teacher: The model that images are inverted from.
        out: Folder of the kept images.
        first: Images of the first batch.
        batches: Number of batches so far.
        made: Number of images generated for each class (network output).
        kept: List entries of the kept images of each class, in the order of generation.
    """

    first: UInt8[np.ndarray, "n s s 3"]

    def __init__(
        self,
        teacher: Teacher,
        student: Segmenter | None,
        settings: SynthesisSettings,
        request: SynthesisRequest,
        size: int,
        out: Path,
    ) -> None:
        self.teacher, self._student, self.out = teacher, student, out
        self._settings, self._request, self._size = settings, request, size
        self._shapes = _object_shapes(settings, request)
        stems = store.file_stems([f"{teacher.step}_{name}" for name in teacher.classes])
        self._stems = dict(enumerate(stems))
        self.batches, self.made = 0, Counter[int]()
        self.kept: dict[int, list[list[str]]] = {c: [] for c in teacher.new}
        self._finished = FinishedBatches(ResumeFile(request.resume()))

    def run(self) -> None:
        """Generates the batches.

        Raises:
            InputError: No image is good enough.
        """
        step, size = self.teacher.step, self._settings.inversion.batch_size
        wanted = self._settings.per_class * len(self.kept)
        for _ in range(-(-wanted // size) + self._settings.extra):
            self._take(self._batch(self.batches))
            count = sum(map(len, self.kept.values()))
            self._request.tell(f"{step}: batch {self.batches}, {count} of {wanted} images kept")
            if count == wanted:
                break
        if not self.entries:
            raise InputError(
                f"none of {self.batches * size} images made from {step}'s model shows what was"
                " asked for: give `method.replay.inversion.phases` more iterations, or lower"
                " `method.replay.agreement`."
            )

    @property
    def entries(self) -> list[list[str]]:
        """The list entries of the kept images, class by class."""
        return [entry for entries in self.kept.values() for entry in entries]

    @property
    def by_label_map(self) -> bool:
        """Whether the targets are label maps."""
        return self._shapes is not None

    def _batch(self, at: int) -> _Batch:
        """Generates batch number `at`, or takes its images from a run that was killed."""
        settings, request = self._settings.inversion, self._request
        rng = request.generator(at)
        missing = {c: self._settings.per_class - len(kept) for c, kept in self.kept.items()}
        primaries = share_out(missing, settings.batch_size)
        known = range(1, len(self.teacher.classes))
        targets = draw_targets(primaries, known, self._size, self._shapes, rng)
        inverted = self._finished.get(at)
        if inverted is None:
            inverted = invert(
                self.teacher.segmenter, self._student, targets, settings, rng, request.progress
            )
            self._finished.add(at, inverted)
        seen = quality.predict_mirrored(self.teacher.segmenter, inverted.images)
        return _Batch(targets, inverted, *seen)

    def _take(self, batch: _Batch) -> None:
        """Writes a batch's rows of the curves, and those of its images that are kept."""
        if not self.batches:
            self.first = batch.inverted.images
        rows = [{"batch": float(self.batches), **row} for row in batch.inverted.rows]
        write = append_csv if self.batches else write_csv
        write(self.out / "curves" / f"{self.teacher.step}.csv", rows)
        self._keep(batch)
        self.made.update(batch.targets.primaries.tolist())
        self.batches += 1

    def _keep(self, batch: _Batch) -> None:
        """Keeps the images that score well, as long as their class needs images."""
        settings, targets = self._settings, batch.targets
        asked = targets.label_maps if self.by_label_map else None
        labels = quality.reliable_labels(
            batch.classes, batch.confidence, asked, settings.confidence
        )
        scores = quality.primary_scores(targets.primaries, batch.classes, labels, asked)
        for at, primary in enumerate(targets.primaries.tolist()):
            kept = self.kept[primary]
            if len(kept) < settings.per_class and scores[at] >= settings.agreement:
                generated = GeneratedImage(
                    f"{self._stems[primary]}_{len(kept):04d}",
                    batch.inverted.images[at],
                    labels[at],
                    batch.confidence[at],
                    targets.label_maps[at],
                )
                kept.append(store.write_image(self.out, generated))


def _object_shapes(settings: SynthesisSettings, request: SynthesisRequest) -> Shapes | None:
    """Returns the shapes of objects in label maps; None if no label map is asked for."""
    if settings.inversion.target != "layout":
        return None
    if settings.inversion.layouts == "procedural":
        return procedural
    sampled = request.sampled(SAMPLED, request.generator())
    return transplanted(annotated_objects(request.dataset, sampled))


def _statistics(
    loop: _Loop, verifier: Segmenter | None, settings: SynthesisSettings
) -> dict[str, Any]:
    """Returns the synthesis's numbers for the manifest, all but the distances."""
    teacher = loop.teacher
    networks = {"inverted": teacher.segmenter} | ({"independent": verifier} if verifier else {})
    return {
        "step": teacher.step,
        "images": [name for name, _ in loop.entries],
        "batches": loop.batches,
        "classes": [
            {
                "class": teacher.classes[c],
                "wanted": settings.per_class,
                "kept": len(kept),
                "made": loop.made[c],
            }
            for c, kept in loop.kept.items()
        ],
        "verifier": settings.verifier and digest(Path(settings.verifier).expanduser().read_bytes()),
        **quality.assess(
            _read_back(loop, settings.inversion.batch_size), networks, len(teacher.classes)
        ),
    }


def _read_back(loop: _Loop, batch_size: int) -> Iterator[quality.LabelledImages]:
    """Yields the kept images, class by class, `batch_size` images at a time."""
    names = [name for name, _ in loop.entries]
    for at in range(0, len(names), batch_size):
        images = [store.read_image(loop.out, name) for name in names[at : at + batch_size]]
        labels = np.stack([one.labels for one in images])
        asked = np.stack([one.label_map for one in images]) if loop.by_label_map else labels
        yield quality.LabelledImages(np.stack([one.image for one in images]), labels, asked)


def _distances(
    teacher: Teacher,
    images: UInt8[np.ndarray, "n s s 3"],
    request: SynthesisRequest,
    views: Augmentation,
) -> dict[str, float]:
    """Compares the feature statistics of a generated batch and of as many photographs."""
    device, rng = next(teacher.segmenter.parameters()).device, request.generator()
    normalization = teacher.segmenter.normalization
    generated = normalise(torch.from_numpy(images).to(device), normalization)
    photographs = ImageStore(request.dataset, request.sampled(len(generated), rng))
    batches = training_batches(photographs, views, len(generated), rng, device, normalization)
    real = next(batches).images
    return {
        "made": quality.feature_distance(teacher.segmenter, generated[: len(real)]),
        "real": quality.feature_distance(teacher.segmenter, real),
    }


def _finish(
    loop: _Loop, request: SynthesisRequest, earlier: _Earlier, statistics: dict[str, Any]
) -> None:
    """Writes what is missing: a contact sheet, the list, and last the manifest."""
    teacher, out = loop.teacher, loop.out
    copy_content(request.model, store.teacher_path(out, teacher.step))  # DVC's cache holds it once
    by_class = (
        (teacher.classes[c], [store.read_image(out, name) for name, _ in entries[:COLUMNS]])
        for c, entries in loop.kept.items()
    )
    save_contact_sheet(out / "sheets" / f"{teacher.step}.png", by_class)
    entries = [*earlier.entries, *loop.entries]
    store.image_list(request.current, len(teacher.classes), entries).write(out / store.LIST)
    steps = [*earlier.steps, statistics]
    write_manifest(out, {"images": [name for name, _ in entries], "steps": steps})
