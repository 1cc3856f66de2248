"""What the site is made of: every page is in it, every link leads somewhere, in the site and where
the repository is hosted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from markdown.extensions.toc import slugify

from docs.hooks.repository import PAGES, links, replace_links
from tests.helpers.tiny_dataset import HOME

TEXTS = sorted(
    str(path.relative_to(HOME)) for path in [*HOME.glob("*.md"), *HOME.glob("docs/*.md")]
)


class Loader(yaml.SafeLoader):
    """Reads names of Python objects as nothing."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def config():
    return yaml.load((HOME / "mkdocs.yml").read_text(), Loader)


def pages(nav):
    for entry in nav:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else pages(place)


def headings(text):
    code = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return [re.sub(r"[`*]", "", title) for title in re.findall(r"^#+ (.+)$", code, re.M)]


def hosted_anchor(title):
    """The anchor of a heading as GitHub has it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_page_is_in_the_navigation():
    listed = list(pages(config()["nav"]))
    own = {path.name for path in (HOME / "docs").glob("*.md")}
    assert sorted(listed) == sorted(own | {p for p in PAGES.values() if p.endswith(".md")})


@pytest.mark.parametrize("text", TEXTS)
def test_links_lead_somewhere(text):
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for link in links((HOME / text).read_text()):
        address, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = ((HOME / text).parent / address).resolve() if address else HOME / text
        where = str(target.relative_to(HOME))
        assert where in tracked or any(name.startswith(f"{where}/") for name in tracked), link
        if anchor:
            titles = headings(target.read_text())
            assert anchor in {slugify(title, "-") for title in titles}, f"{link}, in the site"
            assert anchor in {hosted_anchor(title) for title in titles}, f"{link}, where hosted"


def test_every_text_of_the_root_that_is_linked_has_a_page_or_is_no_page():
    for file, place in PAGES.items():
        assert (HOME / file).is_file()
        assert not (HOME / "docs" / place).exists(), "the site would have two"


def test_code_is_no_link():
    text = "[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n![g](h.png) [`i`](j.md#k)\n"
    assert list(links(text)) == ["b.md", "h.png", "j.md#k"]
    assert replace_links(text, lambda link: "X") == text.replace("[a](b.md)", "X").replace(
        "![g](h.png) [`i`](j.md#k)", "X X"
    )


def test_pictures_are_said_in_words():
    for text in TEXTS:
        for said in re.findall(r"!\[([^\]]*)\]\(", (HOME / text).read_text()):
            assert len(said) > 10, text


def test_make_and_ci_build_it_strictly():
    for file in ("Makefile", ".github/workflows/ci.yml"):
        assert "mkdocs build --strict" in Path(HOME / file).read_text()


@pytest.mark.slow
def test_it_builds(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=HOME,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "index.html").read_text()
    assert 'href="contributing/"' in first, "a link to a file of the root leads to its page"
    assert 'src="../report.png"' in (tmp_path / "overview" / "index.html").read_text()
    clusters = (tmp_path / "clusters" / "index.html").read_text()
    assert 'href="../slurm/grid.sbatch"' in clusters
    assert (tmp_path / "slurm" / "grid.sbatch").is_file()
