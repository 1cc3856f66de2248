"""Files at the door that no program of ours reads: they parse, and agree with the rest."""

import re
import tomllib

import yaml

from tests.helpers.tiny_dataset import HOME

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]


def read(name):
    return yaml.safe_load((HOME / name).read_text())


def test_citation_and_licence_agree_with_the_project():
    citation = read("CITATION.cff")
    assert citation["title"] == PROJECT["name"]
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    (author,) = citation["authors"]
    assert f"Copyright (c) 2026 {author['name']}\n" in (HOME / "LICENSE").read_text()


def test_ci_runs_make_test_on_every_python_from_the_oldest():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    versions = jobs["test"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert jobs["test"]["steps"][-1]["run"].startswith("make test")
    assert "pip_audit" in jobs["audit"]["steps"][-1]["run"]


def test_hooks_are_local():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_links_of_the_documents_lead_somewhere():
    documents = [*HOME.glob("*.md"), *(HOME / "docs").glob("*.md")]
    for document in documents:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_places_that_the_changelog_and_the_guide_name_exist():
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        text = re.sub(r"^```.*?^```", "", (HOME / name).read_text(), flags=re.M | re.S)
        for path in re.findall(r"`((?:cssegcore|tests|conf|stages)/[\w/.]*)`", text):
            if "…" not in path and "side_by_side" not in path:
                assert (HOME / path).exists(), f"{name}: {path}"
