"""In-place ABN checkpoints, read as weights of torchvision's ResNets.

Rota Bulo et al., In-Place Activated BatchNorm for Memory-Optimized Training of DNNs, CVPR 2018,
https://arxiv.org/abs/1712.02616; files of https://github.com/mapillary/inplace_abn, from which
https://github.com/fcdl94/MiB and https://github.com/arthurdouillard/CVPR2021_PLOP start.
"""

import re
from collections.abc import Mapping

from torch import Tensor

_EPS = 1e-5
"""Term that the kernels add to the absolute value of a scale."""
_BLOCK = re.compile(r"mod(\d)\.block(\d+)\.")
PARTS = {"mod1.": "", "convs.": "", "proj_conv.": "downsample.0.", "proj_bn.": "downsample.1."}


def of_inplace_abn(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a checkpoint's tensors under torchvision's names; other names stay the same.

    In-place ABN scales by |gamma| + eps (forward_cpu in src/inplace_abn_cpu.cpp, version 1.0.7),
    which is the gamma of the plain normalisation that is returned. Training may take that one
    through 0, where in-place ABN's would turn back.

    Args:
        stored: Keys such as `mod1.conv1.weight`, all of them with the same prefix or without one.
    """
    renamed = {_renamed(key): value for key, value in stored.items()}
    return {
        key: value.abs() + _EPS if key.endswith(".weight") and value.ndim == 1 else value
        for key, value in renamed.items()
    }


def _renamed(key: str) -> str:
    """Turns `module.mod3.block2.convs.bn1.weight` into `module.layer2.1.bn1.weight`, and so on."""
    key = _BLOCK.sub(lambda found: f"layer{int(found[1]) - 1}.{int(found[2]) - 1}.", key)
    for theirs, ours in PARTS.items():
        key = key.replace(theirs, ours)
    return key
