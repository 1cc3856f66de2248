"""What a result is stored under is what it was made with, whatever is edited while DVC runs.

DVC reads the parameters again after the command and stores the result under what it finds then, in
`dvc.lock` and in its cache of runs: an edit in between would hand out the old result for the new
values. And a stage's code is what `check` noted, which may be hours ago.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cssegcore.core.config import cut, flatten
from cssegcore.core.errors import InputError

from .code import closure
from .home import PACKAGES
from .params import PARAMS, raw_as_read, read_raw

PIPELINE = Path("dvc.yaml")
REPLAY = "method.replay"
"""Key of what the code tables note of it."""


def check_parameters() -> None:
    """Refuses the result of a stage of DVC's whose parameters were edited while it ran.

    Those that its entry in `dvc.yaml` does not declare may change.

    Raises:
        InputError: They were, or the file is none any more.
    """
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    raw = raw_as_read()
    if not stage or not raw:
        return
    was, now = _texts(raw), _texts(read_raw())
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    declared = _declared(stage, flatten(raw)) if keys else []
    for key in keys:
        if any(f"{key}.".startswith(prefix) for prefix in declared):
            old, new = (cut(texts.get(key, "nothing")) for texts in (was, now))
            raise InputError(
                f"{PARAMS} changed while {stage} ran: `{cut(key)}` was {old} and is {new}, under"
                " which DVC would store the result. Run `dvc repro` again; with the old value put"
                " back, a finished training is taken as it is."
            )


def check_code(code: Path, replay: Mapping[str, object] | None = None) -> None:
    """Refuses code that is another than `check` noted, and another replay.

    Args:
        code: The stage's code table.
        replay: What the stage's result depends on of `method.replay`, with digests of files
            (`Replay.stage_parameters`); None if the table notes nothing of it.

    Raises:
        InputError: One differs, or cannot be read.
    """
    try:
        table = json.loads(code.read_bytes())
        noted = {key: table[key] for key in table if re.split("[./]", key)[0] in PACKAGES}
    except FileNotFoundError:
        raise InputError(f"{code} does not exist: run `dvc repro`.") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{code} is damaged: run `dvc repro -f check`.") from None
    try:
        found = closure(key for key in noted if "/" not in key)
    except (SyntaxError, ValueError) as error:  # somebody is editing it
        raise InputError(f"the code is no Python ({error}): mend it and run `dvc repro`.") from None
    if replay is not None and REPLAY in table:
        noted[REPLAY], found[REPLAY] = table[REPLAY], json.dumps(replay, sort_keys=True)
    for key in {**noted, **found}:
        if noted.get(key) != found.get(key):
            file = ", or a file that it names," * (key == REPLAY)
            raise InputError(
                f"`{key}`{file} is not what `check` saw when it wrote {code}: run"
                " `dvc repro -f check`, then go on."
            )


def _texts(raw: dict[str, Any]) -> dict[str, str]:
    return {key: repr(value) for key, value in flatten(raw).items()}


def _declared(stage: str, flat: dict[str, object]) -> list[str]:
    """Returns beginnings of the keys that a stage declares; of every key if that cannot be told."""
    name, _, key = stage.partition("@")

    def value(found: re.Match[str]) -> str:
        return key if found[1] == "key" else str(flat[re.sub("^item", item, found[1])])

    try:
        entry: Any = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"][name]
        item = f"{str(entry.get('foreach', ''))[2:-1]}.{key}"
        given = entry.get("do", entry)["params"]
        keys = [k for k in given if isinstance(k, str)]
        for file in (f for f in given if isinstance(f, dict) and str(PARAMS) in f):
            keys += file[str(PARAMS)] or [""]
        return [re.sub(r"\$\{([\w.-]+)\}", value, k) + "." * bool(k) for k in keys]
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return [""]
