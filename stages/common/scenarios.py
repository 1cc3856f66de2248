"""Scenario files made out of two numbers, in the form of those in conf/."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cssegcore.core.config import did_you_mean
from cssegcore.core.errors import InputError
from cssegcore.data.layouts._base import read_names
from cssegcore.scenario.scenario import LeftOut

from .conf import CONF, conf_file, conf_files

TEMPLATE = """\
# @package _global_
# {title}
defaults:
{defaults}

scenario:
  name: {name}{order}{left_out}
  setting: overlapped         # or disjoint, sequential, partitioned
  classes:
{classes}
{numbers}"""

AUTO = "auto"
"""Instead of a scenario to be like: whatever suits the photographs."""


def scenario_text(
    name: str,
    base: int | None,
    increment: int | None,
    order: str | None = None,
    left_out: LeftOut | None = None,
    like: str | None = None,
) -> str:
    """Returns the scenario of `base` classes, then `increment` in each step.

    Without both numbers all classes are learned in one step, and others may arrive.

    Args:
        name: DATASET/SCENARIO, of which DATASET is a file in conf/dataset/.
        base: Number of classes of step 0.
        increment: Number of classes of each later step; the last has what is left.
        order: The classes with commas between, or a file with one a line; without, all of the
            dataset in its order.
        left_out: Meaning of the classes that `order` lacks; None if it lacks none.
        like: The scenario whose model, schedule and so on it names; `auto` for what suits the
            photographs. Without, the dataset's first, or what suits if it has none.

    Raises:
        InputError: One line about the first argument that makes no sense.
    """
    if not re.fullmatch(r"[\w-]+/[\w-]+", name):
        raise InputError(f"{name!r} is no name of a scenario: give DATASET/NAME, as voc/10-2.")
    dataset = name.split("/")[0]
    native = class_table(dataset)[1:]
    classes = native if order is None else read_order(order, native)
    unlearned = _left_out(classes, native, left_out)
    is_native = classes == [name for name in native if name in classes]
    rank = "in the dataset's order" if is_native else "in an order of its own"
    if base is None and increment is None:
        steps, title = [classes], f"{len(classes)} classes in one step, {rank}{unlearned}."
    elif base is None or increment is None:
        raise InputError("give both --base and --increment, or neither: all classes in one step.")
    else:
        steps = divide(classes, base, increment)
        rest = "" if len(steps[-1]) == increment else f", the last of {len(steps[-1])}"
        title = f"{base} classes, then {increment} a step, {rank}: {len(steps)} steps{rest}"
        title += f"{unlearned}."
    chosen, numbers = overrides(dataset, like)
    return TEMPLATE.format(
        title=title,
        defaults="\n".join(f"  - {k}: {_value(v)}" for k, v in chosen.items()),
        name=name,
        order="" if is_native else "\n  order: own",
        left_out="" if left_out is None else f"\n  left_out: {left_out}",
        classes="\n".join(wrapped(f"step{k}", names) for k, names in enumerate(steps)),
        numbers=numbers,
    )


def class_table(dataset: str) -> list[str]:
    """Returns the names of a dataset's raw labels, from conf/dataset/ or its classes.txt.

    Raises:
        InputError: There is no such dataset, or no table, or a name in it holds `${`.
    """
    settings = _settings(dataset)
    table = Path(settings["root"]).expanduser() / "classes.txt"
    classes = list(settings["classes"] or read_names(table))
    for name in classes:
        refuse_interpolation(
            name, conf_file(f"dataset/{dataset}.yaml") if settings["classes"] else table
        )
    return classes


def _settings(dataset: str) -> dict[str, Any]:
    """Reads a dataset's file.

    Raises:
        InputError: There is none, or it does not say what classes there are, and where it lies.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = conf_file(f"dataset/{dataset}.yaml")
    if not path.is_file():
        known = sorted({file.stem for file in conf_files("dataset/*.yaml")})
        raise InputError(
            f"there is no dataset {dataset!r} in {path.parent}.{did_you_mean(dataset, known)}"
            f" Known: {', '.join(known)}."
        )
    try:
        settings = OmegaConf.load(path)
        found: dict[str, Any] = {"classes": settings.classes, "root": settings.root}
        layout = OmegaConf.select(settings, "layout", default=OmegaConf.create())
        found["layout"] = OmegaConf.to_container(layout, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path} must say `classes` and `root`: {said}.") from None
    return found


def read_order(order: str, known: Sequence[str]) -> list[str]:
    """Reads the classes off a text or a file and holds them against those of the dataset.

    Raises:
        InputError: A class is unknown or given twice.
    """
    if "," in order:
        given = [name.strip() for name in order.split(",")]
    elif Path(order).is_file():
        given = read_names(Path(order))
    else:
        raise InputError(f"--order {order}: no such file; or put commas between the names.")
    for name in given:
        if name not in known:
            raise InputError(
                f"--order: the dataset has no class {name!r}.{did_you_mean(name, known)}"
                f" Known: {', '.join(known)}."
            )
        if given.count(name) > 1:
            raise InputError(f"--order: {name!r} is given twice: leave one out.")
    return given


