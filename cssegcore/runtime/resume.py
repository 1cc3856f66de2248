"""Going on where a killed training stopped.

After every epoch the whole state goes into one file outside of the pipeline's outputs (those are
deleted when a stage starts again), named by a digest of everything that determines the result. A
training started again with the same digest continues from it; any other never sees it.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cssegcore.core.errors import InputError
from cssegcore.core.files import UNREADABLE, replacing


@dataclass(frozen=True)
class ResumeFile:
    """The resume file of one training."""

    path: Path

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the file; a kill in between leaves the old one whole."""
        whole = io.BytesIO()  # torch's own file writer turns a full disk into a RuntimeError
        torch.save(state, whole)
        with replacing(self.path) as temporary:
            temporary.write_bytes(whole.getvalue())

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Returns the saved state, or nothing if no training was interrupted here.

        Raises:
            InputError: The file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location=device, weights_only=True)
        except UNREADABLE:
            raise InputError(
                f"the resume file {self.path} is damaged: delete it, and the step starts from its"
                " first epoch."
            ) from None

    def remove(self) -> None:
        """Forgets the state: the training came to its end."""
        self.path.unlink(missing_ok=True)
