"""Sources of a backbone's first weights: files, their digests, and their state dicts."""

import dataclasses
import hashlib
import pickle
import re
import struct
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.core.files import UNREADABLE
from cssegcore.core.normalization import Normalization
from cssegcore.models.backbones._known import check_normalization

WEIGHTS = "model.backbone.weights"
SHA256 = "model.backbone.sha256"
POINTER = b"version https://git-lfs"
"""First bytes of a Git LFS pointer, which stands for another file."""
POINTER_ADVICE = (
    "it is a Git LFS pointer, which stands for the file: run `git lfs pull` where it is"
)
COUNTER = "num_batches_tracked"
"""Key of a normalisation that old files lack; nothing depends on its value."""
NO_PICKLE = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
"""Errors of `torch.load` for a text or other bytes, which it takes for commands of a pickle."""
SHOWN = 3
"""Number of keys that an error names."""

StateDict = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """Source of the first weights, as in a recipe.

    Attributes:
        weights: `none`, `imagenet`, or a path.
        sha256: First hexadecimal digits of the file's digest; "" accepts every file.
    """

    weights: str
    sha256: str

    def check_words(self, way: str) -> None:
        """Refuses `weights` without a file, and a `sha256` that is no digest.

        Args:
            way: Advice on the value of `weights`, for the error.

        Raises:
            ValueError: There is no such file, or `sha256` is no beginning of a digest.
        """
        if not re.fullmatch(r"([0-9a-f]{8,64})?", self.sha256):
            raise ValueError(
                f"`sha256` must be 8 to 64 hexadecimal digits in small letters, got {self.sha256!r}"
            )
        if self.weights in ("none", "imagenet"):
            if self.sha256 and self.weights == "imagenet":
                raise ValueError("`sha256` is of a file, but `weights` is imagenet: set it to ''")
        elif not Path(self.weights).is_file():
            raise ValueError(f"`weights` is {self.weights!r}, and there is no such file: {way}")

    def check_digest(self, normalization: Normalization) -> None:
        """Holds the file's digest against `sha256`, and against files that are known.

        Args:
            normalization: Normalisation of the images that the network will read.

        Raises:
            InputError: The digest differs, the file cannot be read, it is a Git LFS pointer, or it
                is known to be of images of another normalisation.
        """
        if self.weights in ("none", "imagenet"):
            return
        path = Path(self.weights)
        found = file_digest(path)
        if is_pointer(path):
            raise InputError(
                f"`{WEIGHTS}`: {path} cannot be used as weights. Reason: {POINTER_ADVICE}."
            )
        if not found.startswith(self.sha256):
            raise InputError(
                f"`{SHA256}` is {self.sha256}, but the SHA-256 of {self.weights} is {found}: fetch"
                f" the file again, or set `{SHA256}` to the latter if it is the file you mean."
            )
        check_normalization(found, path, normalization)

    def read(self, fit: Callable[[StateDict], StateDict], network: str) -> StateDict:
        """Reads the file.

        Args:
            fit: Picks and renames the network's tensors; raises `ValueError` if one is missing.
            network: Name of the network and what to do instead, for the error.

        Raises:
            InputError: The file cannot be read, or its weights do not fit.
        """
        try:
            return fit(read_tensors(Path(self.weights)))
        except (*UNREADABLE, SafetensorError) as error:
            raise InputError(
                f"`{WEIGHTS}`: {self.weights} cannot be used as the weights of {network}. Reason:"
                f" {textwrap.shorten(str(error), 400)}."
            ) from None


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"`{WEIGHTS}`: {path} cannot be read ({error}).") from None


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def read_tensors(path: Path) -> StateDict:
    """Reads a state dict, also one that a training script wrapped into something else.

    Raises:
        ValueError: The file holds no state dict, or several. Damaged files raise an error of
            `UNREADABLE`, or `SafetensorError`.
    """
    if is_pointer(path):
        raise ValueError(POINTER_ADVICE)
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except NO_PICKLE:  # PyTorch's words propose to run what is in it, or are a bare number
        raise ValueError(
            "it holds no weights, is damaged, or holds more than tensors, which could run programs"
            " and is not read"
        ) from None
    return _unwrapped(stored)


def _unwrapped(stored: object) -> StateDict:
    if _is_state_dict(stored):
        return dict(stored)  # type: ignore[call-overload]
    if not isinstance(stored, Mapping):
        raise ValueError(f"it holds a {type(stored).__name__}, no state dict")
    inner = {key: value for key, value in stored.items() if _is_state_dict(value)}
    if len(inner) > 1:
        raise ValueError(
            f"it holds several state dicts ({_named(inner)}): save the one that you mean in a file"
            " of its own"
        )
    if not inner:
        raise ValueError(f"it holds no state dict, but {_named(stored) or 'nothing'}")
    (only,) = inner.values()
    return dict(only)


def _is_state_dict(value: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def matched(
    wanted: Mapping[str, torch.Size], stored: StateDict, unused: tuple[str, ...]
) -> StateDict:
    """Returns the tensors of a network from a state dict in which its keys may have a prefix.

    Args:
        wanted: Shape of each tensor of the network.
        stored: State dict of the file. A prefix (`module.`, `backbone.`) is removed if the whole
            network is under it; keys without the prefix then belong to another network.
        unused: Prefixes of keys (after that prefix) that the network may leave out.

    Raises:
        ValueError: The network is not in there, or twice; the message names what differs.
    """
    required = [key for key in wanted if not key.endswith(COUNTER)]
    prefix = _prefix(required, stored)
    found = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    shapes = [k for k in required if k in found and found[k].shape != wanted[k]]
    sizes = [f"{k} is {_size(found[k].shape)}, not {_size(wanted[k])}" for k in shapes]
    others = [k for k in found if k not in wanted and not k.startswith(unused)]
    faults = {
        "{} are missing ({})": [k for k in required if k not in found],
        "{} have another shape ({})": sizes,
        "{} do not belong to the network ({})": others,
    }
    if any(faults.values()):
        said = [text.format(len(keys), _named(keys)) for text, keys in faults.items() if keys]
        raise ValueError(f"of its tensors, {'; '.join(said)}")
    return {key: value for key, value in found.items() if key in wanted}


def _prefix(required: list[str], stored: StateDict) -> str:
    """Returns the common prefix of the network's keys."""
    first = required[0]
    ends = [key.removesuffix(first) for key in stored if key.endswith(f".{first}")]
    there = {p: sum(p + key in stored for key in required) for p in ["", *ends]}
    whole = [prefix for prefix, count in there.items() if count == len(required)]
    if len(whole) > 1:
        places = _named(prefix or "no prefix" for prefix in whole)
        raise ValueError(
            f"it holds the network several times (under {places}): save the one that you mean in a"
            " file of its own"
        )
    return max(there, key=lambda prefix: there[prefix])


def _named(keys: Iterable[object]) -> str:
    """Lists a few keys."""
    listed = [str(key) for key in keys]
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")


def _size(shape: torch.Size) -> str:
    return "×".join(map(str, shape)) or "a number"
