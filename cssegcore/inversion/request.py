"""Request and result of image inversion, as the replay part sends and gets them. No torch.

`cssegcore.method.replay` imports this module; the inversion modules never import a replay part.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cssegcore.core.types import Progress
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList


@dataclasses.dataclass(frozen=True)
class SynthesisRequest:
    """Inputs of one synthesis: generating images before a step.

    Attributes:
        dataset: The photographs and their annotations.
        current: Training list of the step to come.
        augmentation: The section `augmentation`; generated images have the size of its crops.
        previous_synthesis: Folder of the images that were generated before the previous step.
        model: File of the previous step's model.
        seed: Seed of the run.
        resume: Returns the file that stores finished batches in case the process is killed. It
            reads every input of the result to name the file, so it is called only if needed. The
            caller removes the file once the result is safe.
        progress: Wraps the iterable of iterations (second argument: their number).
        tell: Receives one line of text after each finished batch.
    """

    dataset: Dataset
    current: ImageList
    augmentation: Mapping[str, object]
    previous_synthesis: Path
    model: Path
    seed: int
    resume: Callable[[], Path]
    progress: Progress
    tell: Callable[[str], None]

    def generator(self, *batch: int) -> np.random.Generator:
        """Returns a random generator that depends on seed, step and batch alone."""
        return np.random.default_rng([self.seed, self.current.index, *batch])

    def sampled(self, count: int, rng: np.random.Generator) -> ImageList:
        """Returns the step's list with at most `count` of its images, in the list's order."""
        images = self.current.images
        chosen = rng.permutation(len(images))[:count]
        return dataclasses.replace(self.current, images=[images[at] for at in sorted(chosen)])


@dataclasses.dataclass(frozen=True)
class GeneratedImages:
    """All generated images of a folder, as a dataset with a list.

    Attributes:
        dataset: The images and their labels.
        image_list: The list of all images.
        teachers: Files of the models that the images were inverted from, oldest first.
        sources: Index into `teachers` of each image of the list.
    """

    dataset: Dataset
    image_list: ImageList
    teachers: list[Path]
    sources: Int[np.ndarray, " n"]
