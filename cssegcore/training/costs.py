"""Costs of a step: trained weights and bytes that the method keeps.

Time is recorded separately (`Trained.seconds`) because it differs between equal trainings.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cssegcore.data.dataset import Dataset
from cssegcore.method.replay import GeneratedImages
from cssegcore.models.checkpoint import Statistics
from cssegcore.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class StepCosts:
    """The costs of one step.

    Attributes:
        trainable_weights: Number of weights that are trained; running statistics do not count.
        kept_bytes: Bytes kept beside the model: photographs of earlier steps with their label
            images (`exemplars`), generated images with their label images and the models that they
            refer to (`made_images`), tensors that the step hands on (`statistics`). Files count by
            their size on the disk.
    """

    trainable_weights: int
    kept_bytes: dict[str, int]


def step_costs(
    trainer: Trainer,
    statistics: Statistics,
    dataset: Dataset,
    exemplars: Sequence[str],
    generated: GeneratedImages | None,
) -> StepCosts:
    """Counts the costs of a trained step.

    Args:
        trainer: The trainer of the step.
        statistics: The statistics that the step collected, by part.
        dataset: The dataset of the exemplars.
        exemplars: Names of the images of earlier steps that had to be there. A method that trains
            on all images so far keeps them all.
        generated: The generated images that it trained on.
    """
    weights = [weight for weight in trainer.segmenter.parameters() if weight.requires_grad]
    tensors = [tensor for collected in statistics.values() for tensor in collected.values()]
    files = _files(generated.dataset, generated.image_list.names) if generated else []
    if generated and any(term.needs_teachers for term in trainer.method.replayed.values()):
        files += generated.teachers
    return StepCosts(
        trainable_weights=sum(weight.numel() for weight in weights),
        kept_bytes={
            "exemplars": _size(_files(dataset, exemplars)),
            "made_images": _size(files),
            "statistics": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        },
    )


def _files(dataset: Dataset, names: Sequence[str]) -> list[Path]:
    return [
        path for name in names for path in (dataset.photograph_path(name), dataset.label_path(name))
    ]


def _size(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)
