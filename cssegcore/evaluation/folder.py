"""The evaluations of all steps of a run: how their folder is written and read back.

`manifest.json` names the photographs that every step shows. Each step has a folder:

- `confusion.json`: an `Evaluated`; without it there is no step,
- `further.json`: the numbers of `evaluation.metrics` by name,
- `epochs.csv`: the curve of its training,
- `costs.json`: how many weights it trained, and the bytes kept beside the model (`StepCosts`),
- `pseudo_labels.json`: statistics of the previous model's pseudo-labels; empty without any,
- `synthesis.json`, `sheet.png`: statistics of the images generated for it; empty without any,
- `examples/`: each photograph shown, its truth and its prediction (`example_files`).
"""

import csv
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cssegcore.core.errors import InputError
from cssegcore.core.files import (
    TEMPORARY,
    copy_content,
    digest,
    read_manifest,
    write_json,
    write_manifest,
)
from cssegcore.core.types import TO_COME
from cssegcore.metrics.record import Evaluated, evaluated


@dataclass(frozen=True)
class Example:
    """One test photograph; `predictions` has one entry per step, None where it was not tested."""

    name: str
    photo: Path
    truth: Path
    predictions: list[Path | None]


@dataclass(frozen=True)
class PseudoLabelStats:
    """Statistics of the previous model's pseudo-labels in a step.

    Attributes:
        step: Name of the step.
        background: Pixels annotated as background, which alone get pseudo-labels.
        classes: One mapping per class that the model knew: `class`, `threshold` (or None), and the
            numbers of pixels `predicted` and `accepted`.
    """

    step: str
    background: int
    classes: list[dict[str, Any]]


@dataclass(frozen=True)
class SynthesisStats:
    """Statistics of the images generated before a step.

    Attributes:
        step: Name of the step that trains on them.
        statistics: Statistics in the manifest of the synthesis.
        sheet: The contact sheet.
    """

    step: str
    statistics: dict[str, Any]
    sheet: Path


@dataclass(frozen=True)
class Evaluation:
    """The evaluations of all steps, in the order of learning.

    Attributes:
        records: Record of each step.
        epochs: One mapping per epoch of all steps, of column name to the text in the file, led by
            `running_epoch` (from 1, over all steps) and `step` (its index).
        examples: The photographs of the last step.
        pseudo_labels: The pseudo-labels of each step that had any.
        generated: The images generated before each step that had any.
        further: The numbers of `evaluation.metrics` of each step, by name.
        costs: The costs of each step; empty where none were written.
    """

    records: list[Evaluated]
    epochs: list[dict[str, str]]
    examples: list[Example]
    pseudo_labels: list[PseudoLabelStats]
    generated: list[SynthesisStats]
    further: list[dict[str, Any]]
    costs: list[dict[str, Any]]


class ExampleFiles(NamedTuple):
    """Paths of an example's photograph, truth and prediction."""

    photo: Path
    truth: Path
    prediction: Path


def example_files(examples: Path, name: str) -> ExampleFiles:
    """Returns the paths of the example `name`; `/` in the name becomes `_`."""
    stem = name.replace("/", "_")
    kinds = ("photo.jpg", "truth.png", "prediction.png")
    return ExampleFiles(*(examples / f"{stem}.{kind}" for kind in kinds))


def write_nothing(out: Path) -> None:
    """Writes the evaluation that precedes the first step."""
    write_manifest(out, {"examples": []})


def examples_shown(previous: Path) -> list[str]:
    """Returns the photographs that earlier steps show; none before the first step.

    Raises:
        InputError: `previous` is no evaluation.
    """
    return read_manifest(previous, "examples")["examples"]


def seal_files(out: Path) -> None:
    """Notes a digest of every file of a whole evaluation in its manifest; `check_files` asks."""
    found = {str(p.relative_to(out)): digest(p.read_bytes()) for p in _files(out)}
    write_manifest(out, read_manifest(out) | {"files": found})


def check_files(folder: Path) -> None:
    """Makes sure that an evaluation has not changed since `seal_files`, if it was sealed.

    Raises:
        InputError: A file has changed or is missing.
    """
    found: dict[str, str] = read_manifest(folder).get("files", {})
    for name, written in found.items():
        path = folder / name
        if not path.is_file() or digest(path.read_bytes()) != written:
            stage = f"evaluate@{Path(name).parts[0]}"
            raise InputError(
                f"{path} is damaged, it is not what was written: run `dvc checkout` or, if DVC's"
                f" cache holds the same, `dvc repro -f {stage}`."
            )


def _files(out: Path) -> list[Path]:
    files = (p for p in out.rglob("*") if p.is_file() and p.parent != out)
    return sorted(p for p in files if not p.name.startswith(TEMPORARY))  # of a killed process