def _left_out(classes: Sequence[str], known: Sequence[str], meaning: LeftOut | None) -> str:
    """Says how many classes no step learns.

    Raises:
        InputError: There are some without a meaning, or there is a meaning and none of them.
    """
    left = [name for name in known if name not in classes]
    if left and meaning is None:
        raise InputError(
            f"--order lacks {', '.join(left)}: give every class but the background, or say with"
            " --left-out that they are background or void."
        )
    if meaning and not left:
        raise InputError(
            f"--left-out is {meaning}, but every class is learned: leave it out, or give --order"
            " fewer classes."
        )
    return f"; {len(left)} classes are {meaning}" if meaning else ""


def divide(classes: Sequence[str], base: int, increment: int) -> list[Sequence[str]]:
    """Divides the classes into steps; the last may be shorter.

    Raises:
        InputError: The numbers leave a step without a class.
    """
    count = len(classes)
    if count < 2:
        raise InputError(f"{count} class makes no two steps: give --order at least two classes.")
    if not 1 <= base < count:
        raise InputError(
            f"--base is {base}, and there are {count} classes: choose 1 to {count - 1}, so that"
            " there is a class left to learn."
        )
    if not 1 <= increment <= count - base:
        raise InputError(
            f"--increment is {increment}, and {count - base} classes come after the base: choose 1"
            f" to {count - base}."
        )
    starts = range(base, count, increment)
    return [classes[:base], *(classes[at : at + increment] for at in starts)]


def overrides(dataset: str, like: str | None) -> tuple[Mapping[str, str], str]:
    """Returns what a scenario of the dataset chooses of the other groups, and numbers as YAML.

    Raises:
        InputError: There is no scenario to take that from, nor a layout by which to see what suits.
    """
    named = conf_file(f"scenario/{like}.yaml")
    own = conf_files(f"scenario/{dataset}/*.yaml")
    if like == AUTO or (not like and not own and _settings(dataset)["layout"]):
        return _suited(dataset)
    files = [named] if like else own
    if not files or not files[0].is_file():
        known = ", ".join(sorted({path.parent.name for path in conf_files("scenario/*/*.yaml")}))
        raise InputError(
            f"there is no scenario {like or dataset + '/…'} in {CONF / 'scenario'}: name with"
            f" --like one whose model and schedule are to be taken, or `{AUTO}`. It has those of"
            f" {known}."
        )
    entries = yaml.safe_load(files[0].read_text(encoding="utf-8")).get("defaults", [])
    chosen = {key: value for entry in entries for key, value in entry.items()}
    return chosen | {"override /dataset": dataset}, ""


def _suited(dataset: str) -> tuple[Mapping[str, str], str]:
    from .recommend import recommend

    settings = _settings(dataset)
    root, layout = str(Path(settings["root"]).expanduser()), settings["layout"]
    found = recommend(dataset, root, layout, class_table(dataset))
    text = yaml.safe_dump(dict(found.numbers), sort_keys=False)
    return {"override /dataset": dataset, **found.overrides}, f"\n# For {found.reason}:\n{text}"


def wrapped(step: str, names: Sequence[str]) -> str:
    """Returns a step's line of classes in YAML, broken between names at 100 characters."""
    listed = ", ".join(quoted(name).replace(" ", "\0") for name in names)
    return textwrap.fill(
        f"{listed}]",
        width=100,
        initial_indent=f"    {step}: [",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\0", " ")


def _value(value: object) -> object:
    return quoted(value) if isinstance(value, str) else value


def quoted(text: str) -> str:
    """Returns a text as YAML that PyYAML, OmegaConf and YAML 1.2 read as that text.

    It is in quotes where one of them would read something else, such as `no`, `1:30` or `1e3`.
    """
    return text if is_plain(text) else _dumped(text, '"')


def is_plain(text: str) -> bool:
    """Whether every reader of YAML takes a text without quotes for itself, in a list as well."""
    if not text or text[0] in "+-." or text[0].isdigit() or text.strip() != text:
        return False
    return _dumped(text) == text


def _dumped(text: str, style: str | None = None) -> str:
    whole = yaml.safe_dump(
        [text], default_flow_style=True, width=1 << 20, allow_unicode=True, default_style=style
    )
    return whole.removeprefix("[").removesuffix("]\n")


def refuse_interpolation(name: str, where: object) -> None:
    """Refuses a class that a composition would replace by what is in the braces.

    Raises:
        InputError: The name holds `${`.
    """
    if "${" in name:
        raise InputError(
            f"{where} names a class {name!r}: Hydra and DVC put a value where `${{` stands, so"
            " give it a name without."
        )
