"""Interface of the replay of earlier steps. No torch here: most methods replay nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cssegcore.core.files import write_manifest
from cssegcore.core.types import Progress, Scores
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList
from cssegcore.inversion.request import GeneratedImages, SynthesisRequest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ExemplarRequest:
    """The moment before a step, when exemplars are chosen.

    Attributes:
        dataset: Dataset of the photographs and annotations.
        current: Training list of the step to come.
        previous_images: Training list of the previous step, its classes annotated.
        previous_memory: The exemplars of the previous step; None if it has none.
        model: File of the previous step's model.
        seed: Seed of the run.
        progress: Wraps the iterable of batches (second argument: number of photographs).
    """

    dataset: Dataset
    current: ImageList
    previous_images: ImageList
    previous_memory: ImageList | None
    model: Path
    seed: int
    progress: Progress


class Replay:
    """Brings samples of earlier steps into a step: kept photographs, generated images, or none.

    Samples take places in the step's own batches; or, if a part names `terms`, they form batches
    of their own, and those terms are all that is asked of them.

    Attributes:
        selects_exemplars: Whether it keeps photographs of the dataset.
        generates: Whether it generates images.
        scores: Function from the previous model's logits to scores; None if it reads none.
        share: Share of the images of an iteration that are replayed.
        concatenated: Whether they join the step's images in one list instead; `share` is 0 then.
        labelled_as_own: Whether kept photographs are labelled as the step's own are, and not with
            all classes so far.
        size: Number of the dataset's photographs it keeps.
        moves_statistics: Whether replayed batches of their own move the running statistics that
            photographs meet in the test.
        uses_unknown_class: Whether replayed labels go through the rule for the unknown class like
            all others.
        training_only: Fields that only the training stage uses; changing them does not rerun the
            replay stages.
        terms: Recipes of losses over batches of replayed samples, by name.
    """

    selects_exemplars: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    scores: ClassVar[Scores | None] = None
    training_only: ClassVar[tuple[str, ...]] = ()
    share: float = 0.0
    concatenated: bool = False
    labelled_as_own: bool = False
    size: int = 0
    moves_statistics: bool = True
    uses_unknown_class: bool = True

    @property
    def terms(self) -> Mapping[str, dict[str, object]]:
        """No terms of their own, so that samples join the step's batches."""
        return {}

    def check(self, extractor: Callable[[], "nn.Module"], size: int) -> None:
        """Refuses a network or a size that images cannot be generated with; by default none.

        Args:
            extractor: Builds the network below its heads; called only if it matters.
            size: Side in pixels of the crops that a step trains on.

        Raises:
            InputError: No image can be generated.
        """
        return

    def read(self, folder: Path) -> GeneratedImages | None:
        """Returns the images that `synthesize` left in a folder; None if there are none.

        Raises:
            InputError: Their list or manifest is damaged.
        """
        del folder
        return None

    def stage_parameters(self, recipe: Mapping[str, object]) -> dict[str, object]:
        """Returns the recipe's fields that change the output of the replay stages.

        Raises:
            InputError: It names a file that cannot be read.
        """
        return {key: value for key, value in recipe.items() if key not in self.training_only}

    def select_exemplars(self, out: Path, request: ExemplarRequest) -> None:
        """Writes `manifest.json` below `out` and, if it keeps photographs, `list.json`.

        `list.json` is a `ImageList` for the step to come: its `classes` and `raw`, and every class
        seen so far, the new ones included, in `visible`. The manifest has the names (`images`) and,
        if any are kept, how many were chosen for each class (`classes`).
        """
        del request
        write_manifest(out, {"images": []})

    def synthesize(self, out: Path, request: SynthesisRequest) -> None:
        """Writes `manifest.json` below `out` and, if it generates images, these and `list.json`.

        Raises:
            InputError: The previous model cannot be used, or generates no usable image.
        """
        del request
        write_manifest(out, {"images": []})