def write_step(
    out: Path,
    record: Evaluated,
    further: Mapping[str, object],
    shown: Sequence[str],
    *,
    previous: Path,
    epochs: Path,
    costs: Mapping[str, object],
    pseudo_labels: Path,
    synthesis: Path,
) -> Path:
    """Writes the evaluations up to a step and returns the empty folder for its examples.

    Args:
        out: Folder to write.
        record: Record of the step.
        further: The numbers of `evaluation.metrics`, by name.
        shown: The photographs that every step shows.
        previous: The evaluations up to the previous step, all of which are copied.
        epochs: The curve of the training, a CSV file.
        costs: The costs of the training, by their names.
        pseudo_labels: Folder of the step's pseudo-labels; their statistics are kept.
        synthesis: Folder of the images generated for the step; their statistics and contact sheet
            are kept.

    Raises:
        InputError: A file cannot be written, or one of `previous` is damaged.
    """
    check_files(previous)
    copy_content(previous, out)
    write_manifest(out, {"examples": shown})
    step = out / record.step
    write_json(step / "confusion.json", dataclasses.asdict(record))
    write_json(step / "further.json", further)
    copy_content(epochs, step / "epochs.csv")
    write_json(step / "costs.json", costs)
    numbers = read_manifest(pseudo_labels, "images")
    write_json(step / "pseudo_labels.json", {k: numbers[k] for k in numbers if k != "images"})
    generated = read_manifest(synthesis).get("steps", [])
    write_json(step / "synthesis.json", generated[-1] if generated else {})
    if generated:
        copy_content(synthesis / "sheets" / f"{generated[-1]['step']}.png", step / "sheet.png")
    return step / "examples"


def read_evaluation(folder: Path) -> Evaluation:
    """Reads every step's subfolder of `folder`; only `confusion.json` must be there.

    Raises:
        InputError: No step was evaluated, a file is not what it must be, or the steps are not of
            one scenario.
    """
    if (folder / "manifest.json").exists():
        check_files(folder)
    found = [(_read_confusion(path), path.parent) for path in folder.glob("*/confusion.json")]
    if not found:
        raise InputError(
            f"{folder} holds no evaluated step (<step>/confusion.json); evaluate one first."
        )
    found.sort(key=lambda pair: (pair[0].index, pair[1]))
    records, folders = [record for record, _ in found], [path for _, path in found]
    for (earlier, here), (later, there) in itertools.pairwise(found):
        if earlier.index == later.index or not _follows(earlier, later):
            raise InputError(
                f"{folder}: {here.name} and {there.name} are not steps of one run (same index"
                " or other classes); delete the folder of the one that does not belong."
            )
    return Evaluation(
        records,
        _read_epochs(records, folders),
        _find_examples(folders),
        _read_pseudo_labels(folders),
        _read_generated(folders),
        [_optional(folder / "further.json") for folder in folders],
        [_optional(folder / "costs.json") for folder in folders],
    )


def _follows(earlier: Evaluated, later: Evaluated) -> bool:
    """Whether two steps are of one scenario: all classes, or all so far, are the same."""
    seen, rest = earlier.classes[: earlier.seen], earlier.classes[earlier.seen :]
    grown = rest in ([], [TO_COME]) and later.classes[: earlier.seen] == seen
    return grown or earlier.classes == later.classes


def _read_confusion(path: Path) -> Evaluated:
    return evaluated(_read(path), str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); evaluate the step again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping; evaluate the step again.")
    return content


def _read_epochs(records: list[Evaluated], folders: list[Path]) -> list[dict[str, str]]:
    epochs: list[dict[str, str]] = []
    for record, folder in zip(records, folders, strict=True):
        path = folder / "epochs.csv"
        if path.is_file():
            for row in _read_curve(path):
                running = {"running_epoch": str(len(epochs) + 1), "step": str(record.index)}
                epochs.append(running | row)
    return epochs


def _read_curve(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, strict=True))
        for row in rows:
            for cell in row.values():
                float(cell or "nan")
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); train the step again.") from None
    return rows


def _optional(path: Path) -> dict[str, Any]:
    return _read(path) if path.is_file() else {}


def _read_pseudo_labels(folders: list[Path]) -> list[PseudoLabelStats]:
    found = []
    for folder in folders:
        content = _optional(folder / "pseudo_labels.json")
        if content.get("classes"):
            found.append(PseudoLabelStats(folder.name, content["background"], content["classes"]))
    return found


def _read_generated(folders: list[Path]) -> list[SynthesisStats]:
    found = []
    for folder in folders:
        content = _optional(folder / "synthesis.json")
        if content.get("classes"):
            found.append(SynthesisStats(folder.name, content, folder / "sheet.png"))
    return found


def _find_examples(folders: list[Path]) -> list[Example]:
    last = folders[-1] / "examples"
    examples = []
    for photo in sorted(last.glob("*.photo.jpg")):
        name = photo.name.removesuffix(".photo.jpg")
        paths = [example_files(folder / "examples", name).prediction for folder in folders]
        predictions = [path if path.is_file() else None for path in paths]
        examples.append(Example(name, photo, example_files(last, name).truth, predictions))
    return examples
