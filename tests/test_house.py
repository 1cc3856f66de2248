"""The plan of the house: where modules lie, how long they may be, and what names may mean.

Files are parsed and never imported.
"""

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from tests.helpers.tiny_dataset import HOME

CLASS, FILE = 120, 250
"""The most lines of code that a class, or a file, may have."""

PACKAGE, STAGES = HOME / "cssegcore", HOME / "stages"
SOURCES = {
    str(path.relative_to(HOME)): path.read_text()
    for folder in (PACKAGE, STAGES)
    for path in sorted(folder.rglob("*.py"))
}
TREES = {path: ast.parse(text) for path, text in SOURCES.items()}

OF_A_SLOT = {"RENAMED"}
"""Names that the registry reads from a slot's package: alike wherever they stand."""

STORIES, FILES = {"clusters", "journeys", "pipeline"}, {"conf", "contributing", "docs"}
OF_NO_PACKAGE = STORIES | FILES | {"conformance", "packaging"}
"""Folders of tests of the whole, or of what is no module."""


def code_lines(text, tree):
    """Returns the numbers of all lines but blank ones, comments and docstrings."""
    said = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return {at for at, line in lines if line and not line.startswith("#")} - said


def public_names(tree):
    """Returns the names that a module defines for others; what it imports is another's."""
    names = set()
    statements = list(tree.body)
    while statements:
        node = statements.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = (part for target in targets for part in ast.walk(target))
            stored = (n for n in found if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            names |= {n.id for n in stored}
        else:  # what `if` and `try` hold is the module's as well
            inner = ast.iter_child_nodes(node)
            statements += [n for n in inner if isinstance(n, ast.stmt | ast.excepthandler)]
    return {name for name in names if not name.startswith("_")} - OF_A_SLOT


def test_the_root_of_the_library_holds_packages_only():
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_a_public_name_has_one_meaning():
    places = defaultdict(list)
    for path, tree in TREES.items():
        if Path(path).parts[0] == "cssegcore":
            for name in public_names(tree):
                places[name].append(path)
    assert len(places) > 300
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_file_is_long():
    lengths = {path: len(code_lines(SOURCES[path], tree)) for path, tree in TREES.items()}
    assert max(lengths.values()) > FILE / 2
    assert {path: n for path, n in lengths.items() if n > FILE} == {}


def test_no_class_is_long():
    lengths = {}
    for path, tree in TREES.items():
        code = code_lines(SOURCES[path], tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                own = code.intersection(range(node.lineno, node.end_lineno + 1))
                lengths[f"{path}: {node.name}"] = len(own)
    assert max(lengths.values()) > CLASS / 2
    assert {name: n for name, n in lengths.items() if n > CLASS} == {}


def test_stages_import_each_other_relatively():
    """A wheel carries them under another name."""
    absolute = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if not getattr(node, "level", 0) and str(name).split(".")[0] == "stages"
    }
    assert absolute == set()


def test_tracking_is_one_package_of_at_most_six_files():
    folders = {Path(path).parent for path in SOURCES}
    assert [str(f) for f in folders if "track" in str(f)] == ["stages/tracking"]
    assert 1 < len(list((STAGES / "tracking").glob("*.py"))) <= 6


def test_imports_point_down_at_most_eight_layers():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    layers = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["cssegcore"]
    ]
    (own,) = layers
    assert 1 < len(own) <= 8
    named = {name.strip() for layer in own for name in layer.split("|")}
    assert named == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_tests_mirror_the_packages():
    files = [path.relative_to(HOME / "tests") for path in (HOME / "tests").rglob("*.py")]
    tests = {path for path in files if path.name.startswith("test_")}
    roots = (PACKAGE, HOME)  # what tests stages and bench lies in folders of these names
    mirrored = {p for p in tests if any((r / p.parent / "__init__.py").is_file() for r in roots)}
    assert len(mirrored) > 100
    assert {str(path) for path in tests - mirrored if path.parts[0] not in OF_NO_PACKAGE} == set()
    others = {path for path in files if path.stem not in ("__init__", "conftest")} - tests
    assert {path.parts[0] for path in others} == {"helpers", "conformance"}  # this is a program


@pytest.mark.parametrize(
    ("text", "lines", "names"),
    [
        ('"""Said."""\n\n# why\nA = 1\n"""Said\nof A."""\n_B = A\n', 2, {"A"}),
        ("from a import b as b\nb.f = 1\nif b:\n    C, _d = b\n    (e): int = 1\n", 5, {"C", "e"}),
        ("try:\n    H = [i for i in J]\nexcept E:\n    K: int = 2\n", 4, {"H", "K"}),
        ('def f(x):\n    """Said."""\n    inner = x\n\n\nclass G:\n    y = 1\n', 4, {"f", "G"}),
    ],
)
def test_code_and_names_are_counted(text, lines, names):
    tree = ast.parse(text)
    assert len(code_lines(text, tree)) == lines
    assert public_names(tree) == names


def docstrings(tree):
    """Yields every text that stands as a statement: docstrings, and those below constants."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def test_docstrings_name_the_noun_first():
    """Entries that begin with "What" or "Of" leave the reader to guess what they are."""
    entry, first = r"^\s+\w+: (Of|What|As|From|By|Where) ", r"\b(Returns|Says) what\b"
    found, count = [], 0
    for path, tree in TREES.items():
        if Path(path).parts[0] == "cssegcore":
            for text in docstrings(tree):
                count += 1
                summary, *lines = text.splitlines() or [""]
                found += [(path, line) for line in lines if re.match(entry, line)]
                found += [(path, summary)] if re.search(first, summary) else []
    assert count > 1000
    assert found == []


def test_ruff_passes_over_no_folder_of_ours():
    ruff = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["ruff"]
    ours = {part for path in SOURCES for part in Path(path).parts}
    assert ours.isdisjoint([*ruff.get("exclude", []), *ruff["extend-exclude"]])
