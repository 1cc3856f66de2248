"""Where things lie that outlive a run of the pipeline."""

import glob
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path


def root() -> Path:
    """Returns the main repository.

    DVC runs queued experiments in temporary copies and names the main repository in `DVC_ROOT`.
    """
    return Path(os.environ.get("DVC_ROOT") or ".")


def scratch() -> Path:
    """Returns the folder for resume files and journals, in the main repository."""
    return root() / ".cssegcore"


def resume_path(name: str, sections: Sequence[object], inputs: Sequence[Path]) -> Path:
    """Names a resume file by everything that determines the result.

    Args:
        name: Beginning of the file's name.
        sections: Sections of the parameters.
        inputs: Files, and folders with all that is in them.
    """
    from cssegcore.core.files import digest

    files = sorted(f for i in inputs for f in ([i] if i.is_file() else i.rglob("*")) if f.is_file())
    text = json.dumps(sections, sort_keys=True)
    key = digest(text.encode(), *(f.read_bytes() for f in files))
    return scratch() / "resume" / f"{name}-{key}.pt"


def states() -> list[Path]:
    """Lists the resume files of which there is anything: the state, or what lies beside it."""
    files = (scratch() / "resume").glob("*-*.*")
    kinds = (".pt", ".lock", ".finished")
    return sorted({_state_of(f) for f in files if f.suffix in kinds})


def _state_of(file: Path) -> Path:
    """Returns the state that a file belongs to; see `files_beside`."""
    name = re.sub(r"\.(before|best|batch\d+)\.pt$", ".pt", file.name)
    return file.with_name(name).with_suffix(".pt")


def files_beside(state: Path) -> list[Path]:
    """Lists the further files of a state: `ResumeFile.beforehand`, `best`, and each `batch`."""
    return sorted(state.parent.glob(f"{glob.escape(state.stem)}.*.pt"))
