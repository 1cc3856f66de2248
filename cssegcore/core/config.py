"""Builds dataclasses from plain data, and refuses keys and values that do not fit.

Parameter files and recipes are plain mappings; every one of them becomes a dataclass here, so that
a misspelt key or a value of the wrong kind stops at once, with the key's full name.
"""

import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

from cssegcore.core.errors import InputError

_T = TypeVar("_T")

LONGEST = 200
"""Characters of a value that a message shows."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: object) -> str:
    """Returns a value as a message shows it: cut, since a few lines of YAML may be gigabytes."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def cut(key: object) -> str:
    """Returns a key as a message names it: one line, and not longer than a name is."""
    text = " ".join(str(key)[:LONGEST].split())
    return text if len(text) <= 60 else f"{text[:60]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " Did you mean …?" if something known is close to `word`, else "" ."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def flatten(values: Mapping[str, object], between: str = ".") -> dict[str, object]:
    """Returns nested mappings as one, whose keys are the path with `between` in between.

    An empty mapping stays a value: leaving a slot empty differs from not having it.
    """
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}{between}{k}": v for k, v in flatten(value, between).items()}
        else:
            flat[str(key)] = value
    return flat


def parse(cls: type[_T], values: object, where: str) -> _T:
    """Builds the dataclass `cls` from a mapping.

    Args:
        cls: A dataclass; its annotations say what fits. `__post_init__` may raise `ValueError`. Its
            attribute `MOVED`, if any, maps a key of old to the whole key that took its place.
        values: A mapping of plain data, as YAML or JSON gives it.
        where: The key under which `values` stands, named in errors.

    Raises:
        InputError: A key is unknown or missing, or a value is of the wrong kind or refused.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"`{where}` must be a mapping of keys, got {shown(values)}.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise _unknown(key, where, fields, getattr(cls, "MOVED", {}))
    hints = typing.get_type_hints(cls)
    given = {}
    for name, field in fields.items():
        if name in values:
            given[name] = _convert(hints[name], values[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"`{where}.{name}` is missing.")
    return _made(cls, given, where)


def _made(cls: type[_T], given: Mapping[str, Any], where: str) -> _T:
    try:
        return cls(**given)
    except InputError:  # of a part in it, with that part's own key
        raise
    except ValueError as error:
        raise InputError(f"`{where}`: {error}") from None


def _unknown(
    key: object, where: str, known: Iterable[str], moved: Mapping[object, str]
) -> InputError:
    if key in moved:
        return InputError(f"`{where}.{key}` is now `{moved[key]}`: give it there.")
    return InputError(
        f"`{where}.{cut(key)}` is not a key of `{where}`.{did_you_mean(cut(key), known)}"
        f" Known: {', '.join(known) or 'none'}."
    )


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any annotation, any value
    """Returns `value` as the annotation `hint` wants it, or raises `InputError`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return parse(hint, value, where)
    if origin in (Union, types.UnionType):
        return _fit_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            known = ", ".join(map(str, arguments))
            raise InputError(f"`{where}` must be one of {known}; got {shown(value)}.")
        return value
    if origin in (list, tuple):
        return _fit_sequence(origin, arguments, value, where)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise InputError(f"`{where}` must be a mapping, got {shown(value)}.")
        return {str(k): _convert(arguments[1], v, f"{where}.{cut(k)}") for k, v in value.items()}
    return _fit_scalar(hint, value, where)


def _fit_union(arguments: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and type(None) in arguments:
        return None
    others = [a for a in arguments if a is not type(None)]
    failures = []
    for other in others:
        try:
            return _convert(other, value, where)
        except InputError as error:
            failures.append(error)
    raise failures[0]


def _fit_sequence(
    origin: type, arguments: tuple[Any, ...], value: object, where: str
) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(f"`{where}` must be a list, got {shown(value)}.")
    if origin is tuple and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise InputError(f"`{where}` must hold {len(arguments)} values, got {shown(value)}.")
        kinds = arguments
    else:
        kinds = (arguments[0],) * len(value)
    return origin(
        _convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
    )


def _fit_scalar(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if hint is Any or hint is object:
        return value
    if hint in (int, float) and isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(f"`{where}` must be a number of 64 bits, got {shown(value)}.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    kinds = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    quotes = " Put it in quotes: without them, YAML takes it for something else." * (hint is str)
    raise InputError(
        f"`{where}` must be {kinds.get(hint, hint.__name__)}, got {shown(value)}.{quotes}"
    )
