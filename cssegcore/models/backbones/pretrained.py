"""Where a backbone's first weights come from."""

import dataclasses
import hashlib
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.files import UNREADABLE
from cssegcore.models.backbones.inplace_abn import of_inplace_abn

Style = Literal["torchvision", "mapillary"]
"""Whose ResNet it is, and whose files fit."""

RELEASED = {
    "resnet50": "ResNet50v1 in the README of github.com/mapillary/inplace_abn",
    "resnet101": "release v1.0 of github.com/arthurdouillard/CVPR2021_PLOP",
}
"""Where the in-place ABN weights of a backbone are."""
HELD: dict[Style, str] = {
    "torchvision": "a state dict of torchvision's {0}",
    "mapillary": "in-place ABN's {0}, as {0}_iabn_sync.pth.tar does (`model.style` is mapillary)",
}
"""What a file must hold."""
WAY_OUT: dict[Style, str] = {
    "torchvision": "give the path of a torchvision {0} state dict, `imagenet` or `none`",
    "mapillary": "fetch {0}_iabn_sync.pth.tar ({1}) and give its path, or `none` to train from"
    " scratch",
}
"""What else to do, where `weights` names nothing; {1} is where a file is to be had."""


@dataclasses.dataclass(frozen=True)
class PretrainedWeights:
    """The first weights of a ResNet, as a recipe names them.

    Attributes:
        backbone: torchvision's name of the network.
        source: `none` (from scratch), `imagenet` (torchvision's, downloaded or cached), or a path.
        style: Whose network it is.
        sha256: What the digest of the file begins with, in hexadecimal; "": anything.
    """

    backbone: str
    source: str
    style: Style = "torchvision"
    sha256: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([0-9a-f]{8,64})?", self.sha256):
            raise ValueError(
                f"`sha256` must be 8 to 64 hexadecimal digits in small letters, got {self.sha256!r}"
            )
        if self.source == "imagenet" and self.style != "torchvision":
            raise ValueError(
                f"`weights` is imagenet, but style {self.style} has no download: {self._way}"
            )
        if self.source not in ("none", "imagenet") and not Path(self.source).is_file():
            raise ValueError(
                f"`weights` is {self.source!r}, and there is no such file: {self._way}"
            )

    @property
    def _way(self) -> str:
        return WAY_OUT[self.style].format(self.backbone, RELEASED.get(self.backbone, ""))

    def check(self) -> None:
        """Holds the file's digest against `sha256`, and a cached download's against its name.

        Raises:
            InputError: They differ, or the file cannot be had or read.
        """
        if self.source == "none":
            return
        path = self._path()
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self._unusable(path, error) from None
        if self.source == "imagenet" and not found.startswith(_named(path)):
            raise InputError(
                f"`model.weights` is imagenet, but {path} is damaged: its SHA-256 is {found} and"
                " does not begin as its name says. Delete it, and it is downloaded again."
            )
        if not found.startswith(self.sha256):
            raise InputError(
                f"`model.sha256` is {self.sha256}, but the SHA-256 of {path} is {found}: fetch the"
                " file again, or set `model.sha256` to the latter if it is the file you mean."
            )

    def fill(self, network: nn.Module) -> None:
        """Puts them into a ResNet of torchvision's that has lost its classifier.

        Raises:
            InputError: They cannot be had or do not fit.
        """
        if self.source == "none":
            return
        path = self._path()
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(STORED[self.style](stored))
        except (*UNREADABLE, TypeError, AttributeError) as error:
            raise self._unusable(path, error) from None

    def _unusable(self, path: Path, error: Exception) -> InputError:
        return InputError(
            f"`model.weights`: {path} cannot be used ({textwrap.shorten(str(error), 160)}): it must"
            f" hold {HELD[self.style].format(self.backbone)}; a damaged download must be deleted."
        )

    def _path(self) -> Path:
        return _cached(self.backbone) if self.source == "imagenet" else Path(self.source)


def _of_torchvision(stored: object) -> dict[str, Tensor]:
    if not isinstance(stored, Mapping):
        raise TypeError("no state dict")
    if "state_dict" in stored:
        raise TypeError("in-place ABN's, it seems, which deeplabv3 reads with `style: mapillary`")
    return {key: value for key, value in stored.items() if not key.startswith("fc.")}


STORED = {"torchvision": _of_torchvision, "mapillary": of_inplace_abn}


def _cached(backbone: str) -> Path:
    """Returns where torchvision keeps its weights, fetched if they are not there."""
    from torchvision import models

    url = models.get_model_weights(backbone)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), _named(path), progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: the digest differs
            raise InputError(
                f"`model.weights` is imagenet, and {path.name} is neither cached nor to be"
                f" downloaded ({error}): put the file into {path.parent}, or set `model.weights` to"
                " its path, or to `none` to train from scratch."
            ) from None
    return path


def _named(path: Path) -> str:
    """Returns the beginning of the digest, which torchvision has in names: `resnet50-0676ba61`."""
    return path.stem.rsplit("-", 1)[-1]
