"""Compilation of extractors for `optimizer.compile`, where it may gain something.

On a GPU all extractors: normalizations and activations are bound by memory there, and become part
of other operations. On a CPU frozen extractors: their weights become constants, so that
convolutions find them packed and compute the activations too. An extractor that learns is not
compiled there: its time goes into the same convolutions either way (figures in
docs/performance.md).

Heads are not compiled, because they differ from step to step.
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
    """Checks that compiling will not fail hours later, in the first step that compiles.

    Raises:
        InputError: The device is a CPU, and PyTorch lacks a compiler or Python's headers.
    """
    if device.type == "cpu" and (lacking := lacks()):
        raise InputError(
            f"`optimizer.compile` needs {lacking} on a CPU: install it, or set"
            " `optimizer.compile: false`."
        )


def lacks() -> str | None:
    """Names the program or the file that PyTorch lacks to compile for a CPU, if any."""
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
    """Compiles extractors when they first run.

    Args:
        segmenter: The network in training, whose extractor may be frozen.
        old: The previous step's model, frozen.
        teachers: The models that the replayed images were inverted from, frozen.
        device: The device of all of them.
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
