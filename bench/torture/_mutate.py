"""Files changed at random: bytes, or the values of JSON, YAML and CSV."""

import csv
import io
import json
import random
from collections.abc import Callable
from typing import Any

import yaml

Mutate = Callable[[random.Random, bytes], bytes]

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 2**70, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), "", " ", "0", "none", "../../x", "/etc/hostname", "a\0b"),
    *("x" * 10_000, "\u202e\u2028", "\x1b[31m", "🐈", "t0", "step1", [], {}, [[]], [None]),
    *({"part": "none"}, {"": ""}, [0] * 300, [[0, 1], [2]], {"images": []}),
)
"""Values that something may not be ready for."""


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    """Changes a file as disks, transfers and editors do."""
    data, size = bytearray(content), len(content)
    at = rng.randrange(size) if size else 0
    length = rng.choice((1, 2, 4, 16, 64, 512))
    match rng.randrange(9):
        case 0 | 1 | 2 if size:
            data[at] ^= 1 << rng.randrange(8)
        case 3 if size:
            data[at] = rng.choice((0, 255, 10, 34, 44, 45, 91, 123, 127, rng.randrange(256)))
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = rng.randbytes(length)
        case 6:
            data[at : at + length] = bytes(len(data[at : at + length]))
        case 7:
            data[at:at] = data[at : at + length]
        case _:
            del data[at:]
    return bytes(data)


def flip_bit(rng: random.Random, content: bytes) -> bytes:
    """Flips one bit, as a disk or a memory cell does by itself."""
    data = bytearray(content)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def change_json(rng: random.Random, content: bytes) -> bytes:
    """Changes a value, a key or a place in JSON, or the bytes of it."""
    if rng.random() < 0.4:
        return change_bytes(rng, content)
    return json.dumps(changed(rng, json.loads(content)), ensure_ascii=False).encode(
        errors="replace"
    )


def change_yaml(rng: random.Random, content: bytes) -> bytes:
    """The same in YAML."""
    if rng.random() < 0.3:
        return change_bytes(rng, content)
    value = changed(rng, yaml.safe_load(content))
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode(errors="replace")


def change_lines(rng: random.Random, content: bytes) -> bytes:
    """Changes a line or a cell of a list or a table, or the bytes of it."""
    if rng.random() < 0.4:
        return change_bytes(rng, content)
    rows = list(csv.reader(io.StringIO(content.decode())))
    at = rng.randrange(len(rows))
    match rng.randrange(5):
        case 0:
            del rows[at]
        case 1:
            rows.insert(rng.randrange(len(rows)), rows[at])
        case 2:
            rows[at] = rows[at][:-1] if rng.random() < 0.5 else [*rows[at], "1"]
        case _:
            cell = rng.randrange(max(1, len(rows[at])))
            rows[at][cell : cell + 1] = [str(rng.choice(NASTY)).replace("\0", "\x01")]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="replace")


def changed(rng: random.Random, value: object) -> object:
    """Returns plain data with one thing in it changed."""
    places = list(_places(value))
    if not places:
        return rng.choice(NASTY)
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case 1:
            holder.insert(key, holder[key])
        case 2:
            other, place = rng.choice(places)
            holder[key], other[place] = other[place], holder[key]
            try:
                json.dumps(value)
            except (ValueError, RecursionError):  # it holds itself now
                other[place], holder[key] = holder[key], None
                holder[key] = 7
        case 3 if isinstance(holder[key], int | float):
            holder[key] = rng.choice((-holder[key], holder[key] + 1, holder[key] * 10**6, 0))
        case _:
            holder[key] = rng.choice(NASTY)
    return value


def _places(value: object) -> list[tuple[Any, Any]]:
    """Lists every value within plain data by what holds it and its key."""
    found: list[tuple[Any, Any]] = []
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in inside:
        found.append((value, key))
        found += _places(inner)
    return found
