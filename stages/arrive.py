"""Makes photographs and classes that have come the next step of a running project."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import bar, run, say
from .common.params import NAME, PARAMS, Params, read_params

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset
    from cssegcore.data.index import Entry
    from cssegcore.data.layouts._base import Split
    from cssegcore.scenario.domains import Chosen
    from cssegcore.scenario.lists import StepLists

    from .common.freezing import Frozen


def main(
    photographs: Annotated[
        list[str] | None,
        typer.Argument(help="Their names, or folders below images/; else all that are new."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="New classes, commas between; else all that no step learns."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Name or folder to hold out; else by the dataset's lists, or names."),
    ] = None,
    annotated: Annotated[
        str | None, typer.Option(help="Classes whose labels may be trained on; else the new ones.")
    ] = None,
    step: Annotated[str | None, typer.Option(help="Its name; else the next number.")] = None,
    *,
    no_old_classes: Annotated[
        bool, typer.Option("--no-old-classes", help="No old class is on any new test photograph.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Allow that earlier steps are trained again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say all, write nothing.")] = False,
) -> None:
    """Add a step of new photographs and new classes; nothing before it is trained again.

    Put photographs and label images into the dataset and append the classes to classes.txt first.
    Training labels need the new classes only; test labels need all classes, old ones too. The lists
    of earlier steps are frozen, so what is held out stays held out.
    """
    from cssegcore.core.files import write_text
    from cssegcore.data.dataset import open_dataset
    from cssegcore.scenario.arrivals import hold_out
    from cssegcore.scenario.lists import StepLists

    from .common.extending import extended_params, extended_scenario
    from .common.freezing import freeze, list_file, trains_again

    params = read_params()
    dataset = open_dataset(params.dataset)
    _check_running(params, dataset)
    frozen = freeze(params)
    step = _checked(step or _next(params.scenario.last), params)
    learned = _new_classes(params, dataset, classes)
    if not retrain and (reasons := trains_again(params, learned)):
        raise InputError(reasons[0])
    entries = _examine(dataset, _new_names(params, dataset, frozen, photographs))
    held_out = None if test is None else _named(test, [entry.name for entry in entries])
    images = hold_out(entries, learned, held_out, _listed_parts(dataset))
    _check_tests(params, dataset, step, learned, images, no_old_classes=no_old_classes)

    own: dict[str, str | None] = {}
    for kind, chosen in images._asdict().items():
        path = list_file(params.scenario.name, step, kind)
        own[kind] = path.as_posix() if chosen else None
        frozen.files.update({path: [entry.name for entry in chosen]} if chosen else {})
    readable = annotated.split(",") if annotated else None
    lists = frozen.lists | {
        step: StepLists(str(own["train"]), own["test"], own["val"], annotated=readable)
    }
    _check_result(params, dataset, step, [*learned.values()], lists)
    _check_shared(params, entries, lists, frozen)
    path, text = extended_scenario(params, step, [*learned.values()], lists)
    changed = extended_params(params, step, [*learned.values()], lists)
    _check_free(frozen.files)
    if not dry_run:
        for file, names in frozen.files.items():
            write_text(file, "".join(f"{name}\n" for name in names))
        write_text(path, text)
        write_text(PARAMS, changed)
    counts = ", ".join(f"{len(chosen)} to {kind}" for kind, chosen in images._asdict().items())
    say(f"{step} learns {', '.join(learned.values())}: {counts} (val: to monitor)")
    say("nothing is written." if dry_run else f"{path} and params.yaml have it; next: `dvc repro`")


def _check_running(params: Params, dataset: "Dataset") -> None:
    """Refuses a project whose steps cannot be frozen as they are."""
    from cssegcore.data.index import read_index

    from .common.freezing import INDEX

    params.check_chain()
    if params.scenario.domains:
        raise InputError("`scenario.setting` is by domain: steps by lists bring classes.")
    if not INDEX.is_file():
        raise InputError(f"{INDEX} is not there: run `dvc repro`, so that it is known what is new.")
    _, table = read_index(INDEX)
    if dataset.classes[: len(table)] != table:
        raise InputError(
            f"the class table was {', '.join(table)} and is {', '.join(dataset.classes)}: append"
            " new classes to its end, since label images hold the numbers."
        )


def _next(last: str) -> str:
    """Returns the name of the step after `last`."""
    if match := re.fullmatch(r"(.*?)(\d+)", last):
        return f"{match[1]}{int(match[2]) + 1}"
    raise InputError(f"the last step is called {last!r}: name the new one with --step.")


def _checked(step: str, params: Params) -> str:
    """Returns the name of the new step, out of which files and folders are named."""
    if not NAME.fullmatch(step):
        raise InputError(
            f"--step {step!r}: lists and folders have steps' names, so use letters, digits, `_` and"
            " `-`, as summer."
        )
    if step in params.scenario.classes:
        raise InputError(
            f"--step {step!r}: {PARAMS} has such a step already: give another name, or leave --step"
            f" out. Known: {', '.join(params.scenario.classes)}."
        )
    return step


def _new_classes(params: Params, dataset: "Dataset", given: str | None) -> dict[int, str]:
    """Returns the names of the classes to learn, by raw label."""
    from .common.scenarios import refuse_interpolation

    learned = {name for names in params.scenario.classes.values() for name in names}
    names = [name.strip() for name in given.split(",")] if given else None
    if names is None and params.scenario.left_out is not None:
        raise InputError("`scenario.left_out` is set: name the new classes with --classes.")
    names = names or [name for name in dataset.classes[1:] if name not in learned]
    if not names:
        raise InputError(
            f"all classes of {dataset.root / 'classes.txt'} are learned: append the new ones."
        )
    for name in names:
        refuse_interpolation(name, dataset.root / "classes.txt")
        if name not in dataset.classes or name in learned:
            why = "a step learns it already" if name in learned else "classes.txt lacks it"
            raise InputError(f"--classes: {name!r} is no new class: {why}.")
    return {dataset.classes.index(name): name for name in names}


def _new_names(
    params: Params, dataset: "Dataset", frozen: "Frozen", given: Sequence[str] | None
) -> list[str]:
    """Lists the photographs that come with the step, none of which an earlier step has."""
    from cssegcore.data.index import read_index
    from cssegcore.data.layouts._base import SPLITS, read_names

    names = sorted({name for part in SPLITS for name in dataset.names(part)})
    used = {name for listed in frozen.files.values() for name in listed}
    for lists in frozen.lists.values():
        for place in (lists.train, lists.val, lists.test):
            if place and Path(place) not in frozen.files:
                used.update(read_names(Path(place)))
    if given:
        chosen = _named(given, names)
        if taken := [name for name in chosen if name in used]:
            raise InputError(f"{taken[0]!r} is in a list of an earlier step: name new ones only.")
        return chosen
    if not params.scenario.lists:
        used |= {entry.name for entry in read_index(Path("work/index.csv"))[0]}
    if new := [name for name in names if name not in used]:
        return new
    lists = "" if dataset.layout.draws_parts(dataset.root) else " and add them to its lists"
    raise InputError(
        f"no photograph below {dataset.root} is new: put some there with their label images{lists},"
        " or name those that the last run saw already and no step has, as `cssegcore arrive june`."
    )


def _listed_parts(dataset: "Dataset") -> dict[str, "Split"] | None:
    """Returns the part that the dataset's lists give each photograph; None without lists."""
    if dataset.layout.draws_parts(dataset.root):
        return None
    parts: tuple[Split, ...] = ("train", "val", "test")  # a test list may stand for `val`, too
    return {name: part for part in parts for name in dataset.names(part)}


