"""Trains one step."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.common.cli import bar, interactive, run, say
from stages.common.params import Params, StepParams, read_params
from stages.common.processes import launch_distributed

if TYPE_CHECKING:
    from cssegcore.training.setup import StageInputs, TrainingParams


@dataclasses.dataclass(frozen=True)
class _Outs:
    """Files that a training writes."""

    model: Path
    epochs: Path
    costs: Path
    timing: Path


def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    images: Annotated[Path, typer.Option(help="The list of images to train on.")],
    previous: Annotated[Path, typer.Option(help="The previous step's model; empty if none.")],
    pseudo_labels: Annotated[Path, typer.Option(help="Folder of the step's pseudo-labels.")],
    memory: Annotated[Path, typer.Option(help="Folder of the exemplar list.")],
    synthesis: Annotated[Path, typer.Option(help="Folder of the synthesised images.")],
    saliency: Annotated[Path, typer.Option(help="Folder of the saliency maps.")],
    code: Annotated[Path, typer.Option(help="Table of the code behind this training.")],
    model: Annotated[Path, typer.Option(help="The model to write (safetensors).")],
    epochs: Annotated[Path, typer.Option(help="The curve to write (CSV, one row an epoch).")],
    costs: Annotated[Path, typer.Option(help="Weights and bytes to write (JSON).")],
    timing: Annotated[Path, typer.Option(help="The seconds to write (JSON).")],
) -> None:
    """Train one incremental step and write its model and its loss curve.

    Killed and started again, it goes on from its last finished epoch. If another process trains the
    same, it waits and takes that result.
    """
    from cssegcore.training.setup import StageInputs
    from stages.common.once import alone

    params = read_params()
    inputs = StageInputs(pseudo_labels, memory, saliency, synthesis)
    files = [images, previous, pseudo_labels, memory, synthesis, saliency, code]
    state, outs = _state(params, step, files), _Outs(model, epochs, costs, timing)
    with alone(state, say):
        _train(params, step, images, previous, inputs, code, outs, state)


@launch_distributed
def _train(
    params: Params,
    step: str,
    images: Path,
    previous: Path,
    inputs: "StageInputs",
    code: Path,
    outs: _Outs,
    state: Path,
) -> None:
    from cssegcore.core.files import write_csv, write_json
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device, device_name
    from cssegcore.runtime.distributed import process_group
    from cssegcore.runtime.resume import ResumeFile
    from cssegcore.training.costs import step_costs
    from cssegcore.training.hooks import EpochRow, Hooks
    from cssegcore.training.setup import build_trainer
    from stages.common.once import finished, keep
    from stages.common.reporting import log_epoch, open_run

    numbers = params.step(step)
    image_list = dataclasses.replace(ImageList.read(images), void=params.labels.void)
    before = None if numbers.previous == "none" else previous
    dataset, device = open_dataset(params.dataset), choose_device()
    training = _training_params(params, numbers)
    trainer = build_trainer(training, dataset, image_list, before, device, inputs)
    every = max(1, numbers.epochs // 5)
    taken = finished(state)
    if taken:
        say(f"{step}: trained before; the result is taken from {state}. Delete it to train anew.")
    with process_group(device) as world, open_run(params, code.parent) as tracked:
        nested = tracked.step(step)

        def follow(row: EpochRow) -> None:
            log_epoch(nested, row)
            if not interactive() and row["epoch"] % every == 0:
                say(f"{step} epoch {row['epoch']:.0f}: loss {row['loss']:.4f}")

        bars = bar("batches", step), bar("batches", f"statistics of {step}")
        trained = trainer.train(ResumeFile(state), Hooks(follow, *bars))
        if world.is_main:
            checkpoint.save(outs.model, trainer.segmenter, trainer.model, trained.statistics)
            write_csv(outs.epochs, trained.rows)
            kept = image_list.names if numbers.images == "seen" else _exemplars(inputs.memory)
            made = inputs.synthesis and trainer.method.replay.read(inputs.synthesis)
            spent = step_costs(trainer, trained.statistics, dataset, kept, made)
            write_json(outs.costs, dataclasses.asdict(spent))
            # of its own, as no result: an equal training takes other seconds
            machine = {
                "device": device_name(device),
                "processes": world.size,
                "peak_memory_mib": trained.peak_memory,
            }
            write_json(outs.timing, {"seconds": trained.seconds} | ({} if taken else machine))
            keep(state, (outs.model, outs.epochs))
        told = {"peak_memory_mib": trained.peak_memory, "seconds": trained.seconds}
        nested.metrics(told, step=0)
        nested.finish()
        say(f"{step}: {numbers.epochs} epochs, peak memory {trained.peak_memory:.0f} MiB")


def _training_params(params: Params, numbers: StepParams) -> "TrainingParams":
    from cssegcore.training.setup import TrainingParams

    return TrainingParams(
        method=params.method,
        model=params.model,
        optimizer=params.optimizer,
        augmentation=params.augmentation,
        epochs=numbers.epochs,
        lr=numbers.lr,
        seed=params.seed,
    )


def _exemplars(memory: Path | None) -> list[str]:
    """Names the images of earlier steps that are kept; none without a list."""
    from cssegcore.data.image_list import ImageList

    path = memory and memory / "list.json"
    return ImageList.read(path).names if path and path.exists() else []


def _state(params: Params, step: str, inputs: list[Path]) -> Path:
    """Returns the file for the training's state, named by all that determines its result."""
    from stages.common.places import resume_path

    numbers = params.step(step)
    sections = [
        params.method["base"] if numbers.previous == "none" else params.method,
        params.model,
        params.optimizer,
        params.augmentation,
        dataclasses.asdict(params.labels),
        dataclasses.asdict(numbers),
        params.seed,
    ]
    return resume_path(step, sections, inputs)


if __name__ == "__main__":
    run(main)
