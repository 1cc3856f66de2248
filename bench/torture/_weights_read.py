"""Which files carry weights, and what reads them."""

from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import save_file

from bench.torture import _mutate
from bench.torture._ledger import ACCEPTED, DIFFERS, OTHER
from bench.torture._target import Target, stage
from bench.torture._tree import Tree
from cssegcore.core.registry import build_part
from cssegcore.models._base import Architecture
from cssegcore.models.checkpoint import NETWORKS, load_model
from cssegcore.runtime.resume import ResumeFile

CPU = torch.device("cpu")


def weights(tree: Tree) -> Iterator[Target]:
    """Yields models, resume files and published weights."""
    model = tree.folder / "work/step0/model.safetensors"

    def load() -> object:
        loaded = load_model(model, CPU)
        return loaded.digest, [v.numpy().tobytes() for v in loaded.segmenter.state_dict().values()]

    change = _mutate.change_bytes
    fault = "model: `train`, `evaluate`, `predict` and all others"
    yield Target(fault, "plain", model, change, load, 500, ACCEPTED)
    tree.anew("train@step0")
    tree.run("train@step0")
    (resume,) = (tree.folder / ".cssegcore/resume").glob("*.pt")

    def state() -> object:
        rows = (ResumeFile(resume).load(CPU) or {})["rows"]
        return repr(rows)

    fault = "resume file: `train`"
    yield Target(fault, "plain", resume, change, state, 400, ACCEPTED)
    whole = stage(tree, "train@step0", kept=True)
    yield Target(fault, "plain", resume, change, whole, 20, ACCEPTED)
    fault, note = "note of a finished training: all stages", resume.with_suffix(".finished")
    yield Target(fault, "plain", note, _mutate.change_json, whole, 40, DIFFERS)
    yield from _published(tree)


def _published(tree: Tree) -> Iterator[Target]:
    """Weights of a backbone as others publish them."""
    from cssegcore.models.backbones._pretrained import file_digest

    recipe: dict[str, Any] = tree.params["model"]
    network = build_part(NETWORKS, Architecture, recipe, "model")
    tensors = network.extractor().backbone.state_dict()  # type: ignore[union-attr]
    plain = {k: v.contiguous() for k, v in tensors.items()}
    for suffix in (".pth", ".safetensors"):
        path = tree.place / f"published{suffix}"
        if suffix == ".pth":
            torch.save(plain, path)
        else:
            save_file(plain, path)
        for sha256 in ("", file_digest(path)):
            backbone = {**recipe["backbone"], "weights": str(path), "sha256": sha256}
            said = "with" if sha256 else "without"
            yield Target(
                f"published weights, {said} their `sha256` in the recipe: `check`, `train`",
                "plain",
                path,
                _mutate.change_bytes,
                lambda backbone=backbone: _extracted({**recipe, "backbone": backbone}),
                150,
                ACCEPTED if sha256 else OTHER,
            )


def _extracted(recipe: dict[str, Any]) -> object:
    architecture = build_part(NETWORKS, Architecture, recipe, "model")
    architecture.check()
    torch.manual_seed(0)
    return [v.numpy().tobytes() for v in architecture.extractor().state_dict().values()]
