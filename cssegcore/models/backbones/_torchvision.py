"""torchvision's ImageNet weights: its download, its cache, and the digest in a file's name."""

from pathlib import Path

import torch
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.core.files import UNREADABLE
from cssegcore.models.backbones._pretrained import WEIGHTS, file_digest, read_tensors


def imagenet_weights(network: str) -> dict[str, Tensor]:
    """Returns torchvision's first ImageNet weights of a network, fetched if they are not cached.

    Raises:
        InputError: They cannot be fetched, or the cached file is damaged.
    """
    path = _cached(network)
    found = file_digest(path)
    try:
        if found.startswith(_start(path)):
            return read_tensors(path)
        reason = f"its SHA-256 is {found} and does not begin as its name says"
    except UNREADABLE as error:
        reason = str(error)
    raise InputError(
        f"`{WEIGHTS}` is imagenet, but {path} is damaged: {reason}. Delete it, and it is downloaded"
        " again."
    )


def _cached(network: str) -> Path:
    from torchvision import models  # slow to import; only real backbones pay for it

    url = models.get_model_weights(network)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), _start(path), progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: the digest differs
            raise InputError(
                f"`{WEIGHTS}` is imagenet, and {path.name} is neither cached nor to be downloaded"
                f" ({error}): put the file into {path.parent}, or set `{WEIGHTS}` to its path, or"
                " to `none` to train from scratch."
            ) from None
    return path


def _start(path: Path) -> str:
    """Returns the beginning of the digest, which torchvision has in names: `resnet50-0676ba61`."""
    return path.stem.rsplit("-", 1)[-1]
