import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from cssegcore.core.config import did_you_mean, parse
from cssegcore.core.errors import InputError

QUOTES = " Put it in quotes: without them, YAML takes it for something else."


@dataclasses.dataclass(frozen=True)
class Inner:
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"`weight` must be >= 0, got {self.weight}")


@dataclasses.dataclass(frozen=True)
class Every:
    whole: int = 0
    number: float = 0.0
    text: str = ""
    flag: bool = False
    choice: Literal["left", "right"] = "left"
    maybe: int | None = None
    pair: tuple[int, float] = (0, 0.0)
    many: tuple[int, ...] = ()
    names: list[str] = dataclasses.field(default_factory=list)
    table: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    mapping: Mapping[str, float] = dataclasses.field(default_factory=dict)
    nested: Inner = Inner()
    parts: dict[str, Inner] = dataclasses.field(default_factory=dict)
    either: int | list[int] = 0
    anything: Any = None


@dataclasses.dataclass(frozen=True)
class Needed:
    size: int
    place: str = "here"


@pytest.mark.parametrize(
    ("key", "given", "kept"),
    [
        ("whole", 3, 3),
        ("number", 3, 3.0),
        ("number", "1e-4", 1e-4),  # so YAML 1.1 reads it
        ("text", "3", "3"),
        ("flag", True, True),
        ("choice", "right", "right"),
        ("maybe", None, None),
        ("maybe", 3, 3),
        ("pair", [1, 2], (1, 2.0)),
        ("many", [1, 2, 3], (1, 2, 3)),
        ("names", ("a", "b"), ["a", "b"]),
        ("table", {"a": [1], 2: []}, {"a": [1], "2": []}),
        ("mapping", {"a": 1}, {"a": 1.0}),
        ("nested", {"weight": 2}, Inner(2.0)),
        ("nested", {}, Inner()),
        ("parts", {"ce": {"weight": 3}}, {"ce": Inner(3.0)}),
        ("either", [1], [1]),
        ("anything", {"a": [None]}, {"a": [None]}),
    ],
)
def test_a_value_that_fits_is_kept_as_its_kind(key, given, kept):
    value = getattr(parse(Every, {key: given}, "top"), key)
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"whole": 1.0}, "`top.whole` must be a whole number, got 1.0."),
        ({"whole": True}, "`top.whole` must be a whole number, got True."),
        ({"whole": "3"}, "`top.whole` must be a whole number, got '3'."),
        ({"whole": None}, "`top.whole` must be a whole number, got None."),
        ({"number": True}, "`top.number` must be a number, got True."),
        ({"number": "many"}, "`top.number` must be a number, got 'many'."),
        ({"text": 3}, f"`top.text` must be a text, got 3.{QUOTES}"),
        ({"text": True}, f"`top.text` must be a text, got True.{QUOTES}"),
        ({"names": [None]}, f"`top.names[0]` must be a text, got None.{QUOTES}"),
        ({"flag": 1}, "`top.flag` must be true or false, got 1."),
        ({"flag": "yes"}, "`top.flag` must be true or false, got 'yes'."),
        ({"choice": "up"}, "`top.choice` must be one of left, right; got 'up'."),
        ({"choice": ["left"]}, "`top.choice` must be one of left, right; got ['left']."),
        ({"maybe": "x"}, "`top.maybe` must be a whole number, got 'x'."),
        ({"pair": [1]}, "`top.pair` must hold 2 values, got [1]."),
        ({"pair": [1, "x"]}, "`top.pair[1]` must be a number, got 'x'."),
        ({"many": [1, 2, "x"]}, "`top.many[2]` must be a whole number, got 'x'."),
        ({"many": "123"}, "`top.many` must be a list, got '123'."),
        ({"names": ["a", 1]}, f"`top.names[1]` must be a text, got 1.{QUOTES}"),
        ({"table": {"a": [1, "x"]}}, "`top.table.a[1]` must be a whole number, got 'x'."),
        ({"table": [1]}, "`top.table` must be a mapping, got [1]."),
        ({"nested": 3}, "`top.nested` must be a mapping of keys, got 3."),
        ({"nested": {"weight": "x"}}, "`top.nested.weight` must be a number, got 'x'."),
        ({"nested": {"weight": -1}}, "`top.nested`: `weight` must be >= 0, got -1.0"),
        ({"parts": {"ce": {"weight": []}}}, "`top.parts.ce.weight` must be a number, got []."),
        ({"either": "x"}, "`top.either` must be a whole number, got 'x'."),
        ("text", "`top` must be a mapping of keys, got 'text'."),
        (None, "`top` must be a mapping of keys, got None."),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_whole_key(values, line):
    with pytest.raises(InputError) as refused:
        parse(Every, values, "top")
    assert str(refused.value) == line


def test_an_unknown_key_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(InputError) as refused:
        parse(Every, {"nested": {"wieght": 1}}, "top")
    assert str(refused.value) == (
        "`top.nested.wieght` is not a key of `top.nested`. Did you mean `weight`? Known: weight."
    )
    with pytest.raises(InputError, match=r"^`top.xyz` is not a key of `top`\. Known: whole, numb"):
        parse(Every, {"xyz": 1}, "top")
    with pytest.raises(InputError, match=r"`top.1` is not a key"):
        parse(Every, {1: 1}, "top")


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match=r"^`top.size` is missing\.$"):
        parse(Needed, {"place": "there"}, "top")
    assert parse(Needed, {"size": 1}, "top") == Needed(1, "here")


def test_the_nearest_word_is_only_named_if_it_is_near():
    assert did_you_mean("overlaped", ["overlapped", "disjoint"]) == " Did you mean `overlapped`?"
    assert did_you_mean("zzz", ["overlapped", "disjoint"]) == ""
