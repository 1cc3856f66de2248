"""The two kinds of files: writing one, and running it for a comparison."""

import abc
import contextlib
import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import UInt8, config
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from cssegcore.core.errors import InputError
from cssegcore.export.network import INPUT, OUTPUTS, PhotographNetwork

DESCRIPTION = "cssegcore"
"""Name of a file's description: an extra file, or a key of ONNX's metadata."""

AXES = ("batch", "height", "width")

Answers = tuple[NDArray[Any], ...]
"""Outputs of a file for photographs, in the order of `OUTPUTS`."""


class ExportedFile(abc.ABC):
    """A kind of file.

    Attributes:
        suffix: Ending of its name.
        packages: Packages that must be installed besides PyTorch.
    """

    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()

    def check_packages(self) -> None:
        """Makes sure that the file can be written and checked.

        Raises:
            InputError: A package is not installed.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"a file {self.suffix} takes the package {missing[0]}, which is not installed: `pip"
                " install onnx onnxscript onnxruntime`, which is the extra `export` of cssegcore"
                " as well; or name a file .pt2, which takes none."
            )

    @abc.abstractmethod
    def write(self, path: Path, program: ExportedProgram, about: dict[str, Any]) -> None:
        """Writes a program and its description."""

    @abc.abstractmethod
    def run(self, path: Path, batches: list[UInt8[np.ndarray, "_ _ _ 3"]]) -> Iterator[Answers]:
        """Reads the file and runs it on each batch; the name of the file may be any."""


@final
class TorchFile(ExportedFile):
    """A program of `torch.export`."""

    suffix = ".pt2"

    def write(self, path: Path, program: ExportedProgram, about: dict[str, Any]) -> None:
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={DESCRIPTION: json.dumps(about)})  # type: ignore[arg-type]

    def run(self, path: Path, batches: list[UInt8[np.ndarray, "_ _ _ 3"]]) -> Iterator[Answers]:
        with path.open("rb") as file:
            network = torch.export.load(file).module()  # type: ignore[arg-type]
        for batch in batches:
            with torch.no_grad():
                yield tuple(answer.numpy() for answer in network(torch.from_numpy(batch)))


@final
class OnnxFile(ExportedFile):
    """An ONNX model; each entry of the description stands in its metadata by itself, too."""

    suffix = ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def write(self, path: Path, program: ExportedProgram, about: dict[str, Any]) -> None:
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
        )
        assert made is not None, "by `dynamo`"
        shape = made.model.graph.inputs[0].shape
        assert shape is not None, "of a tensor"
        named = zip(shape[:3], AXES, strict=True)
        made.rename_axes({dim.value: name for dim, name in named if not isinstance(dim, int)})  # type: ignore[misc]
        texts = {DESCRIPTION: about, **about}
        made.model.metadata_props.update({key: json.dumps(texts[key]) for key in texts})
        made.save(str(path), external_data=False)

    def run(self, path: Path, batches: list[UInt8[np.ndarray, "_ _ _ 3"]]) -> Iterator[Answers]:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[attr-defined]

        failures = tuple(
            kind
            for kind in vars(state).values()
            if isinstance(kind, type) and issubclass(kind, Exception)
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it raises what it says
        try:
            session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
            for batch in batches:
                yield tuple(map(np.asarray, session.run(list(OUTPUTS), {INPUT: batch})))
        except failures as error:
            raise RuntimeError(str(error)) from None


FILES = {kind.suffix: kind for kind in (TorchFile(), OnnxFile())}


@dataclasses.dataclass(frozen=True)
class Traced:
    """A network as a program.

    Attributes:
        program: Program that computes labels, confidences and scores of photographs.
        smallest: Height and width of the smallest photograph, in pixels; of the only one if the
            size is fixed.
        fixed: Whether it reads one size only, and one photograph at a time.
    """

    program: ExportedProgram
    smallest: tuple[int, int]
    fixed: bool


class StaticSizeError(RuntimeError):
    """A network computes with sizes in a way that a program cannot."""


def trace(network: PhotographNetwork, size: tuple[int, int] | None) -> Traced:
    """Makes a program of a network.

    Args:
        network: The network, on the CPU.
        size: Height and width of all photographs; None: any size, in batches of any length.

    Raises:
        StaticSizeError: Without `size`: the network is made for one size.
    """
    b, (h, w) = (1, size) if size else (2, (200, 264))
    example = torch.zeros(b, h, w, 3, dtype=torch.uint8)
    free = dict.fromkeys(range(3), Dim.AUTO)
    with torch.no_grad(), quiet(), _without_shape_checks():
        program = torch.export.export(network, (example,), dynamic_shapes=None if size else (free,))
    if size:
        return Traced(program, size, fixed=True)
    (name,) = program.graph_signature.user_inputs
    (given,) = (node for node in program.graph.nodes if node.name == name)
    sides = given.meta["val"].shape[:3]
    if still := [axis for axis, side in zip(AXES, sides, strict=True) if isinstance(side, int)]:
        raise StaticSizeError(f"the network's {still[0]} cannot vary")
    ranges = [program.range_constraints[side.node.expr] for side in sides[1:]]
    lowest = [max(1, int(one.lower)) for one in ranges]
    return Traced(program, (lowest[0], lowest[1]), fixed=False)


@contextlib.contextmanager
def _without_shape_checks() -> Iterator[None]:
    """Disables jaxtyping, where it is active: its comparison of a size would fix the size."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses warnings about PyTorch's own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
