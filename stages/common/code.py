"""Which code a stage runs, so that a change of code reruns what it can change and nothing else.

Modules are followed statically, from the stage's own file and the recipe's parts through every
import of `cssegcore` and `stages`. What is digested is the program without comments, docstrings and
layout: to fix a sentence costs no training.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from .home import PACKAGE, PACKAGES

UNHEARD = (
    f"{PACKAGE}.tracking",
    f"{PACKAGE}.common.reporting",
    f"{PACKAGE}.common.places",
    f"{PACKAGE}.common.once",
    f"{PACKAGE}.common.home",
    f"{PACKAGE}.common.code",
    f"{PACKAGE}.common.unchanged",
    f"{PACKAGE}.serving",
)
"""Modules that only tell others what happened, where files lie, or refuse: no result depends on
them."""


@cache
def source(module: str) -> Path | None:
    """Returns the file of a module of ours, or nothing."""
    root, *names = module.split(".")
    if root not in PACKAGES or module.startswith(UNHEARD):
        return None
    path = PACKAGES[root].joinpath(*names)
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def closure(modules: Iterable[str]) -> dict[str, str]:
    """Returns the digest of each module that `modules` import, themselves included."""
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        module = todo.pop()
        file = source(module)
        if module in found or file is None:
            continue
        found[module] = fingerprint(file)
        found |= _data(module, file)
        todo += imports(module, file)
        parts = module.split(".")
        todo += [".".join(parts[:i]) for i in range(1, len(parts))]
    return dict(sorted(found.items()))


@cache
def imports(module: str, file: Path) -> tuple[str, ...]:
    """Lists what a module imports, anywhere in its file; names that are no module lead nowhere.

    Imports for type checkers alone, `if TYPE_CHECKING:`, are never run.
    """
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in _run(_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = resolve_name("." * node.level + (node.module or ""), package)
            names += [whole, *(f"{whole}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what is in a tree and may run."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.orelse:
                yield from _run(statement)
        else:
            yield from _run(child)


@cache
def fingerprint(file: Path) -> str:
    """Digests a file's program: comments, docstrings (attributes' too) and layout left out."""
    tree = _tree(file)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _data(module: str, file: Path) -> dict[str, str]:
    """Digests what is no program in a package's folder: templates, style sheets.

    Hidden files are an editor's or the system's, and come and go.
    """
    if file.name != "__init__.py":
        return {}
    return {
        f"{module}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in file.parent.iterdir()
        if path.is_file() and path.suffix != ".py" and not path.name.startswith(".")
    }


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
