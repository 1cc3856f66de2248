"""A training's curve as a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from cssegcore.core.files import write_text


def write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes rows of one set of columns as CSV, numbers with six significant digits."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())
