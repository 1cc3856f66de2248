"""What `optimizer.compile` has PyTorch compile: trunks of networks, where that gains something.

On a GPU all of them: normalisations and activations are bound by memory there, and become part of
other operations. On a CPU those that stand still: their weights are taken for constants, so that
convolutions find them packed, and do the activations too. One that learns gains nothing there, for
nearly all its time goes into the same convolutions either way (figures in docs/performance.md).

Heads are not compiled, for they differ from step to step. So what a step compiled, and PyTorch
keeps on disk, serves later ones.
"""

import os
import shutil
import sys
from collections.abc import Iterable

import torch

from cssegcore.errors import InputError
from cssegcore.networks import Segmenter


def compile_trunks(networks: Iterable[Segmenter], device: torch.device) -> None:
    """Has trunks compiled when they first run.

    Raises:
        InputError: There is no compiler of C++, which PyTorch needs on a CPU.
    """
    if device.type != "cpu":
        for network in networks:
            network.compile_trunk()
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:  # known before the base step, which compiles nothing
        raise InputError(
            f"`optimizer.compile` needs a C++ compiler on a CPU, and there is no {compiler!r}:"
            " install one, name it in the environment variable CXX, or set"
            " `optimizer.compile: false`."
        )
    for network in networks:
        if network.stands_still:
            network.compile_trunk(constant=True)
