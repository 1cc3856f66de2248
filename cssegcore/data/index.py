"""The index: every image is opened and checked once, and its content counted."""

import csv
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, write_table
from cssegcore.core.names import unfit
from cssegcore.core.types import IGNORE
from cssegcore.data.dataset import Dataset
from cssegcore.data.layouts._base import SPLITS

_SEAL = "digest of the lines above"
_HEAD = ("name", "parts", "domain", "digest", "photograph", "height", "width", "void")


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        name: Its name.
        parts: Parts of the dataset that have it.
        digest: Digest of photograph and label image.
        height: Its height in pixels.
        width: Its width.
        void: Number of void pixels.
        pixels: Number of pixels of each raw label.
        domain: Place where it was taken; "" if the dataset does not say.
        photograph: Digest of the photograph alone, by which it is known whatever its label says.
    """

    name: str
    parts: tuple[str, ...]
    digest: str
    height: int
    width: int
    void: int
    pixels: tuple[int, ...]
    domain: str = ""
    photograph: str = ""

    @property
    def present(self) -> frozenset[int]:
        """Raw labels that the image shows, background included."""
        return frozenset(raw for raw, count in enumerate(self.pixels) if count)


def examine(dataset: Dataset, name: str, parts: tuple[str, ...]) -> Entry:
    """Compares a photograph with its label image and counts the label's pixels by class.

    Raises:
        InputError: Either is missing or unreadable, their sizes differ, or a label is unknown.
    """
    if meant := _meant(dataset, name):
        raise InputError(
            f"{dataset.root}: a list names {name[:80]!r}, and there is an image {meant[:80]!r}:"
            " write one name a line, without folder, ending or further columns."
        )
    label, shape, counts = dataset.count_labels(name)
    photograph, other = dataset.check_photograph(name)
    if shape != other:
        raise InputError(
            f"photograph {dataset.photograph_path(name)} is {other[1]}x{other[0]} pixels and its"
            f" label image {dataset.label_path(name)} {shape[1]}x{shape[0]}: they must be of one"
            " size."
        )
    pixels = tuple(counts[: len(dataset.classes)].tolist())
    return Entry(
        name=name,
        parts=parts,
        domain=dataset.layout.domain(name),
        digest=digest(photograph, label),
        photograph=digest(photograph),
        height=shape[0],
        width=shape[1],
        void=int(counts[IGNORE]),
        pixels=pixels,
    )


def _meant(dataset: Dataset, name: str) -> str | None:
    """Returns the image that a line of a list may mean that is no image's name, if there is one."""
    if dataset.photograph_path(name).exists():
        return None
    first = re.split(r"[\s,;]+", name)[0]
    path = PurePosixPath(first)
    meant = (first, str(path.with_suffix("")) if path.name else "", path.stem)
    return next((m for m in meant if m and dataset.photograph_path(m).exists()), None)


def build_index(
    dataset: Dataset, progress: Callable[[Iterable[Entry], int], Iterable[Entry]]
) -> list[Entry]:
    """Examines every image of every part, in parallel.

    Args:
        dataset: Dataset to index.
        progress: Wraps the iterable of entries (second argument: their number), to show a bar.

    Raises:
        InputError: One line about the first image that is wrong, and how many more are; or a
            folder of the dataset is a link.
    """
    _check_links(dataset.root)
    parts: dict[str, list[str]] = {}
    for split in SPLITS:
        for name in dataset.names(split):
            parts.setdefault(name, []).append(split)

    def attempt(item: tuple[str, list[str]]) -> Entry | InputError:
        try:
            return examine(dataset, item[0], tuple(item[1]))
        except InputError as error:
            return error

    entries, errors = [], []
    with ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1))) as pool:
        for result in progress(pool.map(attempt, parts.items()), len(parts)):  # type: ignore[arg-type]
            (errors if isinstance(result, InputError) else entries).append(result)
    if errors:
        more = f" ({len(errors) - 1} more images are wrong.)" if errors[1:] else ""
        raise InputError(f"{errors[0]}{more}")
    return entries


def _check_links(root: Path) -> None:
    """Refuses links to folders below the root: DVC looks behind links to files only.

    So a photograph that is changed or added there would run nothing again, without a word.
    """
    for folder, names, _ in os.walk(root):
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_symlink():
                raise InputError(
                    f"{path} is a link to a folder, behind which DVC sees no change: put a folder"
                    f" of links to its files there (`rm {path} && cp -rs {path.resolve()} {path}`)"
                    " or mount it."
                )


def write_index(path: Path, entries: Sequence[Entry], classes: Sequence[str]) -> None:
    """Writes a CSV table: one row an image, one column of pixel counts a class.

    The last row is a digest of all others: another number in one would be another split.
    """
    rows = [
        (
            *(e.name, "+".join(e.parts), e.domain, e.digest, e.photograph),
            *(e.height, e.width, e.void, *e.pixels),
        )
        for e in entries
    ]
    head = (*_HEAD, *classes)
    write_table(path, head, [*rows, (_SEAL, _digest([head, *rows]))])


def read_index(path: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Reads a file of `write_index`: the entries and the class table.

    Raises:
        InputError: The file is none that `write_index` writes.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            head, *rows = csv.reader(lines, strict=True)
        if head[: len(_HEAD)] != [*_HEAD]:
            raise ValueError("its first line is another")
        if not rows or rows.pop() != [_SEAL, _digest([head, *rows])]:
            raise ValueError("its last line, a digest, is another")
        return [_entry(row, len(head)) for row in rows], tuple(head[len(_HEAD) :])
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}): run `dvc repro -f index`.") from None


def _digest(rows: Sequence[Sequence[object]]) -> str:
    return digest(*("\0".join(map(str, row)).encode() for row in rows))


def _entry(row: list[str], columns: int) -> Entry:
    if len(row) != columns:
        raise ValueError(f"a row has {len(row)} columns, not {columns}")
    if why := unfit(row[0]):
        raise ValueError(f"it names {row[0][:80]!r}, and {why}")
    return Entry(
        name=row[0],
        parts=tuple(row[1].split("+")),
        domain=row[2],
        digest=row[3],
        photograph=row[4],
        height=int(row[5]),
        width=int(row[6]),
        void=int(row[7]),
        pixels=tuple(map(int, row[len(_HEAD) :])),
    )
