"""Trainings and a test that two processes share: what each of the two runs.

Started by `together` with torchrun's environment, once for all cases.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.core.registry import build_part
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation import evaluate
from cssegcore.evaluation.meters import Meters, build_metrics
from cssegcore.method.method import SLOTS
from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels
from cssegcore.method.replay import Replay
from cssegcore.metrics.record import Evaluated
from cssegcore.models import checkpoint
from cssegcore.runtime.distributed import process_group, world
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.batchnorm import synchronized
from cssegcore.training.hooks import Hooks
from cssegcore.training.setup import StageInputs, TrainingParams
from cssegcore.training.trainer import Trainer
from cssegcore.training.validation import Validation
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import (
    AUGMENTATIONS,
    CPU,
    MODEL,
    OPTIMIZER,
    QUICK,
    Lists,
    method_section,
    model_of,
    plan,
    run,
    whole,
)

STEP = "step1"
EPOCHS = 2
CASES: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "ft": ("ft", {}),
    "labelled": ("ft", {"losses": {"ce": {"part": "ce", "average": "labelled"}}}),
    "mib": ("mib", {}),
    "plop": ("plop", {"losses": {"local_pod": {"part": "local_pod", "scales": [1, 2]}}}),
    "lgkd": ("lgkd", {"losses": {"local_pod": {"part": "local_pod", "scales": [1, 2]}}}),
    "ewf": ("ewf_mib", {}),
    "nest": ("nest_mib", {"classifier_init": {"epochs": 2, "lr": 0.02}}),
    "ewc": ("ewc", {"losses": {"ewc": {"part": "ewc", "weight": 5}}}),
    "ssul_m": ("ssul_m", {"replay": {"size": 3}}),
    "sdr": ("sdr", {"losses": {"sparsification": {"part": "sparsification", "weight": 0}}}),
    "star": ("star", {}),
    "made": ("deepinversion", {"replay": {"labels": "hard"}}),
    "made, left alone": ("deepinversion", {"replay": {"moves_statistics": False}}),
    "mbs": ("mbs", {}),
    "adamw": ("mib", {}),
}
"""A method each, and what is changed in the slots of its recipe."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"part": "adamw", "momentum": None, "eps": 1e-3},
}
"""Changes of the section `optimizer` by case; None leaves a number out.

With a smaller `eps`, gradients that are nothing but rounding would move weights as far as others.
"""


def recipe(case: str) -> dict[str, Any]:
    """Returns the section `method` of a case."""
    method, changed = CASES[case]
    section = method_section(method)
    for slot, values in changed.items():
        section[slot] |= values
    return section


def planned(section: dict[str, Any], **optimizer: Any) -> TrainingParams:
    """Returns how a case trains: three images a batch, one and two for a process."""
    how = OPTIMIZER | {"batch_size": 3, "clip": 0.5} | optimizer
    how = {name: number for name, number in how.items() if number is not None}
    model = model_of(section["name"], MODEL)
    if model["part"] == "mask_transformer":
        model = model | {"drop_path": 0}  # it draws by process
    return TrainingParams(section, model, how, AUGMENTATIONS, epochs=EPOCHS, lr=0.02, seed=1)


def prepared(lists: Lists, folder: Path, case: str, **optimizer: Any) -> Trainer:
    """Prepares a case's step from the files in `folder`."""
    left = json.loads((folder / f"{case}.json").read_text())
    sources = StageInputs(**{name: path and Path(path) for name, path in left["sources"].items()})
    how = planned(left["method"], **OPTIMIZERS.get(case, {}) | optimizer)
    return lists.prepare(how, STEP, folder / f"{case}.safetensors", sources)


def trained(trainer: Trainer, resume: Path, hooks: Hooks | None = None) -> dict[str, Any]:
    """Trains and tells all that came of it."""
    result = trainer.train(ResumeFile(resume), hooks) if hooks else run(trainer, resume)
    told = {f"statistics {n} {k}": v for n, s in result.statistics.items() for k, v in s.items()}
    return {"rows": result.rows, "state": {**trainer.segmenter.state_dict(), **told}}


def evaluated(lists: Lists, folder: Path) -> dict[str, Any]:
    """Tests a model that says all kinds of things: the matrix, and what it says of each image.

    And watches it as a training does.
    """
    segmenter = checkpoint.load_model(folder / "mib.safetensors", CPU).segmenter
    images = ImageStore(lists.dataset, lists.of("step2", "test"))
    ((_, batch),) = evaluation_batches(images, 5, CPU, IMAGENET)
    classifier = segmenter.groups[0].classifier
    with torch.no_grad():
        torch.nn.init.normal_(classifier.weight, generator=torch.Generator().manual_seed(0))
        classifier.bias -= segmenter(batch.images).logits.mean((0, 2, 3))
    parts = build_metrics({"sharp": {"part": "boundary_iou"}}, "evaluation.metrics")
    meters = Meters(parts, segmenter.classes, "background", CPU)
    keep = set(images.names)
    matrix, kept = evaluate.count_confusion(segmenter, images, 5, 2, CPU, whole, keep, meters)
    seen = matrix.shape[1]
    record = Evaluated("", 0, list("abcde"), [0] * 5, seen, len(images), matrix.tolist())
    watched = Validation(lists.dataset, [lists.of("step0", "val")], times=1, batch_size=1)
    with synchronized(segmenter.train()):  # as it is between two epochs
        seen = watched.measure(segmenter, CPU, whole)
    return {"matrix": matrix, "kept": kept, "further": meters.compute(record), "watched": seen}


