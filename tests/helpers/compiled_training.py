"""Trainings plain and with `optimizer.compile`; a process of its own, without the checks of types.

What is compiled is traced by PyTorch, which cannot follow the wrappers that those checks put around
every function.
"""

import sys
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch._dynamo.utils import counters

from cssegcore.core.files import write_json
from cssegcore.models import checkpoint
from cssegcore.training.compile import compile_extractors
from tests.helpers.tiny_training import CPU, STEPS, Lists, plan, run

METHODS = ("ft", "mib", "ssul")
TRACED = partialmethod(nn.Module.compile, backend="aot_eager")
"""Traces and differentiates as ever, but generates no code, which takes a C++ compiler a minute."""


def trained(lists: Lists, folder: Path, method: str, kind: str) -> dict[str, Any]:
    """Trains three steps; returns rows, weights and the number of graphs after each.

    Args:
        kind: `plain` compiles nothing, `gpu` all extractors, as on one, and `cpu` what
            `optimizer.compile` has compiled here.
    """
    rows, graphs, previous = [], [], None
    torch._dynamo.reset()  # or a base step would find what another method compiled
    counters.clear()
    for step in STEPS:
        how = plan(method, epochs=2, optimizer={"compile": kind == "cpu"})
        trainer = lists.prepare(how, step, previous, lists.sources(how, step, previous, folder))
        if kind == "gpu":
            with patch.object(nn.Module, "compile", TRACED):
                compile_extractors(trainer.segmenter, trainer.old, (), torch.device("cuda"))
        result = run(trainer, folder / f"{step}.resume")
        previous = folder / f"{step}.safetensors"
        checkpoint.save(previous, trainer.segmenter, trainer.model, result.statistics)
        rows += result.rows
        graphs.append(counters["stats"]["unique_graphs"])
    assert previous is not None
    weights = checkpoint.load_model(previous, CPU).segmenter.state_dict()
    return {
        "rows": rows,
        "weights": {name: value.tolist() for name, value in weights.items()},
        "graphs": graphs,
        "breaks": len(counters["graph_break"]),
    }


def main(folder: Path, kinds: list[str]) -> None:
    """Writes what each training gave to `told.json`."""
    lists = Lists.write(folder)
    told: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        for kind in kinds:
            own = folder / method / kind
            own.mkdir(parents=True)
            told.setdefault(method, {})[kind] = trained(lists, own, method, kind)
    write_json(folder / "told.json", told)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
