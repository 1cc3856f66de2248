"""Synthesis: generates images of the classes that the previous model learned last."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.core.files import (
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
from cssegcore.inversion import contact_sheet, quality, store
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
    loop = _Loop(teacher, student, settings, request, views.size)
    loop.run()
    statistics = _statistics(loop, verifier, settings)
    statistics["distance"] = _distances(teacher, loop.batches[0], request, views)
    _write(out, loop, request, statistics)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """A finished batch and the teacher's predictions for it."""

    targets: InversionTargets
    inverted: InvertedBatch
    classes: UInt8[np.ndarray, "n s s"]
    confidence: UInt8[np.ndarray, "n s s"]


class _Loop:
    """Generates batches until each class has its images, or until no more batches are allowed.

    Attributes:
        teacher: The model that images are inverted from.
        batches: All batches so far.
        kept: The kept images of each class (network output), in the order of generation.
        finished: The batches on disk, in case the process is killed.
    """

    def __init__(
        self,
        teacher: Teacher,
        student: Segmenter | None,
        settings: SynthesisSettings,
        request: SynthesisRequest,
        size: int,
    ) -> None:
        self.teacher, self._student = teacher, student
        self._settings, self._request, self._size = settings, request, size
        self._shapes = _object_shapes(settings, request)
        stems = store.file_stems([f"{teacher.step}_{name}" for name in teacher.classes])
        self._stems = dict(enumerate(stems))
        self.batches: list[_Batch] = []
        self.kept: dict[int, list[GeneratedImage]] = {c: [] for c in teacher.new}
        self.finished = FinishedBatches(ResumeFile(request.resume()))

    def run(self) -> None:
        """Generates the batches.

        Raises:
            InputError: No image is good enough.
        """
        step, size = self.teacher.step, self._settings.inversion.batch_size
        wanted = self._settings.per_class * len(self.kept)
        for at in range(-(-wanted // size) + self._settings.extra):
            self.batches.append(self._batch(at))
            self._keep(self.batches[-1])
            count = len(self.images)
            self._request.tell(f"{step}: batch {at + 1}, {count} of {wanted} images kept")
            if count == wanted:
                break
        if not self.images:
            raise InputError(
                f"none of {len(self.batches) * size} images made from {step}'s model shows what was"
                " asked for: give `method.replay.inversion.phases` more iterations, or lower"
                " `method.replay.agreement`."
            )

    @property
    def images(self) -> list[GeneratedImage]:
        """The kept images, class by class."""
        return [one for images in self.kept.values() for one in images]

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
        inverted = self.finished.get(at)
        if inverted is None:
            inverted = invert(
                self.teacher.segmenter, self._student, targets, settings, rng, request.progress
            )
            self.finished.add(at, inverted)
        seen = quality.predict_mirrored(self.teacher.segmenter, inverted.images)
        return _Batch(targets, inverted, *seen)

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
                kept.append(
                    GeneratedImage(
                        f"{self._stems[primary]}_{len(kept):04d}",
                        batch.inverted.images[at],
                        labels[at],
                        batch.confidence[at],
                        targets.label_maps[at],
                    )
                )


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
    teacher, images = loop.teacher, loop.images
    photographs = np.stack([one.image for one in images])
    labels = np.stack([one.labels for one in images])
    asked = np.stack([one.label_map for one in images]) if loop.by_label_map else labels
    primaries = np.concatenate([batch.targets.primaries for batch in loop.batches])
    size, outputs = settings.inversion.batch_size, len(teacher.classes)
    networks = {"inverted": teacher.segmenter} | ({"independent": verifier} if verifier else {})
    return {
        "step": teacher.step,
        "images": [one.name for one in images],
        "batches": len(loop.batches),
        "classes": [
            {
                "class": teacher.classes[c],
                "wanted": settings.per_class,
                "kept": len(kept),
                "made": int((primaries == c).sum()),
            }
            for c, kept in loop.kept.items()
        ],
        "agreement": {
            name: quality.agreement(asked, quality.predict_classes(by, photographs, size), outputs)
            for name, by in networks.items()
        },
        "verifier": settings.verifier and digest(Path(settings.verifier).expanduser().read_bytes()),
        "labelled": quality.labelled_share(labels),
    }


def _distances(
    teacher: Teacher, batch: _Batch, request: SynthesisRequest, views: Augmentation
) -> dict[str, float]:
    """Compares the feature statistics of a generated batch and of as many photographs."""
    device, rng = next(teacher.segmenter.parameters()).device, request.generator()
    normalization = teacher.segmenter.normalization
    generated = normalise(torch.from_numpy(batch.inverted.images).to(device), normalization)
    photographs = ImageStore(request.dataset, request.sampled(len(generated), rng))
    batches = training_batches(photographs, views, len(generated), rng, device, normalization)
    real = next(batches).images
    return {
        "made": quality.feature_distance(teacher.segmenter, generated[: len(real)]),
        "real": quality.feature_distance(teacher.segmenter, real),
    }


def _write(out: Path, loop: _Loop, request: SynthesisRequest, statistics: dict[str, Any]) -> None:
    """Writes the images of earlier steps and of this one, the list, curves and a contact sheet."""
    teacher = loop.teacher
    copy_content(request.previous_synthesis, out)
    earlier = store.open_images(request.previous_synthesis)
    images = list(earlier.image_list.images) if earlier else []
    images += [store.write_image(out, one) for one in loop.images]
    copy_content(request.model, store.teacher_path(out, teacher.step))  # DVC's cache holds it once
    store.image_list(request.current, len(teacher.classes), images).write(out / store.LIST)
    rows = [
        {"batch": float(at), **row}
        for at, batch in enumerate(loop.batches)
        for row in batch.inverted.rows
    ]
    write_csv(out / "curves" / f"{teacher.step}.csv", rows)
    by_class = {teacher.classes[c]: generated for c, generated in loop.kept.items()}
    contact_sheet.save_contact_sheet(out / "sheets" / f"{teacher.step}.png", by_class)
    steps = [*read_manifest(request.previous_synthesis).get("steps", []), statistics]
    write_manifest(out, {"images": [name for name, _ in images], "steps": steps})
