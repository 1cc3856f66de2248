"""`optimizer.compile` has PyTorch compile the feature extractors of networks that may gain by it.

On a GPU all of them: normalisations and activations are bound by memory there, and become part of
other operations. On a CPU those that stand still: their weights are taken for constants, so that
convolutions find them packed, and do the activations too. One that learns is left alone there: its
time goes into the same convolutions either way (figures in docs/performance.md).

Heads are not compiled, for they differ from step to step.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import torch

from cssegcore.core.errors import InputError
from cssegcore.models.segmenter import Segmenter


def check_compiler(device: torch.device) -> None:
    """Makes sure that compiling will not fail hours later, in the first step that compiles.

    Raises:
        InputError: The device is a CPU, and what PyTorch needs to compile for it is not there.
    """
    if device.type == "cpu" and (lacking := lacks()):
        raise InputError(
            f"`optimizer.compile` needs {lacking} on a CPU: install it, or set"
            " `optimizer.compile: false`."
        )


def lacks() -> str | None:
    """Returns what PyTorch would not find when it compiles for a CPU, if anything."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CXX", usual)
    name = next(iter(shlex.split(compiler)), "")
    if shutil.which(name) is None:
        return f"a C++ compiler ({compiler!r} does not run; the variable CXX may name another)"
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        return f"Python's header files (there is no {headers / 'Python.h'})"
    return None


def compile_extractors(
    segmenter: Segmenter, old: Segmenter | None, teachers: Sequence[Segmenter], device: torch.device
) -> None:
    """Has extractors compiled when they first run.

    Args:
        segmenter: The network in training, whose extractor may stand still.
        old: The model of the step before, which stands still.
        teachers: Models that made images, which stand still, too.
        device: Where they run.
    """
    if device.type != "cpu":
        for network in filter(None, (segmenter, old, *teachers)):
            network.compile_extractor()
        return
    if segmenter.batchnorm_is_fused:
        segmenter.compile_extractor(constant=True)
    if old is not None:
        old.compile_extractor(constant=True)
    # teachers are left out: other constants are another graph, and so is another number of images