def labelled(lists: Lists, folder: Path, out: Path) -> list[str]:
    """Has a model label photographs below `out`, by rules of two kinds; returns whose it saw."""
    names: list[str] = []

    def watch(batches: Any, _: int) -> Any:
        for batch in batches:
            names.extend(batch[0])
            yield batch

    images = {"train": lists.of("step2", "seen"), "memory": lists.of("step1")}
    request = LabelRequest(lists.dataset, images, folder / "plop.safetensors", watch)
    for part in ("entropy", "selective"):
        recipe = {"part": part, "batch_size": 2}
        rule = build_part(SLOTS["pseudo_labels"], PseudoLabels, recipe, part)
        rule.write(out / part, request)
    return names


def generated(lists: Lists, folder: Path, out: Path) -> int:
    """Draws images out of a model below `out`, not all good enough; returns its own batches."""
    made: list[int] = []

    def watch(iterations: Any, count: int) -> Any:
        made.append(count)
        return iterations

    recipe = {
        "part": "deepinversion",
        "per_class": 5,
        "agreement": 0.01,
        "confidence": 0,
        "extra": 2,
    }
    recipe |= {"inversion": QUICK}
    way = build_part(SLOTS["replay"], Replay, recipe, "deepinversion")
    request = lists.synthesis(plan("ft"), STEP, folder / "varied.safetensors", out)
    way.synthesize(out / "images", dataclasses.replace(request, progress=watch))
    return len(made)


def together(folder: Path) -> list[dict[str, Any]]:
    """Runs two processes on `folder` and returns what each tells."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.helpers.process_pair",
        str(folder),
        *map(str, _free_ports(3)),
    ]
    started = [
        subprocess.Popen(
            command,
            cwd=scenes.HOME,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"told{rank}.pt", weights_only=False) for rank in range(2)]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main(folder: Path, ports: list[str]) -> None:
    """Runs one of the two processes."""
    root = {"root": str(folder / "dataset"), "layout": {"part": "voc"}}
    lists = Lists(open_dataset({"name": "tiny", **root}), folder / "split")
    resume, rank = folder / "killed.resume", int(os.environ["RANK"])
    _forked(ports[0], lambda: _killed(prepared(lists, folder, "ewc"), resume))
    _forked(ports[1], lambda: _goes_on(prepared(lists, folder, "ewc"), resume, folder))
    os.environ["MASTER_PORT"] = ports[2]
    with process_group(CPU):
        told: dict[str, Any] = {
            "tested": evaluated(lists, folder),
            "refused": _refused(lists, folder),
            "pseudo-labelled": labelled(lists, folder, folder / "labelled by two"),
            "generated": generated(lists, folder, folder / "generated by two"),
        }
        for case in CASES:
            trainer = prepared(lists, folder, case)
            for weight in trainer.segmenter.state_dict().values():
                weight += rank  # the first process's weights are everybody's
            kinds = [type(module) for module in trainer.segmenter.modules()]
            told[case] = trained(trainer, folder / f"{case}{rank}.resume")
            assert [type(module) for module in trainer.segmenter.modules()] == kinds
    told["resumed"] = torch.load(folder / f"resumed{rank}.pt", weights_only=False)
    torch.save(told, folder / f"told{rank}.pt")


def _forked(port: str, work: Callable[[], None]) -> None:
    """Does it in a process of its own, which may be killed."""
    if os.fork() == 0:
        os.environ["MASTER_PORT"] = port
        with process_group(CPU):
            work()
        os._exit(0)
    os.wait()


def _killed(trainer: Trainer, resume: Path) -> None:
    def die(row: dict[str, float]) -> None:
        if row["epoch"] == EPOCHS - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    trained(trainer, resume, Hooks(die, whole))


def _goes_on(trainer: Trainer, resume: Path, folder: Path) -> None:
    epochs = []

    def watch(batches: Any, count: int) -> Any:
        epochs.append(count)
        return batches

    told = trained(trainer, resume, Hooks(lambda _: None, watch)) | {"epochs": len(epochs)}
    torch.save(told, folder / f"resumed{world().rank}.pt")


def _refused(lists: Lists, folder: Path) -> str:
    try:
        run(prepared(lists, folder, "ft", batch_size=1), folder / "refused.resume")
    except InputError as refused:
        return str(refused)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
