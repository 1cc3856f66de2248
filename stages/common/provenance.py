"""When, where and by what a run was made. Its page tells it, and no result depends on it."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cssegcore.core.training_files import read_timing

MADE_BY_DVC = (":!params.yaml", ":!dvc.lock")
"""Files that an experiment changes by itself; the page has the parameters."""


def read_provenance(folder: Path, steps: Sequence[str]) -> dict[str, str]:
    """Returns by name what is known of date, commit, DVC experiment, and trainings.

    Args:
        folder: Folder of the steps' folders, for each `timing.json`.
        steps: Names of the steps.
    """
    known = {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "experiment": os.environ.get("DVC_EXP_NAME"),
        **_of_trainings([_timing(folder / step / "timing.json") for step in steps]),
    }
    return {key: value for key, value in known.items() if value}


def read_seconds(folder: Path, steps: Sequence[str]) -> dict[str, float]:
    """Returns how long the training of each step took; a step without `timing.json` is left out.

    They are told and never a result, so no stage depends on them: see dvc.yaml.

    Raises:
        InputError: A file is damaged.
    """
    paths = {step: folder / step / "timing.json" for step in steps}
    return {step: read_timing(path) for step, path in paths.items() if path.is_file()}


def _commit() -> str | None:
    """Returns the commit of the current folder, and whether what it holds was changed."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *MADE_BY_DVC)
    return f"{commit}, with uncommitted changes" if changed else commit


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _timing(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_trainings(timings: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Returns the time of all steps together if it is known, the most memory, and all devices."""
    seconds = [told["seconds"] for told in timings if "seconds" in told]
    memory = [told["peak_memory_mib"] for told in timings if "peak_memory_mib" in told]
    devices = [
        f"{told['processes']} × {told['device']}" if told["processes"] > 1 else told["device"]
        for told in timings
        if {"device", "processes"} <= told.keys()
    ]
    return {
        "training": _duration(sum(seconds)) if len(seconds) == len(timings) else None,
        "peak memory": f"{max(memory):,.0f} MiB" if memory else None,
        "device": "; ".join(dict.fromkeys(devices)),
    }


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
