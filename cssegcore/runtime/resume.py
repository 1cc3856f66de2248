"""Resumes a training that was killed.

After every epoch the whole state goes into one file outside of the pipeline's outputs (those are
deleted when a stage starts again), named by a digest of everything that determines the result. A
training started again with the same digest continues from it; any other never sees it.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from cssegcore.core.errors import InputError, InputWarning
from cssegcore.core.files import UNREADABLE, replacing

_HEAD: Final = b"cssegcore resume file, SHA-256 "
"""First bytes of a file, before the digest of its content in hex digits, and a line end."""


@dataclass(frozen=True)
class ResumeFile:
    """The resume file of one training."""

    path: Path

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the file; a kill in between leaves the old one whole.

        A disk that is full ends no training that could go on: the old file stays, and a warning
        says so (Python shows it once).
        """
        whole = io.BytesIO()  # torch's own file writer turns a full disk into a RuntimeError
        torch.save(state, whole)
        try:
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                file.write(_head(whole.getbuffer()))
                file.write(whole.getbuffer())
        except InputError as error:
            warnings.warn(
                f"{error} Until then the training goes on, and if it is killed, it starts from the"
                " last state that could be written.",
                InputWarning,
                stacklevel=2,
            )

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Returns the saved state, or nothing if no training was interrupted here.

        Raises:
            InputError: The file is damaged: a bit of it is not as it was written.
        """
        if not self.path.exists():
            return None
        try:
            content = memoryview(self.path.read_bytes())
            length = len(_head(b""))
            if bytes(content[:length]) != _head(content[length:]):
                raise ValueError("its digest is another")
            state = io.BytesIO(content[length:])
            return torch.load(state, map_location=device, weights_only=True)
        except UNREADABLE:
            raise InputError(
                f"the resume file {self.path} is damaged: delete it, and what it held is made anew."
            ) from None

    @property
    def beforehand(self) -> "ResumeFile":
        """The file of the work before the training's first epoch, beside this one."""
        return ResumeFile(self.path.with_suffix(".before.pt"))

    @property
    def best(self) -> "ResumeFile":
        """The file of the state after the best epoch so far, beside this one."""
        return ResumeFile(self.path.with_suffix(".best.pt"))

    def batch(self, at: int) -> "ResumeFile":
        """Returns the file of batch number `at`, beside this one, of a work done in batches."""
        return ResumeFile(self.path.with_suffix(f".batch{at:04d}.pt"))


def _head(content: bytes | memoryview) -> bytes:
    return _HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n"
