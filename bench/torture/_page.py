"""The page of results, out of the files that families left."""

import collections
import json
import re
from pathlib import Path
from typing import Any

from bench.torture._ledger import BAD, OTHER, REFUSED, SAME, Row, read_rows

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
this page, and what it has no file of stays: nothing below is written by hand.

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


TOLD = r"(\d+) × ([a-z ]+?)(?: \((?:(\d+) of them )?mended, tried again at ([^)]+)\))?(?:, |$)"
"""How `_told` says what went wrong: how often, what, how much of it is mended, at which commits."""


def write(path: Path, out: Path) -> None:
    """Writes the page; a family without a file keeps the section that the page has of it.

    Raises:
        SystemExit: No family has run.
    """
    from bench.torture.__main__ import FAMILIES, FULL

    files = [out / f"{family}.json" for family in FAMILIES]
    told = {file.stem: json.loads(file.read_text()) for file in files if file.exists()}
    if not told:
        raise SystemExit(f"there are no results in {out}: run `python -m bench.torture` first")
    before = path.read_text() if path.exists() else ""
    sections = _sections(before) | {family: section(told[family]) for family in told}
    kept = sections.keys() - told.keys()
    machines = {content["machine"] for content in told.values()}
    machines |= set(_machines(before)) if kept else set()
    rows = [row for content in told.values() for row in read_rows(content)]
    rows += [row for family in kept for row in _rows(sections[family])]
    parts = [sections[family] for family in FAMILIES if family in sections]
    text = HEAD.format(full=FULL, total=summary(rows, machines)) + "\n" + "\n".join(parts)
    path.write_text(text)
    print(f"{path}: {len(parts)} of {len(FAMILIES)} families, {len(kept)} as they were")


def _sections(page: str) -> dict[str, str]:
    """Returns the part of a page that each family has."""
    families = {title: family for family, title in TITLES.items()}
    parts = [part.partition("\n") for part in page.split("\n## ")[1:]]
    return {families[title]: f"## {title}\n{rest.rstrip()}\n" for title, _, rest in parts}


def _machines(page: str) -> list[str]:
    return re.findall(r"^[\d,]+ trials of \d+ faults on (.+)\. Faults", page, re.M)[0].split("; ")


def _rows(part: str) -> list[Row]:
    """Reads what `section` wrote; of what went wrong, how often and what is mended."""
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    return [_row(*map(str.strip, line[1:-1].rsplit("|", 5))) for line in lines]


def _row(fault: str, tried: str, same: str, refused: str, other: str, bad: str) -> Row:
    counts = {SAME: int(same or 0), REFUSED: int(refused or 0), OTHER: int(other or 0)}
    row = Row(fault, collections.Counter(counts))
    for count, word, some, commits in re.findall(TOLD, bad):
        row.happened[word] = int(count)
        each = commits.split(", ") if commits else []
        each += each[:1] * (int(some or count) - len(each))
        row.examples += [{"what": word, "since": {"what": SAME, "commit": c}} for c in each]
    if row.tried != int(tried):
        raise SystemExit(f"the page counts {tried} of {fault!r}, and its columns {row.tried}")
    return row


def summary(rows: list[Row], machines: set[str]) -> str:
    """Returns what all families have in common."""
    tried = sum(row.tried for row in rows)
    bad = {word: sum(row.happened[word] for row in rows) for word in BAD}
    mended = {word: [commit for row in rows for commit in row.mended(word)] for word in BAD}
    found = ", ".join(_told(word, n, mended[word]) for word, n in bad.items() if n) or "none"
    return (
        f"{tried:,} trials of {len(rows)} faults on {'; '.join(sorted(machines))}. Faults of ours"
        f" found: {found}."
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
