"""Numbers that papers print, with the table that each stands in: `published.json` beside this."""

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TABLES = Path(__file__).with_suffix(".json")


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """A row of a paper's table. ResNet-101 or the paper's own network; order of classes as said.

    Attributes:
        label: The paper's name for the method, with the source of a number from another paper.
        methods: Our recipes of that method.
        scenario: The scenario, by our name.
        setting: The rule that gives steps their images.
        counting: Name of the paper whose rules count classes and pixels.
        view: Size of the test images: whole, or a crop.
        orders: The orders of classes that the numbers are means over.
        numbers: Points by column: `base`, `added`, `all`, `harmonic`, `average`.
        deviations: Their deviations over seeds, where the paper has any.
        source: Paper and table.
    """

    label: str
    methods: tuple[str, ...]
    scenario: str
    setting: str
    counting: str
    view: str
    orders: tuple[str, ...]
    numbers: Mapping[str, float]
    deviations: Mapping[str, float]
    source: str


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Returns all rows, in the order of the file."""
    return tuple(
        _row(table, columns, row)
        for table in json.loads(TABLES.read_text(encoding="utf-8"))["tables"]
        for columns in [table["columns"]]
        for row in table["rows"]
    )


def _row(table: dict, columns: list[str], row: dict) -> PublishedRow:
    """Returns one row; values that all rows of a table share are in the table."""
    row = table | row
    numbers = dict(zip(columns, row["numbers"], strict=True))
    deviations = dict(zip(columns, row.get("deviations", []), strict=False))
    return PublishedRow(
        row["label"],
        tuple(row["methods"]),
        row["scenario"],
        row.get("setting", "overlapped"),
        row["counting"],
        row.get("view", "crop"),
        tuple(row.get("orders", ["native"])),
        {key: value for key, value in numbers.items() if value is not None},
        {key: value for key, value in deviations.items() if value is not None},
        row["source"],
    )
