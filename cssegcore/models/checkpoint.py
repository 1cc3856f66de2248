"""A step's model on disk: weights and statistics as safetensors, and their description."""

import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from cssegcore.core.class_table import ClassTable, with_class_table
from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import replacing
from cssegcore.core.registry import build_part
from cssegcore.core.types import BackgroundOutput, Scores
from cssegcore.models._base import Architecture
from cssegcore.models.heads import HeadKind
from cssegcore.models.segmenter import Segmenter

NETWORKS = "cssegcore.models.architectures"
HEADS = "cssegcore.models.heads"
KEY = "cssegcore"
DIGEST = "digest"
STATISTICS = "statistics"

Statistics = Mapping[str, Mapping[str, Tensor]]
"""Saved tensors of each statistic, by the part's name."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Description in a model file.

    Attributes:
        step: The step that made it.
        network: The recipe of its architecture.
        head: The recipe of its heads.
        unknown: Function to the unknown class's score; None if there is no such class.
        classes: The network's outputs.
        background: Meaning of output 0; older files, which lack it, have the learned one.
    """

    step: str
    network: dict[str, object]
    head: dict[str, object]
    unknown: Scores | None
    classes: ClassTable
    background: BackgroundOutput = "argmax"

    def segmenter(self) -> Segmenter:
        """Builds the network with fresh weights.

        Raises:
            InputError: The architecture or head is unknown, or a number or weight file is wrong.
        """
        architecture = build_part(NETWORKS, Architecture, self.network, "model")
        kind = build_part(HEADS, HeadKind, self.head, "method.base.head")
        outputs = [size for size in self.classes.sizes if size]
        architecture.check_outputs(outputs[0])
        return Segmenter(architecture.extractor(), kind, outputs, self.unknown, self.background)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model as it was saved, in evaluation mode, and the digest of all of it."""

    segmenter: Segmenter
    model: Model
    statistics: Statistics
    digest: str


def save(path: Path, segmenter: Segmenter, model: Model, statistics: Statistics) -> None:
    """Writes weights, statistics and description; the same values give the same bytes."""
    tensors = dict(segmenter.state_dict())
    for name, collected in statistics.items():
        tensors |= {f"{STATISTICS}|{name}|{key}": value for key, value in collected.items()}
    # clones: statistics may share memory with one another, which the format refuses
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    about = dataclasses.asdict(model) | model.classes.as_file()
    about[DIGEST] = _digest(tensors, about)
    with replacing(path) as temporary:
        text = _text(about)  # one entry: the format keeps no order of several
        # not `save_file`, whose error over a full disk is no OSError
        temporary.write_bytes(serialize(tensors, {KEY: text}))


def is_model(path: Path) -> bool:
    """Whether a file says that it is a model of this library; its weights are not read."""
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_model(path: Path, device: torch.device) -> Loaded:
    """Reads a model.

    A file is held against the digest in it: the format has no checksum, and a bit that flips in a
    weight gives another result without a word. A file without one is refused, as it may have lost
    it; a pipeline has none, since the change of this module made all models anew.

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
        if path.is_dir():
            raise InputError(
                f"the model {path} is a folder: name the file, such as {path}/model.safetensors."
            ) from None
        raise InputError(
            f"the model {path} cannot be read ({error}): if `dvc repro` made it, delete it and run"
            " that again; if not, name another file."
        ) from None
    if text is None:
        raise InputError(f"{path} holds weights, but no model of cssegcore: choose another file.")
    about = _checked(text, tensors, path)
    statistics: dict[str, dict[str, Tensor]] = {}
    for key in [k for k in tensors if k.startswith(f"{STATISTICS}|")]:
        _, name, rest = key.split("|", 2)
        statistics.setdefault(name, {})[rest] = tensors.pop(key).to(device)
    try:
        described = {k: v for k, v in about.items() if k != DIGEST}
        model = parse(Model, with_class_table(described), str(path))
        segmenter = dataclasses.replace(model, network=_fresh(model.network)).segmenter()
        segmenter.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"the weights in {path} do not fit what it says of them"
            f" ({textwrap.shorten(str(error), 160)}): run `dvc repro` to make it again."
        ) from None
    return Loaded(segmenter.to(device).eval(), model, statistics, about[DIGEST])


def _fresh(network: dict[str, object]) -> dict[str, object]:
    """Returns a network's recipe without the file that its training started from."""
    backbone = network.get("backbone")
    if not isinstance(backbone, Mapping):
        return network
    return network | {"backbone": {**backbone, "weights": "none"}}


def _checked(text: str, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Returns the description in `text` if it and the tensors are as they were written."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or DIGEST not in about:
        raise InputError(
            f"the model {path} has no digest of its content: it is damaged, or an older version"
            " wrote it. Run `dvc repro` to make it again."
        )
    if _digest(tensors, about) != about[DIGEST]:
        raise InputError(
            f"the model {path} is damaged: its content is not what was written. Delete it, and run"
            " `dvc checkout` or, if DVC's cache holds the same, `dvc repro -f` of its step."
        )
    return about


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Digests a model: the description, and every tensor's name, kind, shape and bytes."""
    sha = hashlib.sha256(_text({k: v for k, v in about.items() if k != DIGEST}).encode())
    for name in sorted(tensors):
        values = tensors[name].contiguous()
        sha.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
        sha.update(values.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _text(about: Mapping[str, Any]) -> str:
    return json.dumps(about, sort_keys=True, ensure_ascii=False)
