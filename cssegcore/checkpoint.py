"""A step's model on disk: weights as safetensors, and what they were made for."""

import dataclasses
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from cssegcore.errors import InputError
from cssegcore.files import replacing
from cssegcore.networks import Architecture, Segmenter
from cssegcore.parts import make_part
from cssegcore.strict import build

NETWORKS = "cssegcore.networks"
KEY = "cssegcore"


@dataclasses.dataclass(frozen=True)
class Model:
    """What a model file says of itself.

    Attributes:
        step: The step that made it.
        network: The recipe of its architecture.
        classes: Names of its outputs, a list for each head.
        raw: The dataset's label of each output.
    """

    step: str
    network: dict[str, object]
    classes: list[list[str]]
    raw: list[list[int]]


def new_segmenter(network: Mapping[str, object], outputs: list[int]) -> Segmenter:
    """Builds a network with fresh heads.

    Raises:
        InputError: The architecture is unknown, or a number or weight file of it is wrong.
    """
    architecture = make_part(NETWORKS, Architecture, network, "model")
    return Segmenter(architecture.trunk(), outputs)


def save(path: Path, segmenter: Segmenter, model: Model) -> None:
    """Writes weights and description; the same weights give the same bytes."""
    tensors = {k: v.detach().contiguous().cpu() for k, v in segmenter.state_dict().items()}
    with replacing(path) as temporary:
        text = json.dumps(dataclasses.asdict(model), sort_keys=True, ensure_ascii=False)
        # not `save_file`, whose error over a full disk is no OSError
        temporary.write_bytes(serialize(tensors, {KEY: text}))


def load(path: Path, device: torch.device) -> tuple[Segmenter, Model]:
    """Reads a network as it was saved, in evaluation mode.

    Raises:
        InputError: The file is missing, damaged, or no model of this library.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise InputError(f"the model {path} does not exist: run `dvc repro` first.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"the model {path} cannot be read ({error}): delete it and run `dvc repro` again."
        ) from None
    if text is None:
        raise InputError(f"{path} holds weights, but no model of cssegcore: choose another file.")
    try:
        model = build(Model, json.loads(text), str(path))
        network = model.network | ({"weights": "none"} if "weights" in model.network else {})
        segmenter = new_segmenter(network, [len(names) for names in model.classes])
        segmenter.load_state_dict(tensors)
    except (json.JSONDecodeError, RuntimeError) as error:
        raise InputError(
            f"the weights in {path} do not fit what it says of them"
            f" ({textwrap.shorten(str(error), 160)}): run `dvc repro` to make it again."
        ) from None
    return segmenter.to(device).eval(), model
