"""YAML without what it reads in silence: keys that stand twice, odd numbers, control characters.

Of two equal keys the last would count. YAML 1.1 reads `010` as 8 and `1:30` as 90; YAML 1.2, by
which DVC reads the same file, as 10 and as a text. A text in quotes may hold an escape sequence or
a line end, and names go into tables, paths and onto terminals.
"""

from collections.abc import Hashable
from typing import Any

import yaml

from cssegcore.core.config import shown
from cssegcore.core.names import unprintable


class NotPlainError(yaml.YAMLError):
    """A line says one thing to whoever reads it and another one to a program."""


class PlainLoader(yaml.SafeLoader):
    """`yaml.SafeLoader`, but what reads otherwise than it looks is refused, with its line."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a mapping.

        Raises:
            NotPlainError: It has a key twice.
        """
        before: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in before:
                    raise _refusal(key, f"the key {shown(key.value)} stands twice: take one out")
                before.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Returns the text of a scalar, whatever its kind.

        Raises:
            NotPlainError: It holds a control character.
        """
        if isinstance(node, yaml.ScalarNode) and unprintable(node.value):
            raise _refusal(
                node, f"the text {shown(node.value)} holds a control character: leave it out"
            )
        return super().construct_scalar(node)


def _whole(loader: PlainLoader, node: yaml.ScalarNode) -> int:
    _check_number(node)
    return loader.construct_yaml_int(node)


def _fraction(loader: PlainLoader, node: yaml.ScalarNode) -> float:
    _check_number(node)
    return loader.construct_yaml_float(node)


PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole)
PlainLoader.add_constructor("tag:yaml.org,2002:float", _fraction)


def _check_number(node: yaml.ScalarNode) -> None:
    digits = node.value.replace("_", "").lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits.isdecimal()
    if octal or ":" in digits:
        raise _refusal(
            node,
            f"{shown(node.value)} would be read in base {8 if octal else 60}: write the number in"
            " base 10, or a text in quotes",
        )


def _refusal(node: yaml.Node, problem: str) -> NotPlainError:
    return NotPlainError(f"line {node.start_mark.line + 1}: {problem}")
