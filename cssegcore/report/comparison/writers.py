"""A comparison as text for a terminal, Markdown, LaTeX (booktabs) and CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from cssegcore.report.comparison.runs import FinishedRun
from cssegcore.report.comparison.table import ComparedBlock, ComparedRow, Comparison, RunSpread

BLANK = "–"
EXPLAINED = (
    "mIoU in points after the last step; mean ± sample deviation over seeds{orders}. Best"
    " {mark}{bound}."
)


def as_text(comparison: Comparison) -> str:
    """Returns one table a benchmark, in columns of letters; the best stands behind an asterisk."""
    parts = []
    for block in comparison.blocks:
        table = _cells(comparison, block, lambda text: f"*{text}", lambda text: text)
        parts.append(f"{block.benchmark.title}\n\n{_aligned(table)}")
    return "\n\n".join([*parts, "\n".join(_notes(comparison, "behind an asterisk"))]) + "\n"


def as_markdown(comparison: Comparison) -> str:
    """Returns one table a benchmark; the best is bold."""
    parts = []
    for block in comparison.blocks:
        head, *rows = _cells(comparison, block, lambda text: f"**{text}**", _for_markdown)
        rule = ["---", *["---:"] * (len(head) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
        parts.append(f"### {_for_markdown(block.benchmark.title)}\n\n" + "\n".join(lines))
    notes = [f"- {_for_markdown(note)}" for note in _notes(comparison, "in bold")]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def as_latex(comparison: Comparison) -> str:
    r"""Returns one table in which every benchmark has columns of its own; the best is bold.

    It needs `\usepackage{booktabs}`; a table of many benchmarks is set in a small `\tabcolsep`.
    """
    heads, blocks = list(comparison.columns.values()), comparison.blocks
    names = list(dict.fromkeys(_row_name(row) for block in blocks for row in block.rows))
    found = [_latex_cells(comparison, block) for block in blocks]
    empty = ["--"] * len(heads)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{@{{}}l{'r' * len(heads) * len(blocks)}@{{}}}}",
        "\\toprule",
        *_latex_heads(blocks, len(heads)),
        " & ".join(["method", *[_for_latex(head) for _ in blocks for head in heads]]) + " \\\\",
        "\\midrule",
        *(
            " & ".join([_for_latex(name), *(c for by in found for c in by.get(name, empty))])
            + " \\\\"
            for name in names
        ),
        "\\bottomrule",
        "\\end{tabular}",
        *(f"% {' '.join(note.split())}" for note in _notes(comparison, "in bold")),
    ]
    return "\n".join(lines) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Returns one line a number: benchmark, method, metric, mean, deviations, runs, source."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    head = ("scenario", "setting", "protocol", "counting", "method", "changed", "metric", "mean")
    writer.writerow([*head, "std_seeds", "std_orders", "orders", "runs", "best", "source"])
    for block in comparison.blocks:
        best, place = comparison.best(block), block.benchmark
        for at, row in enumerate(block.rows):
            told = "; ".join(f"{k}={v}" for k, v in _changed(row.runs).items())
            for column, (key, cell) in enumerate(zip(comparison.columns, row.cells, strict=True)):
                if cell is not None:
                    numbers = (cell.mean, cell.over_seeds, cell.over_orders)
                    writer.writerow(
                        [place.scenario, place.setting, place.protocol, comparison.counting]
                        + [row.label, told, key]
                        + ["" if n is None else f"{n:.4f}" for n in numbers]
                        + [" ".join(row.orders), len(row.runs), int(at in best[column])]
                        + [row.source or "ours"]
                    )
    return table.getvalue()


TABLE_WRITERS: Mapping[str, Callable[[Comparison], str]] = {
    "text": as_text,
    "md": as_markdown,
    "tex": as_latex,
    "csv": as_csv,
}
"""Writers by the ending of the file; `text` is the writer of printed tables."""


def spread_text(cell: RunSpread | None, plus_minus: str = "±") -> str:
    """Returns `71.8 ± 0.9`; a third number is the deviation over orders of classes."""
    if cell is None:
        return BLANK
    numbers = [cell.mean, *(d for d in (cell.over_seeds, cell.over_orders) if d is not None)]
    if cell.over_orders is not None and cell.over_seeds is None:
        return f"{cell.mean:.1f} ({plus_minus} {cell.over_orders:.1f})"
    first, *rest = (f"{number:.1f}" for number in numbers)
    said = f" {plus_minus} ".join([first, *rest[:1]])
    return f"{said} ({plus_minus} {rest[1]})" if len(rest) > 1 else said


def _cells(
    comparison: Comparison,
    block: ComparedBlock,
    marked: Callable[[str], str],
    escaped: Callable[[str], str],
) -> list[list[str]]:
    """Returns the head and the rows of a table of one benchmark."""
    best = comparison.best(block)
    rows = [["method", "runs", *comparison.columns.values()]]
    for at, row in enumerate(block.rows):
        texts = [spread_text(cell) for cell in row.cells]
        shown = [marked(t) if at in of else t for t, of in zip(texts, best, strict=True)]
        rows.append([escaped(row.label), escaped(row.count), *shown])
    return rows


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for name, *rest in table:
        cells = [f"{c:>{w}}" for c, w in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([f"{name:{widths[0]}}", *cells]).rstrip())
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def _latex_cells(comparison: Comparison, block: ComparedBlock) -> dict[str, list[str]]:
    best = comparison.best(block)
    return {
        _row_name(row): [
            f"\\textbf{{{text}}}" if at in of else text
            for text, of in zip([_latex_spread(c) for c in row.cells], best, strict=True)
        ]
        for at, row in enumerate(block.rows)
    }


def _latex_spread(cell: RunSpread | None) -> str:
    return spread_text(cell, "$\\pm$").replace(BLANK, "--")


def _latex_heads(blocks: Sequence[ComparedBlock], width: int) -> Iterable[str]:
    titles = [_for_latex(block.benchmark.title) for block in blocks]
    yield " & ".join(["", *(f"\\multicolumn{{{width}}}{{c}}{{{t}}}" for t in titles)]) + " \\\\"
    spans = [(2 + at * width, 1 + (at + 1) * width) for at in range(len(blocks))]
    yield "".join(f"\\cmidrule(lr){{{a}-{b}}}" for a, b in spans)


def _row_name(row: ComparedRow) -> str:
    return f"{row.label} [{row.source}]" if row.source else row.label


def _notes(comparison: Comparison, mark: str) -> list[str]:
    """Returns the notes below a table."""
    rows = [row for block in comparison.blocks for row in block.rows]
    orders = "; in brackets over orders of classes" * any(len(row.orders) > 1 for row in rows)
    bound = "; runs that see all images so far stand apart" * any(row.is_bound for row in rows)
    notes = [EXPLAINED.format(orders=orders, mark=mark, bound=bound)]
    if comparison.counting != "own":
        notes.append(f"Counted as in the tables of {comparison.counting.upper()}.")
    for row in rows:
        notes += row.notes
        if (changed := _changed(row.runs)) and not row.source:
            told = ", ".join(f"{key}={value}" for key, value in changed.items())
            notes.append(f"{row.label}: changed from the default: {told}")
    for source, labels in _sources(rows).items():
        notes.append(f"{', '.join(labels)}: {source}")
    return list(dict.fromkeys(notes))


def _sources(rows: Iterable[ComparedRow]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.source and row.label not in found.setdefault(row.source, []):
            found[row.source].append(row.label)
    return found


def _changed(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Returns the changes of runs, by key; values in which they differ stand side by side."""
    found: dict[str, dict[str, None]] = {}
    for key, value in (item for run in runs for item in run.changed.items()):
        found.setdefault(key, {})[value] = None
    return {key: " | ".join(values) for key, values in found.items()}


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\dots{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _for_latex(text: str) -> str:
    return re.sub(".", lambda sign: _LATEX.get(sign[0], sign[0]), text)


def _for_markdown(text: str) -> str:
    return re.sub(r"([|*_`<\\\[])", r"\\\1", text)
