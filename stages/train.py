"""Trains one step."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common.cli import bar, run, say
from .common.params import Params, StepParams, read_params
from .common.processes import launch_distributed

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.training.setup import StageInputs, TrainingParams
    from cssegcore.training.validation import Validation


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
    watched: Annotated[Path, typer.Option(help="Folder of the lists to watch the training on.")],
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

    from .common.once import alone
    from .common.unchanged import check_code

    params = read_params()
    params.step(step)  # it must be there
    check_code(code)
    inputs = StageInputs(pseudo_labels, memory, saliency, synthesis)
    lists = _watched(params, step, watched)
    files = [images, previous, pseudo_labels, memory, synthesis, saliency, code]
    state = _state(params, step, [*files, *[watched] * bool(lists)], is_watched=bool(lists))
    outs = _Outs(model, epochs, costs, timing)
    with alone(state, say):
        _train(params, step, images, previous, inputs, lists, code, outs, state)


@launch_distributed
def _train(
    params: Params,
    step: str,
    images: Path,
    previous: Path,
    inputs: "StageInputs",
    watched: "list[ImageList]",
    code: Path,
    outs: _Outs,
    state: Path,
) -> None:
    from cssegcore.core.training_files import write_curve_and_costs, write_timing
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device, device_name
    from cssegcore.runtime.distributed import process_group
    from cssegcore.runtime.resume import ResumeFile
    from cssegcore.training.costs import step_costs
    from cssegcore.training.hooks import EpochRow, Hooks
    from cssegcore.training.setup import build_trainer

    from .common.noted_weights import check_noted
    from .common.once import finished, keep
    from .common.progress import TrainingProgress
    from .common.reporting import log_epoch, open_tracked_run

    numbers = params.step(step)
    image_list = dataclasses.replace(ImageList.read(images), void=params.labels.void)
    before = None if numbers.previous == "none" else previous
    dataset, device = open_dataset(params.dataset), choose_device()
    training = training_params(params, numbers)
    check_noted(code, params.model["backbone"])
    trainer = build_trainer(training, dataset, image_list, before, device, inputs)
    validation = _validation(params, dataset, watched)
    batch = min(trainer.optimizer.batch_size, len(trainer.data.images))
    progress = TrainingProgress(step, numbers.epochs, batch)
    taken = finished(state)
    if taken:
        say(f"{step}: trained before; the result is taken from {state}. Delete it to train anew.")
    with process_group(device) as world, open_tracked_run(params, code.parent) as tracked:
        nested = tracked.step(step)

        def follow(row: EpochRow) -> None:
            log_epoch(nested, row)
            progress.epoch(row)

        hooks = Hooks(follow, progress.batches, bar("batches", f"passes of {step}"))
        trained = trainer.train(ResumeFile(state), hooks, validation)
        if world.is_main:
            checkpoint.save(outs.model, trainer.segmenter, trainer.model, trained.statistics)
            kept = image_list.names if numbers.images == "seen" else _exemplars(inputs.memory)
            generated = inputs.synthesis and trainer.method.replay.read(inputs.synthesis)
            spent = step_costs(trainer, trained.statistics, dataset, kept, generated)
            write_curve_and_costs(outs.epochs, trained.rows, outs.costs, dataclasses.asdict(spent))
            # of its own, as no result: an equal training takes other seconds
            machine = {
                "device": device_name(device),
                "processes": world.size,
                "peak_memory_mib": trained.peak_memory,
            }
            write_timing(outs.timing, trained.seconds, {} if taken else machine)
            keep(state, (outs.model, outs.epochs))
        peak = None if taken else trained.peak_memory  # of a training, not of reading its result
        nested.metrics({"peak_memory_mib": peak, "seconds": trained.seconds}, step=0)
        nested.finish()
        memory = "" if peak is None else f", peak memory {peak:.0f} MiB"
        say(f"{step}: {numbers.epochs} epochs{memory}")


def training_params(params: Params, numbers: StepParams) -> "TrainingParams":
    """Returns what the parameters say of the training of a step."""
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


def _watched(params: Params, step: str, folder: Path) -> "list[ImageList]":
    """Returns the lists that the training is watched on; none if nothing is to be measured.

    Raises:
        InputError: The best epoch is to be chosen, and no image shows what the step learns.
    """
    import numpy as np

    from cssegcore.data.dataset import open_dataset
    from cssegcore.scenario.watching import check_choice, read_watched

    if params.validation.keep == "best":  # `split` asks, too: lists may be older than this choice
        label = open_dataset(params.dataset).label
        check_choice(step, folder, lambda name: np.unique(label(name)).tolist())
    lists = read_watched(folder) if params.validation.times else []
    return lists if any(image_list.images for image_list in lists) else []


def _validation(
    params: Params, dataset: "Dataset", lists: "list[ImageList]"
) -> "Validation | None":
    from cssegcore.training.validation import Validation

    how = params.validation
    size = params.evaluation.batch_size  # changes no result
    return Validation(dataset, lists, how.times, how.keep == "best", size) if lists else None


def _exemplars(memory: Path | None) -> list[str]:
    """Names the images of earlier steps that are kept; none without a list."""
    from cssegcore.data.image_list import ImageList

    path = memory and memory / "list.json"
    return ImageList.read(path).names if path and path.exists() else []


def _state(params: Params, step: str, inputs: list[Path], *, is_watched: bool) -> Path:
    """Returns the file for the training's state, named by all that determines its result."""
    from .common.places import resume_path

    numbers = params.step(step)
    sections = [
        params.method["base"] if numbers.previous == "none" else params.method,
        params.model,
        params.optimizer,
        params.augmentation,
        dataclasses.asdict(params.labels),
        dataclasses.asdict(numbers),
        params.seed,
        *[dataclasses.asdict(params.validation)] * is_watched,
    ]
    return resume_path(step, sections, inputs)


if __name__ == "__main__":
    run(main)
