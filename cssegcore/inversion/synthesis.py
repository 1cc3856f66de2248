"""Synthesis: generates images of the classes that the previous model learned last.

Batches are made in rounds: a round has as many as would do if every image were kept, and the next
round those that lack then. So the batches of a round do not depend on each other, several processes
share them, and the images are the same by any number of processes.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
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
from cssegcore.runtime.distributed import all_gather, world
from cssegcore.runtime.resume import ResumeFile

SAMPLED = 200
"""Images of the step whose annotated objects are transplanted."""


def synthesize(out: Path, settings: SynthesisSettings, request: SynthesisRequest) -> None:
    """Writes the images of all classes that the previous model knows; see `store` for the files.

    Of several processes (`process_group`) each makes its share of the batches; the first writes.

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
    views = Augmentation.of(request.augmentation)
    loop = _Loop(teacher, student, settings, request, views.size, out)
    if not world().is_main:
        loop.run()
        return
    verifier = load_second(settings.verifier, "verifier", teacher, device)
    earlier = _begin(out, request)
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


class _Loop:
    """Generates batches until each class has its images, or until no more batches are allowed.

    Kept images and curves go to disk batch by batch, so memory holds one batch of each process
    beside the first. What it counts, the first process counts alone.

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
        size = self._settings.inversion.batch_size
        wanted = self._settings.per_class * len(self.kept)
        left, at = -(-wanted // size) + self._settings.extra, 0
        while planned := self._round()[:left]:
            for begin in range(0, len(planned), world().size):
                wave = planned[begin : begin + world().size]
                for primaries, inverted in zip(wave, self._made(at, wave), strict=True):
                    self._take(self._targets(at, primaries)[0], inverted)
                    at += 1
            left -= len(planned)
        if not all_gather(self.entries)[0]:
            raise InputError(
                f"none of {at * size} images made from {self.teacher.step}'s model shows"
                " what was asked for: give `method.replay.inversion.phases` more iterations, or"
                " lower `method.replay.agreement`."
            )

    @property
    def entries(self) -> list[list[str]]:
        """The list entries of the kept images, class by class."""
        return [entry for entries in self.kept.values() for entry in entries]

    @property
    def by_label_map(self) -> bool:
        """Whether the targets are label maps."""
        return self._shapes is not None

    def _round(self) -> list[list[int]]:
        """Returns the classes of each batch that is due, as if all of its images were kept."""
        missing = {c: self._settings.per_class - len(kept) for c, kept in self.kept.items()}
        (missing, *_) = all_gather(missing)
        batches = []
        while any(count > 0 for count in missing.values()):
            batches.append(share_out(missing, self._settings.inversion.batch_size))
            missing = {c: count - batches[-1].count(c) for c, count in missing.items()}
        return batches

    def _made(self, at: int, wave: Sequence[list[int]]) -> list[InvertedBatch]:
        """Generates batch number `at` and those after it, one a process."""
        rank = world().rank
        own = self._batch(at + rank, wave[rank]) if rank < len(wave) else None
        return [batch for batch in all_gather(own) if batch]

    def _batch(self, at: int, primaries: Sequence[int]) -> InvertedBatch:
        """Generates batch number `at`, or takes its images from a run that was killed."""
        inverted = self._finished.get(at, primaries)
        if inverted is None:
            targets, rng = self._targets(at, primaries)
            settings, progress = self._settings.inversion, self._request.progress
            inverted = invert(
                self.teacher.segmenter, self._student, targets, settings, rng, progress
            )
            self._finished.add(at, primaries, inverted)
        return inverted

    def _targets(
        self, at: int, primaries: Sequence[int]
    ) -> tuple[InversionTargets, np.random.Generator]:
        """Draws the label maps of batch `at`; also returns the generator, for what follows."""
        rng, known = self._request.generator(at), range(1, len(self.teacher.classes))
        return draw_targets(primaries, known, self._size, self._shapes, rng), rng

    def _take(self, targets: InversionTargets, inverted: InvertedBatch) -> None:
        """Writes a batch's rows of the curves, and those of its images that are kept."""
        if not world().is_main:
            return
        if not self.batches:
            self.first = inverted.images
        rows = [{"batch": float(self.batches), **row} for row in inverted.rows]
        write = append_csv if self.batches else write_csv
        write(self.out / "curves" / f"{self.teacher.step}.csv", rows)
        self._keep(targets, inverted.images)
        self.made.update(targets.primaries.tolist())
        self.batches += 1
        count, wanted = sum(map(len, self.kept.values())), self._settings.per_class * len(self.kept)
        step = self.teacher.step
        self._request.tell(f"{step}: batch {self.batches}, {count} of {wanted} images kept")

    def _keep(self, targets: InversionTargets, images: UInt8[np.ndarray, "n s s 3"]) -> None:
        """Keeps the images that score well, as long as their class needs images."""
        settings = self._settings
        classes, confidence = quality.predict_mirrored(self.teacher.segmenter, images)
        asked = targets.label_maps if self.by_label_map else None
        labels = quality.reliable_labels(classes, confidence, asked, settings.confidence)
        scores = quality.primary_scores(targets.primaries, classes, labels, asked)
        for at, primary in enumerate(targets.primaries.tolist()):
            kept = self.kept[primary]
            if len(kept) < settings.per_class and scores[at] >= settings.agreement:
                generated = GeneratedImage(
                    f"{self._stems[primary]}_{len(kept):04d}",
                    images[at],
                    labels[at],
                    confidence[at],
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
