"""One step more in a scenario's file and in params.yaml, comments and all else as they stand."""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.scenario.lists import LISTED, StepLists

from .conf import CONF
from .params import PARAMS, Params
from .plain_yaml import PlainLoader
from .scenarios import is_plain


def extended_scenario(
    params: Params, step: str, classes: Sequence[str], lists: Mapping[str, StepLists]
) -> tuple[Path, str]:
    """Returns the scenario's file and its text with one step more, in which every step has lists.

    Raises:
        InputError: The project has no such file, or other steps stand in it than in params.yaml.
    """
    path = CONF / "scenario" / f"{params.scenario.name}.yaml"
    if not path.is_file():
        raise InputError(
            f"{path} is not there: a project grows in a scenario of its own. Copy"
            f" {params.scenario.name} into {CONF / 'scenario'}, or write one with"
            " `cssegcore scenario`."
        )

    def change(document: Any) -> None:  # noqa: ANN401 - YAML
        scenario = document["scenario"]
        own = scenario.setdefault("classes", {})
        after = params.scenario.classes | {step: [*classes]}
        for name in own:
            if list(own[name]) != after.get(name):
                raise InputError(
                    f"{path} and {PARAMS} have different classes for {name}: run `cssegcore compose"
                    f" {PARAMS} scenario={params.scenario.name}` first, with what else you choose."
                )
        own[_said(step)] = _in_one_line(_said([*classes]))
        scenario["setting"] = LISTED
        scenario["lists"] = _as_mappings(lists)

    text = _edited(path, change, offset=2)
    _check_read(path, text, step, classes, lists)
    return path, text


def extended_params(
    params: Params, step: str, classes: Sequence[str], lists: Mapping[str, StepLists]
) -> str:
    """Returns the text of params.yaml with one step more, trained as the schedule says."""

    def change(document: Any) -> None:  # noqa: ANN401 - YAML
        scenario, steps = document["scenario"], document["steps"]
        last, method = scenario["last"], document["method"]
        _set_listed(method, scenario["setting"])
        scenario["setting"] = LISTED
        key = scenario["last"] = _said(step)
        scenario["classes"][key] = _said([*classes])
        scenario["lists"] = _as_mappings(lists)
        place = {"previous": last, "recipe": "method", "images": method["images"]}
        steps[key] = {**steps[last], **place, **document["schedule"]["increment"]}
        document["increments"] = {**document["increments"], key: {"previous": last}}

    text = _edited(PARAMS, change, offset=0)
    _check_read(PARAMS, text, step, classes, lists)
    return text


def _check_read(
    path: Path, text: str, step: str, classes: Sequence[str], lists: Mapping[str, StepLists]
) -> None:
    """Reads a text as the pipeline and as a composition will, before it is written.

    Raises:
        InputError: Another step, class or list stands in it than was meant.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    meant = ([*classes], {name: dataclasses.asdict(given) for name, given in lists.items()})
    try:
        by_hydra: Any = OmegaConf.to_container(OmegaConf.create(text))
        for read in (yaml.load(text, Loader=PlainLoader), by_hydra):
            scenario = read["scenario"]
            given = {k: _NO_LISTS | v for k, v in scenario["lists"].items()}
            if (scenario["classes"].get(step), given) != meant:
                raise ValueError("other classes or lists")
        if path == PARAMS:
            parse(Params, yaml.load(text, Loader=PlainLoader), str(path)).check_chain()
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{path} with the step {step!r} would be read otherwise than meant ({said}): give step,"
            " classes and photographs plainer names. Nothing is written."
        ) from None


_NO_LISTS = {"test": None, "val": None, "annotated": None}


def _set_listed(method: Any, before: str) -> None:  # noqa: ANN401 - YAML
    """Tells the parts of a recipe that had the setting `before` what it is now."""
    from ..check import parts_with_a_setting

    for _, part in parts_with_a_setting(method):
        part["setting"] = LISTED if part["setting"] == before else part["setting"]


def _said(value: Any) -> Any:  # noqa: ANN401 - YAML
    """Returns a value of which the editor writes every text so that all readers agree on it."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, Mapping):
        return {_said(key): _said(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_said(held) for held in value]
    if isinstance(value, str) and not is_plain(value):
        return DoubleQuotedScalarString(value)
    return value


def _as_mappings(lists: Mapping[str, StepLists]) -> Any:  # noqa: ANN401 - YAML
    return _said({name: _as_mapping(given) for name, given in lists.items()})


def _as_mapping(given: StepLists) -> dict[str, Any]:
    optional = {k: v for k, v in dataclasses.asdict(given).items() if v is not None or k == "test"}
    return {"train": optional.pop("train"), "test": optional.pop("test"), **optional}


def _edited(path: Path, change: Callable[[Any], None], *, offset: int) -> str:
    """Returns a YAML file's text after a change of what it holds; lists are indented by `offset`.

    Raises:
        InputError: It is not YAML, or lacks what is to be changed.
    """
    from ruamel.yaml import YAML, YAMLError

    editor = YAML()
    editor.preserve_quotes = True
    editor.representer.add_representer(type(None), _null)
    editor.width = 100
    editor.indent(mapping=2, sequence=2 + offset, offset=offset)
    text = io.StringIO()
    try:
        document = editor.load(path.read_text(encoding="utf-8"))
        change(document)
        editor.dump(document, text)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        said = " ".join(str(error).split())
        raise InputError(f"{path} cannot be extended ({said}): see whether it is whole.") from None
    return text.getvalue()


def _null(representer: Any, _: None) -> Any:  # noqa: ANN401 - the editor's own classes
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _in_one_line(names: list[str]) -> Any:  # noqa: ANN401 - the editor's own class
    from ruamel.yaml.comments import CommentedSeq

    made = CommentedSeq(names)
    made.fa.set_flow_style()
    return made
