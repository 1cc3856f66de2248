"""Which images each step trains on, is monitored on and is tested on."""

from collections.abc import Sequence
from pathlib import Path

from cssegcore.data.index import Entry
from cssegcore.errors import InputError
from cssegcore.scenarios import Scenario, StepList


def write_splits(
    out: Path, scenario: Scenario, entries: Sequence[Entry], table: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Writes `STEP/{train,seen,val,test}.json` below `out`; every step has lists of its own.

    train: the step's images by the setting's rule; only its new classes are annotated.
    seen: the training images of all steps up to it, with all their classes annotated (`joint`).
    val: images of the `val` part that show a new class, annotated as in training.
    test: images of the `test` part that show any class seen; later classes are told apart.

    Returns:
        Number of images, by step and list.

    Raises:
        InputError: A step would have no training or test images.
    """
    lists = {
        step.name: {
            "train": _train(scenario, entries, table, step.index),
            "seen": _seen(scenario, entries, table, step.index),
            "val": _val(scenario, entries, table, step.index),
            "test": _test(scenario, entries, table, step.index),
        }
        for step in scenario.steps
    }
    for step, kinds in lists.items():
        for kind in ("train", "test"):
            if not kinds[kind].images:
                classes = ", ".join(scenario.steps[kinds[kind].index].classes)
                raise InputError(
                    f"`steps.{step}` has no {kind} images: no image of the dataset's {kind} part"
                    f" shows {classes} as the setting {scenario.setting!r} asks. Choose other"
                    " classes or another `scenario.setting`."
                )
    for step, kinds in lists.items():
        for kind, images in kinds.items():
            images.write(out / step / f"{kind}.json")
    return {step: {k: len(v.images) for k, v in kinds.items()} for step, kinds in lists.items()}


def _list(
    scenario: Scenario,
    table: Sequence[str],
    index: int,
    visible: Sequence[int],
    entries: Sequence[Entry],
    known: int,
) -> StepList:
    """Names the outputs of the first `known` steps; background joins those of step 0."""
    steps = scenario.steps[:known]
    return StepList(
        step=scenario.steps[index].name,
        index=index,
        classes=[[table[0]] * (s.index == 0) + list(s.classes) for s in steps],
        raw=[[0] * (s.index == 0) + list(s.raw) for s in steps],
        visible=sorted(visible),
        images=[[e.name, e.digest] for e in entries],
    )


def _train(
    scenario: Scenario, entries: Sequence[Entry], table: Sequence[str], index: int
) -> StepList:
    chosen = [e for e in entries if "train" in e.parts and scenario.trains(e.present, index)]
    return _list(scenario, table, index, scenario.steps[index].raw, chosen, index + 1)


def _seen(
    scenario: Scenario, entries: Sequence[Entry], table: Sequence[str], index: int
) -> StepList:
    steps = range(index + 1)
    chosen = [
        e
        for e in entries
        if "train" in e.parts and any(scenario.trains(e.present, s) for s in steps)
    ]
    visible = [raw for s in steps for raw in scenario.steps[s].raw]
    return _list(scenario, table, index, visible, chosen, index + 1)


def _val(
    scenario: Scenario, entries: Sequence[Entry], table: Sequence[str], index: int
) -> StepList:
    new = set(scenario.steps[index].raw)
    chosen = [e for e in entries if "val" in e.parts and new & e.present]
    return _list(scenario, table, index, sorted(new), chosen, index + 1)


def _test(
    scenario: Scenario, entries: Sequence[Entry], table: Sequence[str], index: int
) -> StepList:
    chosen = [e for e in entries if "test" in e.parts and scenario.tests(e.present, index)]
    every = [raw for s in scenario.steps for raw in s.raw]
    return _list(scenario, table, index, every, chosen, len(scenario.steps))
