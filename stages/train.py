"""Trains one step."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.common.cli import bar, interactive, run, say
from stages.common.params import Params, StepParams, read_params
from stages.common.processes import launch_distributed

if TYPE_CHECKING:
    from cssegcore.runtime.resume import ResumeFile
    from cssegcore.training.setup import TrainingParams


@launch_distributed
def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    images: Annotated[Path, typer.Option(help="The list of images to train on.")],
    previous: Annotated[Path, typer.Option(help="The model of the step before; empty if none.")],
    pseudo_labels: Annotated[Path, typer.Option(help="Folder of the step's pseudo-labels.")],
    memory: Annotated[Path, typer.Option(help="Folder of the exemplar list.")],
    synthesis: Annotated[Path, typer.Option(help="Folder of the synthesised images.")],
    saliency: Annotated[Path, typer.Option(help="Folder of the saliency maps.")],
    code: Annotated[Path, typer.Option(help="Table of the code behind this training.")],
    model: Annotated[Path, typer.Option(help="The model to write (safetensors).")],
    epochs: Annotated[Path, typer.Option(help="The curve to write (CSV, one row an epoch).")],
) -> None:
    """Train one incremental step and write its model and its loss curve.

    Killed and started again, it goes on from its last finished epoch.
    """
    from cssegcore.core.files import write_csv
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device
    from cssegcore.runtime.distributed import process_group
    from cssegcore.training.hooks import EpochRow, Hooks
    from cssegcore.training.setup import StageInputs, build_trainer
    from stages.common.reporting import log_epoch, open_run

    params = read_params()
    numbers = params.step(step)
    image_list = dataclasses.replace(ImageList.read(images), void=params.labels.void)
    before = None if numbers.previous == "none" else previous
    dataset, device = open_dataset(params.dataset), choose_device()
    inputs = StageInputs(pseudo_labels, memory, saliency, synthesis)
    trainer = build_trainer(
        _training_params(params, numbers), dataset, image_list, before, device, inputs
    )
    files = [images, previous, pseudo_labels, memory, synthesis, saliency, code]
    resume = _resume_file(params, step, files)
    every = max(1, numbers.epochs // 5)
    with process_group(device) as world, open_run(params, code.parent) as tracked:
        nested = tracked.step(step)

        def follow(row: EpochRow) -> None:
            log_epoch(nested, row)
            if not interactive() and row["epoch"] % every == 0:
                say(f"{step} epoch {row['epoch']:.0f}: loss {row['loss']:.4f}")

        looked = bar("batches", f"statistics of {step}")
        trained = trainer.train(resume, Hooks(follow, bar("batches", step), looked))
        if world.is_main:
            checkpoint.save(model, trainer.segmenter, trainer.model, trained.statistics)
            write_csv(epochs, trained.rows)
            resume.remove()
        nested.metrics({"peak_memory_mib": trained.peak_memory}, step=0)
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


def _resume_file(params: Params, step: str, inputs: list[Path]) -> "ResumeFile":
    from cssegcore.runtime.resume import ResumeFile
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
    return ResumeFile(resume_path(step, sections, inputs))


if __name__ == "__main__":
    run(main)
