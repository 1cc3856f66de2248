"""CONTRIBUTING.md tells of everything that a loss may say of itself, and of nothing else."""

import ast
import re

from tests.helpers.tiny_dataset import HOME

LOSS = HOME / "cssegcore" / "method" / "losses" / "_base.py"


def test_every_attribute_of_a_loss_is_explained():
    classes = {n.name: n for n in ast.parse(LOSS.read_text()).body if isinstance(n, ast.ClassDef)}
    said = {
        node.target.id
        for node in classes["Term"].body
        if isinstance(node, ast.AnnAssign) and "ClassVar" in ast.unparse(node.annotation)
        if isinstance(node.target, ast.Name)
    }
    overridden = {
        node.name
        for name in ("Term", "Loss")
        for node in classes[name].body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
    }
    text = (HOME / "CONTRIBUTING.md").read_text()
    section = text.split("## What a loss says of itself")[1].split("## ")[0]
    first, properties = section.split("Three properties")
    table = {row.split("|")[2] for row in first.splitlines() if row.startswith("| ") and "`" in row}
    named = {name for cell in table for name in re.findall(r"`(\w+)(?: = [^`]*)?`", cell)}
    assert named - {"batch"} == said
    assert set(re.findall(r"`(\w+)`", properties)) == overridden
