"""Parts, found by name in the library's own folders.

A slot is a package (`cssegcore.method.losses`, `cssegcore.models.architectures`, …). A part is one
module of it with one dataclass: the module's name is the part's name, the dataclass's fields are
its numbers. So a recipe can only name a part that lies in these folders, to add a part is to add a
file, and a run depends on the files of its own parts alone.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TypeVar

from cssegcore.core.config import cut, did_you_mean, parse, shown
from cssegcore.core.errors import InputError

_T = TypeVar("_T")


def part_names(package: str) -> list[str]:
    """Lists the parts of the slot `package` (a module path) without importing them."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def part_module(package: str, recipe: object, where: str) -> str:
    """Returns the module path of the part that `recipe` (`{part: name, …}`) names.

    Raises:
        InputError: `recipe` names no part, one that is not in the slot, or one by the name that it
            had before (`RENAMED` of the slot's package).
    """
    if not isinstance(recipe, Mapping) or not isinstance(recipe.get("part"), str):
        raise InputError(f"`{where}` must be a mapping with a key `part`, got {shown(recipe)}.")
    name, known = recipe["part"], part_names(package)
    if renamed := getattr(importlib.import_module(package), "RENAMED", {}).get(name):
        raise InputError(f"`{where}.part`: {name!r} is now {renamed!r}: write that.")
    if name not in known:
        raise InputError(
            f"`{where}.part`: there is no part {shown(name)} in {package}."
            f"{did_you_mean(cut(name), known)} Known: {', '.join(known)}."
        )
    return f"{package}.{name}"


def build_part(package: str, base: type[_T], recipe: object, where: str) -> _T:
    """Builds the part that `recipe` names from the recipe's other keys.

    Args:
        package: The slot's module path.
        base: The slot's abstract class; the part is the one subclass its module defines.
        recipe: `{part: name, **numbers}`.
        where: The recipe's key in the parameters, named in errors.

    Raises:
        InputError: Unknown part, one that is not of the class `base`, unknown or missing number, or
            a value the part refuses.
    """
    module = part_module(package, recipe, where)
    assert isinstance(recipe, Mapping)
    cls = _class_of(module, base)
    if cls is None:
        raise InputError(
            f"`{where}.part`: {recipe['part']!r} is no {base.__name__}, which must stand here."
        )
    numbers = {k: v for k, v in recipe.items() if k != "part"}
    moved = getattr(cls, "MOVED", {})  # of these the next line says where they are
    if unknown := [k for k in numbers if k not in _keys(cls) and k not in moved]:
        _refuse_keys_of_another_part(package, base, recipe["part"], unknown, where)
    return parse(cls, numbers, where)


def _class_of(module: str, base: type[_T]) -> type[_T] | None:
    found = vars(importlib.import_module(module)).values()
    own = [c for c in found if isinstance(c, type) and c.__module__ == module]
    classes = [c for c in own if issubclass(c, base)]
    assert len(classes) <= 1, f"{module} defines {classes}"
    return classes[0] if classes else None


def _keys(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if field.init}


def _refuse_keys_of_another_part(
    package: str, base: type, name: str, unknown: Sequence[object], where: str
) -> None:
    """Refuses keys that were left when `part` was changed; leaves others, misspelt ones, alone."""
    for other in part_names(package):
        cls = _class_of(f"{package}.{other}", base)
        left = [key for key in unknown if cls is not None and key in _keys(cls)]
        if left and len(left) == len(unknown):
            out = " ".join(f"-S '~{where}.{key}'" for key in left)
            raise InputError(
                f"`{where}.{left[0]}` is not a key of `{where}` with `part: {name}`, but of"
                f" {other!r}: take out what was meant for that (`{out}`)."
            )
