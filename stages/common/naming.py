"""How a run is called: its method, and what differs from what conf/ makes of method and scenario.

`-S method=mib -S method/replay=deepinversion` is `mib+deepinversion`, and a changed
`method.losses.kd.weight` is `kd.weight=5`. Choices of a config group are found again by composing
them, since a parameter file keeps what was chosen and not how.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ..tracking.run import scalars
from .conf import CONF, conf_folders
from .variants import variant_of

CHOICES = ("method/replay", "model", "model/backbone", "optimizer", "augmentation", "schedule")
"""Config groups that a run may choose from beside its method and scenario."""
SWITCHES = ("published", "tuned", "paired", "fitted")
"""Groups that apply by themselves and can be turned off."""
NAMELESS = ("method/replay", "model", "model/backbone")
"""Groups whose choice says by itself what it is."""
APART = (
    *("seed", "dataset.root", "dataset.help", "method.name", "increments.", "scenario.last"),
    *("scenario.name", "scenario.setting", "scenario.order", "scenario.partition."),
    *("evaluation.", "validation."),
)
"""Keys that stand elsewhere (scenario, protocol, seed), or change no result."""
LONGEST_NAME = 3
"""Changes that a run's name has; all of them stand in `work/run.json` and in MLflow's tags."""


@dataclasses.dataclass(frozen=True)
class RunName:
    """How a run is called.

    Attributes:
        method: Name of its recipe.
        choices: Members of config groups that are not the default's, e.g. `deepinversion`.
        changed: Other parameters that differ, by short key, as text.
    """

    method: str
    choices: list[str] = dataclasses.field(default_factory=list)
    changed: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """The method and what differs, e.g. `mib+deepinversion kd.weight=5`."""
        short = [".".join(key.split(".")[-2:]) for key in self.changed]
        keys = short if len({*short}) == len(short) else list(self.changed)
        said = [f"{k}={value}" for k, value in zip(keys, self.changed.values(), strict=True)]
        more = [f"+{len(said) - LONGEST_NAME} more"] * (len(said) > LONGEST_NAME)
        return " ".join(["+".join([self.method, *self.choices]), *said[:LONGEST_NAME], *more])

    @property
    def differences(self) -> dict[str, str]:
        """All that differs, by name."""
        return {**dict.fromkeys(self.choices, "chosen"), **self.changed}


def name_run(params: Mapping[str, object], conf: Path = CONF) -> RunName:
    """Returns how the run of `params` is called.

    Args:
        params: The whole parameter file, nested or flat (as a tracker keeps it, all texts).
        conf: The folder that parameters are composed from; where it has no such method or
            scenario, the name is the method's with a digest of the parameters.
    """
    flat = as_texts(params)
    method, scenario = flat["method.name"], flat["scenario.name"]
    base = [f"method={method}", f"scenario={scenario}"]
    if (order := flat.get("scenario.order", "native")) != "native":
        ordered = [*base, f"order={scenario}/{order}"]
        if _composed(tuple(ordered), conf) is not None:  # else the scenario's file has its own
            base = ordered
    left = _differences(flat, base, conf)
    if left is None:
        return RunName(method, changed={"parameters": variant_of(flat)[:8]})
    chosen: list[str] = []
    for group in (*CHOICES, *SWITCHES):
        tried = {
            override: found
            for override in _candidates(group, flat, left, conf)
            if (found := _differences(flat, [*base, *chosen, override], conf)) is not None
        }
        best = min(tried, key=lambda override: len(tried[override]), default=None)
        if best is not None and len(tried[best]) < len(left) - 1:  # it explains two keys at least
            chosen.append(best)
            left = tried[best]
    said = [c.partition("=")[2] if c.partition("=")[0] in NAMELESS else c for c in chosen]
    return RunName(method, said, {_short(key): value for key, value in left.items()})


def as_texts(params: Mapping[str, object]) -> dict[str, str]:
    """Returns parameters by dotted key as a tracker keeps them: all texts, lists as JSON."""
    return {key: str(value) for key, value in scalars(params).items()}


def _differences(
    flat: Mapping[str, str], overrides: Sequence[str], conf: Path
) -> dict[str, str] | None:
    """Returns what differs from what the overrides make; None if they fit nothing in `conf`."""
    default = _composed(tuple(overrides), conf)
    if default is None:
        return None
    found = {key: flat.get(key, NOTHING) for key in {**default, **flat}}
    return {
        key: _text(value)
        for key, value in found.items()
        if value != default.get(key, NOTHING)
        if not key.startswith(APART) and not _follows(key, flat) and not _place(key, flat, default)
    }


NOTHING = "(none)"


@functools.cache
def _composed(overrides: tuple[str, ...], conf: Path) -> dict[str, str] | None:
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from ..compose import composed

    try:
        made = OmegaConf.to_container(composed(overrides, conf))
    except (HydraException, OmegaConfBaseException, OSError):
        return None
    except (yaml.YAMLError, ValueError, RecursionError):  # a file of conf/ that is not plain YAML
        return None
    assert isinstance(made, dict)
    return as_texts({str(key): value for key, value in made.items()})


def _candidates(
    group: str, flat: Mapping[str, str], left: Mapping[str, str], conf: Path
) -> list[str]:
    """Returns overrides that may have been given, by what the files of the group say themselves."""
    if group in SWITCHES:
        return [f"{group}=none"] * (len(left) > 1)
    prefix = f"{group.replace('/', '.')}."
    if sum(key.startswith(prefix) for key in left) < 2:
        return []
    fits = {}
    folders = [conf, *conf_folders()[1:]]
    for path in (path for folder in folders for path in sorted((folder / group).glob("*.yaml"))):
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError, AttributeError):
            own = as_texts(yaml.safe_load(path.read_bytes()))
            own.pop("defaults", None)
            others = sum(flat.get(prefix + key) != value for key, value in own.items())
            if others <= max(1, len(own) // 3):  # changed on top of the choice
                fits[f"{group}={path.stem}"] = others - len(own)
    return sorted(fits, key=lambda override: fits[override])[:2]


def _follows(key: str, flat: Mapping[str, str]) -> bool:
    """Whether a step's number is that of its schedule, where it is told already."""
    section, _, rest = key.partition(".")
    step, _, name = rest.partition(".")
    if section != "steps":
        return False
    phase = "base" if flat.get(f"steps.{step}.recipe") == "method.base" else "increment"
    return name not in ("epochs", "lr") or flat.get(key) == flat.get(f"schedule.{phase}.{name}")


def _place(key: str, flat: Mapping[str, str], default: Mapping[str, str]) -> bool:
    """Whether a key says where a file of weights lies that is the default's by its digest."""
    folder, _, name = key.rpartition(".")
    digest = f"{folder}.sha256"
    same = bool(flat.get(digest)) and flat.get(digest) == default.get(digest)
    return name == "weights" and same and flat.get(key) not in ("none", "imagenet")


def _short(key: str) -> str:
    for prefix, shown in (
        ("method.losses.", ""),
        ("method.base.losses.", "base."),
        ("method.", ""),
    ):
        if key.startswith(prefix):
            return shown + key.removeprefix(prefix)
    return key


def _text(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= 24 else f"{text[:23]}…"
