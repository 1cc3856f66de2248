"""The model that images are inverted from, and second models of the same classes."""

import dataclasses
from pathlib import Path

import torch

from cssegcore.core.errors import InputError
from cssegcore.core.types import BACKGROUND
from cssegcore.models.checkpoint import load_model
from cssegcore.models.segmenter import Segmenter


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The model that images are inverted from.

    Attributes:
        segmenter: The network, in evaluation mode.
        step: Name of the step that trained it.
        classes: Names of its classes, background first.
        new: Outputs of the classes that it learned last, background excluded.
    """

    segmenter: Segmenter
    step: str
    classes: list[str]
    new: list[int]


def load_teacher(path: Path, device: torch.device) -> Teacher:
    """Loads the previous step's model.

    Raises:
        InputError: The file is missing or damaged.
    """
    loaded = load_model(path, device)
    loaded.segmenter.to(memory_format=torch.channels_last)
    classes = loaded.model.classes
    new = [output for output in classes.new if output != BACKGROUND]
    return Teacher(loaded.segmenter, loaded.model.step, list(classes.names), new)


def load_second(path: str, role: str, teacher: Teacher, device: torch.device) -> Segmenter | None:
    """Loads a second model of the teacher's classes.

    Args:
        path: Its file; no model if empty.
        role: The key below `method.replay` that names the file, for error messages.
        teacher: The model that images are inverted from.
        device: Device of the network.

    Raises:
        InputError: The file is missing or damaged, or the model has other classes.
    """
    if not path:
        return None
    loaded = load_model(Path(path).expanduser(), device)
    names = list(loaded.model.classes.names)
    if names != teacher.classes or loaded.model.unknown:
        raise InputError(
            f"`method.replay.{role}`: the model {path} tells {', '.join(names)} apart, and the"
            f" one that is inverted {', '.join(teacher.classes)}: give one of the same classes."
        )
    return loaded.segmenter.requires_grad_(False)
