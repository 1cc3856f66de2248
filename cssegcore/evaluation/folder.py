"""The evaluations of all steps of a run, read back from their folder."""

import csv
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cssegcore.core.errors import InputError
from cssegcore.metrics.record import Evaluated, evaluated


@dataclass(frozen=True)
class Panel:
    """One test photograph; `predictions` has one entry per step, None where it was not tested."""

    name: str
    photo: Path
    truth: Path
    predictions: list[Path | None]


@dataclass(frozen=True)
class PseudoLabelStats:
    """What the previous model's pseudo-labels were in a step.

    Attributes:
        step: Name of the step.
        background: Pixels annotated as background, which alone are guessed.
        classes: One mapping per class that the model knew: `class`, `threshold` (or None), and the
            numbers of pixels `predicted` and `accepted`.
    """

    step: str
    background: int
    classes: list[dict[str, Any]]


@dataclass(frozen=True)
class SynthesisStats:
    """What the images made before a step are like.

    Attributes:
        step: Name of the step that trains on them.
        statistics: What the synthesis says of them.
        sheet: The contact sheet.
    """

    step: str
    statistics: dict[str, Any]
    sheet: Path


@dataclass(frozen=True)
class Evaluation:
    """What the steps left, in the order of learning.

    Attributes:
        records: One per step.
        epochs: One mapping per epoch of all steps, of column name to the text in the file, led by
            `running_epoch` (from 1, over all steps) and `step` (its index).
        examples: The photographs of the last step.
        guesses: The pseudo-labels of each step that had any.
        made: The images made before each step that had any.
    """

    records: list[Evaluated]
    epochs: list[dict[str, str]]
    examples: list[Panel]
    guesses: list[PseudoLabelStats]
    made: list[SynthesisStats]


def read_evaluation(folder: Path) -> Evaluation:
    """Reads every step's subfolder of `folder`; only `confusion.json` must be there.

    Raises:
        InputError: No step was evaluated, a file is not what it must be, or the steps are not of
            one scenario.
    """
    found = [(_read_confusion(path), path.parent) for path in folder.glob("*/confusion.json")]
    if not found:
        raise InputError(
            f"{folder} holds no evaluated step (<step>/confusion.json); evaluate one first."
        )
    found.sort(key=lambda pair: (pair[0].index, pair[1]))
    records, folders = [record for record, _ in found], [path for _, path in found]
    for (earlier, here), (later, there) in itertools.pairwise(found):
        if earlier.index == later.index or earlier.classes != later.classes:
            raise InputError(
                f"{folder}: {here.name} and {there.name} are not steps of one run (same index"
                " or other classes); delete the folder of the one that does not belong."
            )
    epochs, examples = _read_epochs(records, folders), _find_panels(folders)
    return Evaluation(records, epochs, examples, _read_guesses(folders), _read_made(folders))


def _read_confusion(path: Path) -> Evaluated:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); evaluate the step again.") from None
    return evaluated(content, str(path))


def _read_epochs(records: list[Evaluated], folders: list[Path]) -> list[dict[str, str]]:
    epochs: list[dict[str, str]] = []
    for record, folder in zip(records, folders, strict=True):
        path = folder / "epochs.csv"
        if path.is_file():
            with path.open(newline="") as lines:
                for row in csv.DictReader(lines):
                    running = {"running_epoch": str(len(epochs) + 1), "step": str(record.index)}
                    epochs.append(running | row)
    return epochs


def _optional(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.is_file() else {}


def _read_guesses(folders: list[Path]) -> list[PseudoLabelStats]:
    found = []
    for folder in folders:
        content = _optional(folder / "pseudo_labels.json")
        if content.get("classes"):
            found.append(PseudoLabelStats(folder.name, content["background"], content["classes"]))
    return found


def _read_made(folders: list[Path]) -> list[SynthesisStats]:
    found = []
    for folder in folders:
        content = _optional(folder / "synthesis.json")
        if content.get("classes"):
            found.append(SynthesisStats(folder.name, content, folder / "sheet.png"))
    return found


def _find_panels(folders: list[Path]) -> list[Panel]:
    last = folders[-1] / "examples"
    examples = []
    for photo in sorted(last.glob("*.photo.jpg")):
        name = photo.name.removesuffix(".photo.jpg")
        paths = [folder / "examples" / f"{name}.prediction.png" for folder in folders]
        predictions = [path if path.is_file() else None for path in paths]
        examples.append(Panel(name, photo, last / f"{name}.truth.png", predictions))
    return examples
