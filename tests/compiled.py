"""Trainings plain and with `optimizer.compile`; a process of its own, without the checks of types.

What is compiled is traced by PyTorch, which cannot follow the wrappers that those checks put around
every function.
"""

import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo.utils import counters

from cssegcore import checkpoint
from cssegcore.files import write_json
from tests.tiny import CPU, STEPS, Lists, plan, run

METHODS = ("ft", "mib", "ssul")


def trained(lists: Lists, folder: Path, method: str, *, compiled: bool) -> dict[str, Any]:
    """Trains three steps; returns rows, weights and the number of graphs after each."""
    rows, graphs, previous = [], [], None
    torch._dynamo.reset()  # or a base step would find what another method compiled
    counters.clear()
    for step in STEPS:
        how = plan(method, epochs=2, optimizer={"compile": compiled})
        job = lists.prepare(how, step, previous, lists.sources(how, step, previous, folder))
        result = run(job, folder / f"{step}.resume")
        previous = folder / f"{step}.safetensors"
        checkpoint.save(previous, job.segmenter, job.model, result.statistics)
        rows += result.rows
        graphs.append(counters["stats"]["unique_graphs"])
    assert previous is not None
    weights = checkpoint.load(previous, CPU).segmenter.state_dict()
    return {
        "rows": rows,
        "weights": {name: value.tolist() for name, value in weights.items()},
        "graphs": graphs,
        "breaks": len(counters["graph_break"]),
    }


def main(folder: Path) -> None:
    """Writes what each training gave to `told.json`."""
    # traces and differentiates as ever, but generates no code: a C++ compiler takes a minute
    nn.Module.compile = partialmethod(nn.Module.compile, backend="aot_eager")  # type: ignore[assignment]
    lists = Lists.write(folder)
    told: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        for kind in ("plain", "compiled"):
            own = folder / method / kind
            own.mkdir(parents=True)
            how = trained(lists, own, method, compiled=kind == "compiled")
            told.setdefault(method, {})[kind] = how
    write_json(folder / "told.json", told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
