"""Weights of the package efficientnet_pytorch, read as weights of timm's EfficientNets.

Keys of https://github.com/lukemelas/EfficientNet-PyTorch, which numbers the blocks through, where
timm numbers them within a stage. The networks compute the same.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_BLOCK = re.compile(r"_blocks\.(\d+)\.")
ENDS = {
    "_conv_stem.": "conv_stem.",
    "_bn0.": "bn1.",
    "_conv_head.": "conv_head.",
    "_bn1.": "bn2.",
    "_fc.": "classifier.",
}
EXPANDED = {
    "_expand_conv.": "conv_pw.",
    "_bn0.": "bn1.",
    "_depthwise_conv.": "conv_dw.",
    "_bn1.": "bn2.",
    "_project_conv.": "conv_pwl.",
    "_bn2.": "bn3.",
}
DEPTHWISE = {
    "_depthwise_conv.": "conv_dw.",
    "_bn1.": "bn1.",
    "_project_conv.": "conv_pw.",
    "_bn2.": "bn2.",
}
"""Layers of a block whose input is not widened."""


def is_efficientnet_pytorch(stored: Iterable[str]) -> bool:
    """Whether the keys are those of the package efficientnet_pytorch."""
    return any(key.endswith("_conv_stem.weight") for key in stored)


def of_efficientnet_pytorch(stored: Mapping[str, Tensor], keys: Iterable[str]) -> dict[str, Tensor]:
    """Returns the weights under timm's names; weights of other blocks keep their names.

    Args:
        stored: Keys such as `_blocks.3._bn0.weight`, all with the same prefix or without one.
        keys: Keys of timm's network.
    """
    keys = list(keys)
    found = (re.match(r"(blocks\.\d+\.\d+\.)", key) for key in keys)
    blocks = list(dict.fromkeys(match[1] for match in found if match))
    expanded = {block: f"{block}conv_pwl.weight" in keys for block in blocks}

    def renamed(key: str) -> str:
        match = _BLOCK.search(key)
        if match is None:
            return _replaced(key, ENDS)
        if int(match[1]) >= len(blocks):
            return key
        block = blocks[int(match[1])]
        rest = _replaced(key[match.end() :], EXPANDED if expanded[block] else DEPTHWISE)
        return key[: match.start()] + block + rest

    return {renamed(key): value for key, value in stored.items()}


def _replaced(key: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        if theirs in key:
            return key.replace(theirs, ours)
    return key
