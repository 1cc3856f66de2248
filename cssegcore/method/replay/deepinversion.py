"""DeepInversion replay: images of earlier classes drawn out of the model that learned them.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795, made for segmentation: see `cssegcore.inversion`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest
from cssegcore.core.ranges import at_least, fraction, non_negative
from cssegcore.core.types import Scores
from cssegcore.inversion.label_maps import SMALLEST
from cssegcore.inversion.request import GeneratedImages, SynthesisRequest
from cssegcore.inversion.settings import InversionSettings, SynthesisSettings
from cssegcore.method.replay._base import Replay

if TYPE_CHECKING:
    from torch import nn


@final
@dataclasses.dataclass(frozen=True)
class DeepInversion(Replay):
    """Generates images of the previous step's classes before a step, and keeps them.

    A class is drawn out of the model that learned it: the running statistics of later models
    describe later photographs. The finished images are labelled by that model, and rehearsed in
    batches of their own: in one with photographs, a network tells both kinds apart.

    Attributes:
        per_class: Images kept of each class.
        share: Share of generated images in an iteration; the step's batches stay whole.
        labels: Target of a generated image: its teacher's probabilities (`soft`: unbiased
            distillation), its teacher's logits (`logits`, published), or its stored labels
            (`hard`). Later models than the teacher have forgotten some of it.
        weight: Weight of that term; 1 is published for `logits`, 10 for distillation.
        moves_statistics: Whether made images move the running statistics. They are not photographs:
            what they move is taken from the test, unless nothing else holds on to old classes.
        confidence: Least probability of a label; pixels below it carry none.
        agreement: Least intersection over union of a kept image's primary class, between the layout
            that was asked for and what the model sees; of images without a layout, the least share
            of pixels that show the class.
        extra: Batches made at most beyond the number that would do if every image were kept.
        student: Model file of a network of the same classes, for the term `competition`.
        verifier: Model file of a network of the same classes that was never inverted, to tell
            whether it sees what the inverted one does. Written down, not acted upon.
        inversion: Settings of the inversion.
    """

    per_class: int = 16
    share: float = 0.5
    labels: Literal["hard", "soft", "logits"] = "soft"
    weight: float = 10.0
    moves_statistics: bool = False
    confidence: float = 0.7
    agreement: float = 0.5
    extra: int = 1
    student: str = ""
    verifier: str = ""
    inversion: InversionSettings = dataclasses.field(default_factory=InversionSettings)

    generates: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("share", "labels", "weight", "moves_statistics")
    scores: ClassVar[Scores | None] = "softmax"

    def __post_init__(self) -> None:
        at_least(1, per_class=self.per_class)
        if not 0 < self.share < 1:
            raise ValueError(f"`share` must lie in (0, 1), got {self.share}")
        non_negative(weight=self.weight)
        fraction(confidence=self.confidence, agreement=self.agreement)
        at_least(0, extra=self.extra)
        if self.inversion.weights.competition and not self.student:
            raise ValueError(
                "`inversion.weights.competition` is"
                f" {self.inversion.weights.competition}, and there is nobody to compete with: set"
                " `student` to the path of a model file, or the weight to 0"
            )

    @property
    def terms(self) -> Mapping[str, dict[str, object]]:
        recipes: dict[str, dict[str, object]] = {
            "hard": {"part": "ce", "average": "labelled"},
            "soft": {"part": "teacher_kd"},
            "logits": {"part": "teacher_mse"},
        }
        return {"replayed": recipes[self.labels] | {"weight": self.weight}}

    @property
    def settings(self) -> SynthesisSettings:
        """The numbers of a synthesis."""
        return SynthesisSettings(
            per_class=self.per_class,
            confidence=self.confidence,
            agreement=self.agreement,
            extra=self.extra,
            student=self.student,
            verifier=self.verifier,
            inversion=self.inversion,
        )

    def check(self, extractor: Callable[[], "nn.Module"], size: int) -> None:
        from cssegcore.inversion.feature_statistics import batch_norms  # slow: torch

        least = max(SMALLEST, *(reduction for reduction, _ in self.inversion.phases))
        if size < least:
            raise InputError(
                f"`augmentation.size` is {size}, and images of {least} pixels on a side are the"
                " smallest that `method.replay.inversion` can draw: set it to that or more."
            )
        batch_norms(extractor())

    def read(self, folder: Path) -> GeneratedImages | None:
        from cssegcore.inversion.store import open_images  # only trainings need it

        return open_images(folder)

    def stage_parameters(self, recipe: Mapping[str, object]) -> dict[str, object]:
        files = {f"method.replay.{role}": getattr(self, role) for role in ("student", "verifier")}
        found = {key: _digest(key, Path(name)) for key, name in files.items() if name}
        return super().stage_parameters(recipe) | found

    def synthesize(self, out: Path, request: SynthesisRequest) -> None:
        from cssegcore.inversion.synthesis import synthesize  # slow: torch

        synthesize(out, self.settings, request)


def _digest(key: str, path: Path) -> str:
    try:
        return digest(path.expanduser().read_bytes())
    except OSError as error:
        raise InputError(
            f"`{key}` is {str(path)!r}, which cannot be read ({error.strerror}): give the path of a"
            " model file, such as a copy of work/step0/model.safetensors of another run."
        ) from None
