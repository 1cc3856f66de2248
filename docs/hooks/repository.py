"""MkDocs: pages of the site that lie in the root of the repository, and links to them.

Every text links to files as they lie in the repository, so that links hold where it is hosted. In
the site a link to a file without a page becomes its text.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "slurm/grid.sbatch": "slurm/grid.sbatch",
}
"""Files outside `docs/`, and where the site has them."""

_FENCE, _SPAN = r"^(?P<fence>```|~~~).*?^(?P=fence)", r"`[^`]+`"
_LINK = r"(?P<mark>!?)\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\((?P<address>[^()\s]+)\)"
_CODE_OR_LINK = re.compile(f"{_FENCE}|{_LINK}|{_SPAN}", re.S | re.M)


def on_files(files: Any, config: Any) -> Any:
    """Adds the files that lie outside `docs/`."""
    from mkdocs.structure.files import File

    for source, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turns links as they hold in the repository into those of the site."""
    place = page.file.src_uri
    source = {page: file for file, page in PAGES.items()}.get(place, f"docs/{place}")
    return replace_links(markdown, lambda link: _of_the_site(link, source, place))


def replace_links(text: str, change: Callable[[re.Match[str]], str]) -> str:
    """Replaces links and images outside of code: groups `mark`, `text` and `address`."""
    return _CODE_OR_LINK.sub(lambda found: change(found) if found["address"] else found[0], text)


def links(text: str) -> Iterator[str]:
    """Lists the addresses of links and images."""
    found: list[str] = []
    replace_links(text, lambda link: found.append(link["address"]) or "")
    yield from found


def _of_the_site(link: re.Match[str], source: str, place: str) -> str:
    mark, text, address = link["mark"], link["text"], link["address"]
    path, sign, anchor = address.partition("#")
    if not path or re.match(r"\w+:", address):
        return link[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    there = PAGES.get(target) or (target[5:] if target.startswith("docs/") else None)
    if there is None:
        return text if (ROOT / target).exists() else link[0]
    relative = posixpath.relpath(there, posixpath.dirname(place) or ".")
    return f"{mark}[{text}]({relative}{sign}{anchor})"
