"""Trainings of a second on the tiny scenes: what the tests of the library share."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cssegcore.core.class_table import ClassTable
from cssegcore.core.files import write_json
from cssegcore.core.registry import build_part
from cssegcore.core.types import BackgroundOutput, Scores
from cssegcore.data.dataset import Dataset, open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import build_index
from cssegcore.method.method import SLOTS
from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels
from cssegcore.method.replay import ExemplarRequest, Replay, SynthesisRequest
from cssegcore.method.unknown_class import Unknown
from cssegcore.models import checkpoint
from cssegcore.models._base import Architecture
from cssegcore.models.backbones import Backbone
from cssegcore.models.heads.linear import Linear
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.resume import ResumeFile
from cssegcore.saliency.maps import write_maps
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import write_splits
from cssegcore.training.hooks import EpochRow, Hooks
from cssegcore.training.setup import StageInputs, TrainingParams, build_trainer
from cssegcore.training.trainer import Trained, Trainer
from tests.helpers import tiny_dataset as scenes

torch.set_num_threads(1)

CPU = torch.device("cpu")
METHODS = sorted(path.stem for path in (scenes.HOME / "conf" / "method").glob("*.yaml"))
BACKBONE = {"part": "small", "stem": [8, 8], "widths": [8, 8, 8], "dilation": 1}
MODEL = {"part": "small", "backbone": BACKBONE, "depth": 8}
VIT_BACKBONE = {"part": "vit", "patch": 8, "width": 8, "depth": 1, "heads": 2, "image": 16}
VIT_MODEL = {"part": "mask_transformer", "backbone": VIT_BACKBONE, "blocks": 2, "heads": 2}
OPTIMIZER = {
    "part": "sgd",
    "batch_size": 2,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "power": 0.9,
    "clip": 0,
    "amp": True,
}
LINEAR = {"part": "linear"}
AUGMENTATIONS = {
    "part": "random_resized_crop",
    "size": 16,
    "area": [0.5, 1],
    "aspect": [1, 1],
    "flip": 0.5,
}
STEPS = {"step0": ("red", "green"), "step1": ("blue",), "step2": ("yellow",)}
CLASSES = {"step0": 3, "step1": 4, "step2": 5}
"""How many are told apart after a step, the background included."""


QUICK = {"phases": [[1, 2]], "batch_size": 4, "border": 0}
"""Of an inversion that only has to run."""


def method_section(name: str) -> dict[str, Any]:
    """Returns the section `method` of a recipe in conf/; images are made in no time."""
    section = scenes.composed(f"method={name}", "published=none")["method"]
    if section["replay"]["part"] == "deepinversion":
        section["replay"] |= {"per_class": 1, "agreement": 0, "confidence": 0}
        section["replay"]["inversion"] |= QUICK
    return section


def model_of(method: str, usual: dict[str, Any] = MODEL) -> dict[str, Any]:
    """Returns the network that a recipe is tried on: class tokens where it asks for some."""
    terms = method_section(method)["losses"].values()
    wants = any(term["part"] == "class_feature_mse" for term in terms)
    return VIT_MODEL if wants else usual


def plan(method: str = "mib", epochs: int = 2, **changed: Any) -> TrainingParams:
    """Returns how to train a tiny network; `optimizer` changes single numbers of it."""
    optimizer = OPTIMIZER | changed.pop("optimizer", {})
    usual = {"lr": 0.1, "seed": 1, "model": model_of(method), "augmentation": AUGMENTATIONS}
    return TrainingParams(
        method=method_section(method), optimizer=optimizer, epochs=epochs, **usual | changed
    )


class Layers(nn.Sequential, Backbone):
    """A backbone of some layers, for extractors that only tests have; gives what the last one
    does."""


@dataclasses.dataclass(frozen=True)
class Lists:
    """The tiny scenes and their lists, in three steps."""

    dataset: Dataset
    folder: Path

    @classmethod
    def write(cls, folder: Path) -> "Lists":
        """Draws the scenes below `folder` and splits them."""
        root = scenes.make_scenes(folder / "dataset")
        dataset = open_dataset({"name": "tiny", "root": str(root), "layout": {"part": "voc"}})
        entries = build_index(dataset, lambda items, _: items)
        scenario = Scenario.of("overlapped", dataset.classes, STEPS)
        write_splits(folder / "split", scenario, entries, dataset.classes)
        return cls(dataset, folder / "split")

    def of(self, step: str, kind: str = "train") -> ImageList:
        """Reads a list: `train`, `seen` or `test`."""
        return ImageList.read(self.folder / step / f"{kind}.json")

    def prepare(
        self,
        how: TrainingParams,
        step: str,
        previous: Path | None = None,
        sources: StageInputs | None = None,
    ) -> Trainer:
        """Prepares the training of a step on the list its method asks for."""
        kind = how.method["images"] if previous else "train"
        image_list = self.of(step, kind)
        return build_trainer(how, self.dataset, image_list, previous, CPU, sources or StageInputs())

    def sources(
        self, how: TrainingParams, step: str, previous: Path | None, folder: Path
    ) -> StageInputs:
        """Has every part leave below `folder` what its stage would leave for a training."""
        saliency = self._saliency(how.method["base"]["unknown_class"])
        if previous is None:
            return StageInputs(saliency=saliency)
        before = list(STEPS)[list(STEPS).index(step) - 1]
        kept = folder / before / "memory" / "list.json"
        memory, pseudo_labels = (folder / step / kind for kind in ("memory", "pseudo_labels"))
        request = ExemplarRequest(
            dataset=self.dataset,
            current=self.of(step),
            previous_images=self.of(before),
            previous_memory=ImageList.read(kept) if kept.exists() else None,
            model=previous,
            seed=how.seed,
            progress=whole,
        )
        replay = build_part(SLOTS["replay"], Replay, how.method["replay"], "method.replay")
        replay.select_exemplars(memory, request)
        synthesis = folder / step / "synthesis"
        replay.synthesize(synthesis, self.synthesis(how, step, previous, folder))
        lists = {"train": self.of(step)}
        if (memory / "list.json").exists():
            lists["memory"] = ImageList.read(memory / "list.json")
        rule, where = how.method["pseudo_labels"], "method.pseudo_labels"
        build_part(SLOTS["pseudo_labels"], PseudoLabels, rule, where).write(
            pseudo_labels, LabelRequest(self.dataset, lists, previous, whole)
        )
        return StageInputs(pseudo_labels, memory, saliency, synthesis)

    def synthesis(
        self, how: TrainingParams, step: str, previous: Path, folder: Path
    ) -> SynthesisRequest:
        """Returns the moment before a step when images are made, from a model file."""
        kept = folder / list(STEPS)[list(STEPS).index(step) - 1] / "synthesis"
        if not kept.exists():
            write_json(kept / "manifest.json", {"images": []})
        return SynthesisRequest(
            dataset=self.dataset,
            current=self.of(step),
            augmentation=how.augmentation,
            previous_synthesis=kept,
            model=previous,
            seed=how.seed,
            resume=lambda: folder / f"{step}-synthesis.pt",
            progress=whole,
            tell=lambda _: None,
        )

    def _saliency(self, recipe: dict[str, Any]) -> Path | None:
        rule = build_part(SLOTS["unknown_class"], Unknown, recipe, "method.base.unknown_class")
        if not rule.by_saliency:
            return None
        out = self.folder / "saliency"
        if not out.exists():
            write_maps(out, self.dataset, self.dataset.names("train"), rule.maps, whole)
        return out


def whole(items: Any, _: int) -> Any:
    """Shows no progress."""
    return items


@dataclasses.dataclass
class Follower:
    """Remembers the rows of a training."""

    rows: list[EpochRow] = dataclasses.field(default_factory=list)

    def hooks(self) -> Hooks:
        return Hooks(epoch=self.rows.append, progress=whole)


def run(trainer: Trainer, resume: Path) -> Trained:
    """Trains without anybody watching."""
    return trainer.train(ResumeFile(resume), Follower().hooks())


def train_base(lists: Lists, path: Path, **changed: Any) -> Path:
    """Trains the base step and saves its model; `changed` as in `plan`."""
    trainer = lists.prepare(plan(**changed), "step0")
    trained = run(trainer, path.with_suffix(".resume"))
    checkpoint.save(path, trainer.segmenter, trainer.model, trained.statistics)
    return path


def new_segmenter(
    outputs: list[int], unknown: Scores | None = None, model: dict[str, Any] = MODEL
) -> Segmenter:
    """Returns a network with fresh weights, its heads single convolutions."""
    extractor = build_part(checkpoint.NETWORKS, Architecture, model, "model").extractor()
    return Segmenter(extractor, Linear(), outputs, unknown)


def awake(segmenter: Segmenter) -> Segmenter:
    """Has normalisations see blocks of colours, so that a network tells places apart untrained."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(4, 3, 8, 8, generator=generator)
    batch = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    segmenter.train()
    with torch.no_grad():
        for _ in range(20):
            segmenter(batch)
        for head in segmenter.groups:
            for weight in head.parameters():
                weight.mul_(8)
        means = segmenter.eval()(batch).logits.mean((0, 2, 3))
        first = int(segmenter.background == "rejected")
        for head in segmenter.groups:  # no class wins everywhere
            head.bias.sub_(means[first : first + head.outputs])
            first += head.outputs
    return segmenter


FOUR = ClassTable.of([["background", "red", "green"], ["blue"]], [[0, 1, 2], [3]])
"""The classes of `write_model`, of two steps."""


def write_model(
    path: Path,
    network: dict[str, Any] = MODEL,
    unknown: Scores | None = None,
    background: BackgroundOutput = "argmax",
) -> Path:
    """Writes a model that nobody trained, and that tells places apart."""
    torch.manual_seed(0)
    model = checkpoint.Model("step1", network, LINEAR, unknown, FOUR, background)
    checkpoint.save(path, awake(model.segmenter()), model, {})
    return path


def state(segmenter: Segmenter) -> dict[str, bytes]:
    """Returns the bytes of every weight and statistic."""
    return {k: v.numpy().tobytes() for k, v in segmenter.state_dict().items()}
