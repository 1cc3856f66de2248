"""Finished runs that DVC keeps: of the folder as it is, of branches, tags and experiments.

`dvc.lock` says what a report was made with and where the cache has it; git has each experiment's
lock, also of those that a queue ran. So nothing is checked out, and no stage is needed. While a run
goes on, its lock has the report of the one before it: a report counts with what it has read.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cssegcore.core.errors import InputError

from .found_runs import FoundRun
from .naming import as_texts

LOCK = "dvc.lock"
_HEX = frozenset("0123456789abcdef")


def dvc_runs() -> Iterator[FoundRun]:
    """Yields the finished runs of this repository, each under every name that it has."""
    locks = list(_locks())
    cache = _cache() if locks else Path()
    for source, time, content in locks:
        try:
            lock = yaml.load(content, Loader=yaml.CSafeLoader)["stages"]
            report = lock["report"]
            params = report["params"]["params.yaml"]
        except (yaml.YAMLError, LookupError, TypeError):
            continue  # of another pipeline, or a run that has no report yet
        yield FoundRun(
            source,
            as_texts(params),
            time,
            partial(_read, cache, _md5s(report.get("outs", []))),
            _optional(_md5s(report.get("deps", [])), "run.json", cache),
            _seconds(lock, cache),
        )


def _locks() -> Iterator[tuple[str, float, str]]:
    """Yields name, time and `dvc.lock` of the folder and of everything that git has a name for."""
    here = Path(LOCK)
    if here.is_file():
        yield "the workspace", here.stat().st_mtime, here.read_text(encoding="utf-8")
    listed = _git(
        *("for-each-ref", "--format=%(refname) %(committerdate:unix)"),
        *("refs/exps", "refs/heads", "refs/tags"),
    )
    for line in (listed or "").splitlines():
        name, _, time = line.rpartition(" ")
        _, kind, *rest = name.split("/")
        if kind == "exps" and not (len(rest) == 3 and {*rest[0], *rest[1]} <= _HEX):
            continue  # DVC's own: what its queue is at, what it has pushed
        if (content := _git("show", f"{name}:./{LOCK}")) is not None:  # git's top may be above
            source = f"experiment {rest[-1]}" if kind == "exps" else "/".join(rest)
            yield source, float(time or 0), content


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _cache() -> Path:
    """Asks DVC where its cache is, which a team may share.

    Raises:
        InputError: DVC cannot say.
    """
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`dvc cache dir` failed: {' '.join(done.stderr.split())[:200]}")
    return Path(done.stdout.strip().splitlines()[-1]) / "files" / "md5"


def _md5s(files: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the digests of a stage's outs or deps, by the last part of their paths."""
    return {Path(file["path"]).name: file["md5"] for file in files if "md5" in file}


def _read(cache: Path, outs: Mapping[str, str], name: str) -> bytes:
    """Returns a file of the report from the cache."""
    try:
        entries = json.loads(_stored(cache, outs["report"]).read_bytes())
        found = {entry["relpath"]: entry["md5"] for entry in entries}
        return _stored(cache, found[name]).read_bytes()
    except (OSError, ValueError, LookupError, TypeError):
        raise FileNotFoundError(
            "its report is not in DVC's cache: `dvc fetch report` (of branches with `-a`, of tags"
            " with `-T`; of experiments, `dvc exp pull`), or run it again."
        ) from None


def _stored(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _seconds(lock: Mapping[str, Any], cache: Path) -> float | None:
    """Returns how long the trainings behind the report took; None if one is not told.

    A lock has the trainings of steps that are no more, and while a run goes on, those of the next
    report: so each is followed from what the report has read.
    """
    total = 0.0
    try:
        params, read = lock["report"]["params"]["params.yaml"], _md5s(lock["report"]["deps"])
        step = params["scenario"]["last"]
        for _ in params["steps"]:
            evaluate, trained = lock[f"evaluate@{step}"], _md5s(lock[f"train@{step}"]["outs"])
            if read["evaluation"] != _md5s(evaluate["outs"])["evaluation"]:
                return None
            read = _md5s(evaluate["deps"])
            timing = _optional(trained, "timing.json", cache)
            if timing is None or read["model.safetensors"] != trained["model.safetensors"]:
                return None
            total += timing["seconds"]
            step = params["steps"][step]["previous"]
    except (LookupError, TypeError):
        return None
    return total


def _optional(md5s: Mapping[str, str], name: str, cache: Path) -> dict[str, Any] | None:
    """Returns the content of a JSON file in the cache; None if it is not there."""
    try:
        content = json.loads(_stored(cache, md5s[name]).read_bytes())
        return content if isinstance(content, dict) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
