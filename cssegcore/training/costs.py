"""What a step costs beside what it learns: weights that it trains, and bytes that a method keeps.

How long it takes is told apart (`Trained.seconds`): that differs between equal trainings, and these
numbers must not.
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
        trainable_weights: How many numbers of the network learn; normalisations' running statistics
            are none.
        kept_bytes: What is kept beside the model, in bytes: photographs of earlier steps with their
            label images (`exemplars`), images that a model made with theirs, and the models that
            still speak of them (`made_images`), tensors that the step hands on (`statistics`).
            Files count as they lie on the disk.
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
        trainer: Of the step.
        statistics: What the step gathered.
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
