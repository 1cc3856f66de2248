"""What Hydra takes from a scenario: the chain of its steps, and whose published settings hold.

Hydra imports this module because `hydra.plugins_path` in .dvc/config leads here: for `dvc exp run`,
for its queue and for `python -m stages.compose` alike.

The group `steps` has a member for each file in conf/scenario/: the chain, derived from the keys of
its classes. Members are ordinary nodes, and not what a resolver returns, because an override as
`-S steps.step2.lr=0.002` cannot reach into the result of a resolver. `settings` chooses a file,
which a resolver can.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

SCENARIOS = Path(__file__).resolve().parents[1] / "scenario"
FOLDERS = [SCENARIOS]
"""Where scenarios lie, each beside `published`."""


def chain(names: Sequence[str]) -> dict[str, Any]:
    """Returns how each step is trained, each increment's previous step, and the last step."""
    previous = {name: {"previous": before} for before, name in pairwise(names)}
    first = {names[0]: {"previous": "none"} | _training("method.base", "train", "base")}
    increment = _training("method", "${method.images}", "increment")
    return {
        "steps": first | {name: before | increment for name, before in previous.items()},
        "increments": previous,
        "scenario": {"last": names[-1]},
    }


def _training(recipe: str, images: str, phase: str) -> dict[str, str]:
    numbers = {key: f"${{schedule.{phase}.{key}}}" for key in ("epochs", "lr")}
    return {"recipe": recipe, "images": images, **numbers}


def names_of_steps(scenario: Path, folders: Sequence[Path]) -> list[str]:
    """Returns the steps of a scenario file, those of the scenarios in its `defaults` first.

    A file that Hydra cannot read has none: Hydra says so when the file is chosen.

    Args:
        scenario: The file.
        folders: Where the scenarios lie that it may begin with.
    """
    try:
        text = yaml.safe_load(scenario.read_bytes())
        others = [name for name in text.get("defaults", []) if isinstance(name, str)]
        own = list(text.get("scenario", {}).get("classes", {}))
    except (OSError, yaml.YAMLError, AttributeError, TypeError):
        return []
    inherited = [
        step
        for name in others
        if name != "_self_"
        for folder in folders
        for step in names_of_steps(folder / f"{name}.yaml", folders)
    ]
    return list(dict.fromkeys([*inherited, *own]))


def settings(scenario: str, method: str) -> str:
    """Names the published settings of a pair: its own, or else those of its dataset."""
    pair, dataset = f"{scenario}/{method}", scenario.partition("/")[0]
    files = (folder.parent / "published" / f"{pair}.yaml" for folder in FOLDERS)
    return pair if any(file.is_file() for file in files) else f"{dataset}/{method}"


def register(scenarios: Path = SCENARIOS) -> None:
    """Gives Hydra the member of each scenario in a folder, and has `settings` look beside it."""
    FOLDERS.append(scenarios)
    OmegaConf.register_new_resolver("hydra_plugins.steps.settings", settings, replace=True)
    for path in scenarios.rglob("*.yaml"):
        if names := names_of_steps(path, list(dict.fromkeys((scenarios, SCENARIOS)))):
            group = Path("steps") / path.relative_to(scenarios).parent
            ConfigStore.instance().store(
                path.stem, chain(names), group=group.as_posix(), package="_global_"
            )


register()
