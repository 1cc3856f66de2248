"""Where things lie that outlive a run of the pipeline."""

import os
from pathlib import Path


def scratch() -> Path:
    """Returns the folder for resume files, in the main repository.

    DVC runs queued experiments in temporary copies and names the main repository in `DVC_ROOT`.
    """
    return Path(os.environ.get("DVC_ROOT") or ".") / ".cssegcore"
