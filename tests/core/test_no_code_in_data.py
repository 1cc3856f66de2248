"""No file of others may run code: nothing is unpickled, evaluated, or given to a shell."""

import ast

import pytest
import yaml

from stages.common.plain_yaml import PlainLoader
from tests.test_house import SOURCES, TREES

NEVER = {
    *("eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "marshal.load", "marshal.loads"),
    *("os.system", "os.popen", "subprocess.getoutput", "joblib.load", "shelve.open"),
}
SAFE = {"yaml.CSafeLoader": yaml.CSafeLoader, "PlainLoader": PlainLoader}
"""Loaders that make nothing but plain values."""


def dangers(tree):
    """Returns the calls in a module by which data would become code."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [ast.unparse(call) for call in calls if ast.unparse(call.func) in NEVER]
    for call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if ast.unparse(call.func) == "yaml.load" and given.get("Loader") in SAFE:
            found.remove(ast.unparse(call))
        if ast.unparse(call.func) == "torch.load" and given.get("weights_only") != "True":
            found.append(ast.unparse(call))
        if given.get("shell") == "True" or given.get("allow_pickle") == "True":
            found.append(ast.unparse(call))
    return found


def test_loaders_that_pass_are_safe_ones():
    assert all(issubclass(loader, yaml.SafeLoader | yaml.CSafeLoader) for loader in SAFE.values())


def test_no_module_makes_code_of_data():
    assert {path: found for path, tree in TREES.items() if (found := dangers(tree))} == {}
    assert any("torch.load(" in text for text in SOURCES.values())


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "pickle.load(f)",
        "yaml.load(f, yaml.Loader)",
        "eval(text)",
        "subprocess.run(c, shell=True)",
    ],
)
def test_such_calls_are_found(text):
    assert dangers(ast.parse(text)) == [text]
    safe = (
        "torch.load(f, weights_only=True)",
        "yaml.safe_load(f)",
        "yaml.load(f, Loader=yaml.CSafeLoader)",
    )
    assert dangers(ast.parse("; ".join(safe))) == []
