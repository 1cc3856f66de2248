"""The page of results, out of the files that families left."""

import json
from pathlib import Path
from typing import Any

from bench.torture._ledger import BAD, OTHER, REFUSED, SAME, read_rows

TITLES = {
    "kills": "Stages killed",
    "pipeline": "`dvc repro` killed",
    "tracking": "Tracking away",
    "disk": "Disk full",
    "rot": "Bit rot",
    "processes": "Several processes",
    "mutations": "Changed files",
    "hostile": "Hostile files",
}

HEAD = """# Reliability

What goes wrong on purpose, how often, and what came of it. `python -m bench.torture` does it,
family by family, in temporary folders and with a seed; `--full` does {full:g} times as much. It
leaves a file a family, out of which `python -m bench.torture --table docs/reliability.md` makes
this page: nothing below is written by hand.

A trial ends well in one of three ways:

- **same**: exit status 0, and every file that the stage makes is byte for byte what it is without
  the fault;
- **one line**: exit status 2 and one line that says what is wrong, where, and the way out. Run
  again without the fault, it gives the same;
- **valid**: the changed file is another right one (another learning rate, another list), and its
  result is made.

All else is a fault of ours: another result without a word, a traceback, a hang, a file written
outside of `work/` and `.cssegcore/`, damaged weights that are taken, a restart that is refused,
work that is done twice. `--again` repeats what went wrong, once it is mended; the page says so.

{total}
"""


def write(path: Path, out: Path) -> None:
    """Writes the page.

    Raises:
        SystemExit: No family has run.
    """
    from bench.torture.__main__ import FAMILIES, FULL

    files = [out / f"{family}.json" for family in FAMILIES]
    told = [json.loads(file.read_text()) for file in files if file.exists()]
    if not told:
        raise SystemExit(f"there are no results in {out}: run `python -m bench.torture` first")
    parts = [section(content) for content in told]
    text = HEAD.format(full=FULL, total=summary(told)) + "\n" + "\n".join(parts)
    path.write_text(text)
    print(f"{path}: {len(told)} of {len(FAMILIES)} families")


def summary(told: list[dict[str, Any]]) -> str:
    """Returns what all families have in common."""
    rows = [row for content in told for row in read_rows(content)]
    tried = sum(row.tried for row in rows)
    bad = {word: sum(row.happened[word] for row in rows) for word in BAD}
    mended = {word: [commit for row in rows for commit in row.mended(word)] for word in BAD}
    found = ", ".join(_told(word, n, mended[word]) for word, n in bad.items() if n) or "none"
    machines = sorted({content["machine"] for content in told})
    return (
        f"{tried:,} trials of {len(rows)} faults on {'; '.join(machines)}. Faults of ours found:"
        f" {found}."
    )


def section(content: dict[str, Any]) -> str:
    """Returns the table of a family."""
    lines = [
        f"## {TITLES[content['family']]}",
        "",
        f"`python -m bench.torture --only {content['family']} --seed {content['seed']}"
        f"{'' if content['share'] == 1 else ' --share ' + format(content['share'], 'g')}` at"
        f" {content['commit']}, {content['seconds'] / 60:.0f} minutes"
        f"{'' if content.get('finished') else ', ended before all trials were made'}.",
        "",
        "| fault | tried | same | one line | valid | faults of ours |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in read_rows(content):
        counts = [row.tried, *(row.happened[word] or "" for word in (SAME, REFUSED, OTHER))]
        told = (_told(word, n, row.mended(word)) for word, n in row.bad().items())
        bad = ", ".join(told) or "none"
        lines.append(f"| {row.fault} | {' | '.join(map(str, counts))} | {bad} |")
    return "\n".join(lines) + "\n"


def _told(word: str, count: int, mended: list[str]) -> str:
    """Says how often something bad came of it, and how much of that is mended since."""
    again = f"mended, tried again at {', '.join(sorted(set(mended)))}"
    some = f"{len(mended)} of them " * (len(mended) < count)
    return f"{count} × {word}" + f" ({some}{again})" * bool(mended)