def _named(given: Iterable[str], names: Sequence[str]) -> list[str]:
    """Returns the names among `names`, and those in folders of them, in their order."""
    places = [place.rstrip("/") for place in given]
    for place in places:
        if not any(name == place or name.startswith(f"{place}/") for name in names):
            raise InputError(f"there is no new photograph or folder of such {place!r}.")
    return [n for n in names if any(n == place or n.startswith(f"{place}/") for place in places)]


def _examine(dataset: "Dataset", names: Sequence[str]) -> list["Entry"]:
    """Reads photographs and label images through, as `index` will."""
    from cssegcore.data.index import examine

    return [examine(dataset, name, ()) for name in bar("images")(names, len(names))]


def _check_tests(
    params: Params,
    dataset: "Dataset",
    step: str,
    learned: dict[int, str],
    images: "Chosen",
    *,
    no_old_classes: bool,
) -> None:
    """Holds the test labels against all classes, of which they must have every one they show."""
    shown = {raw for entry in images.test for raw in entry.present}
    old = [name for names in params.scenario.classes.values() for name in names]
    seen = [name for name in old if dataset.classes.index(name) in shown]
    if images.test and not seen and not no_old_classes:
        raise InputError(
            f"the labels of the {len(images.test)} new test photographs ({images.test[0].name}, …)"
            f" have none of the old classes {', '.join(old)}. Test labels need all classes: where"
            " an old one is not annotated, a right prediction counts as wrong. Annotate them, or"
            " add --no-old-classes if none is there. Training labels need the new ones only."
        )
    tests = len(images.test)
    say(f"{step}: the labels of {tests} test photographs show {', '.join(seen) or 'no old class'}")
    for raw, name in learned.items():
        if raw not in shown:
            say(f"warning: no new test photograph shows {name}: its IoU will not be known")
    say(
        f"earlier test photographs stay; where {', '.join(learned.values())} can be seen on one,"
        " annotate it there, or it counts as background"
    )


def _check_result(
    params: Params, dataset: "Dataset", step: str, learned: list[str], lists: dict
) -> None:
    """Builds the scenario that will stand in the files."""
    from cssegcore.scenario.scenario import Scenario

    steps = params.scenario.classes | {step: learned}
    Scenario.of("listed", dataset.classes, steps, None, None, params.scenario.left_out, lists)


def _check_shared(
    params: Params, entries: list["Entry"], lists: dict[str, "StepLists"], frozen: "Frozen"
) -> None:
    """Refuses what `split` would: photographs that a list trains on and another one holds out."""
    from cssegcore.data.index import read_index
    from cssegcore.data.layouts._base import read_names
    from cssegcore.scenario.splits import check_leaks

    if params.evaluation.shared == "allow":
        return
    known = {entry.name: entry for entry in [*read_index(Path("work/index.csv"))[0], *entries]}
    parts: dict[str, list[str]] = {}
    for given in lists.values():
        for kind in ("train", "val", "test"):
            if place := getattr(given, kind):
                for name in frozen.files.get(Path(place)) or read_names(Path(place)):
                    parts.setdefault(name, []).append(kind)
    check_leaks(
        [replace(known[name], parts=tuple(kinds)) for name, kinds in parts.items() if name in known]
    )


def _check_free(files: dict[Path, list[str]]) -> None:
    """Refuses to write over lists of another content."""
    for path, names in files.items():
        text = "".join(f"{name}\n" for name in names)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise InputError(f"{path} is there with other names: move it away, or delete it.")


if __name__ == "__main__":
    run(main)
