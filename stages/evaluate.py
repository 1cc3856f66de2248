"""Tests the model of one step."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common.cli import bar, run, say, warn
from .common.params import Params, read_params
from .common.processes import launch_distributed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cssegcore.data.dataset import Dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.metrics.record import Evaluated


@launch_distributed
def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    model: Annotated[Path, typer.Option(help="The step's model.")],
    images: Annotated[Path, typer.Option(help="The cumulative test list.")],
    epochs: Annotated[Path, typer.Option(help="The training's curve, kept with the results.")],
    costs: Annotated[Path, typer.Option(help="Weights and bytes of the training (JSON).")],
    pseudo_labels: Annotated[Path, typer.Option(help="Folder of the step's pseudo-labels.")],
    synthesis: Annotated[Path, typer.Option(help="Folder of the images made for the step.")],
    previous: Annotated[Path, typer.Option(help="The previous step's evaluation.")],
    code: Annotated[Path, typer.Option(help="Table of the code behind this stage.")],
    out: Annotated[Path, typer.Option(help="Folder to write: all steps so far.")],
    metrics: Annotated[Path, typer.Option(help="The step's numbers (JSON).")],
) -> None:
    """Count one confusion matrix over the test images of all classes seen so far."""
    from cssegcore.core.files import write_json
    from cssegcore.core.training_files import read_costs
    from cssegcore.data.image_list import ImageList
    from cssegcore.data.image_store import ImageStore
    from cssegcore.evaluation import evaluate
    from cssegcore.evaluation import examples as examples
    from cssegcore.evaluation.folder import examples_shown, seal_files, write_step
    from cssegcore.evaluation.meters import Meters, build_metrics
    from cssegcore.metrics.continual import step_metrics
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device
    from cssegcore.runtime.distributed import process_group

    from .common.unchanged import check_code

    params = read_params()
    check_code(code)
    how = params.evaluation
    spent = read_costs(costs, epochs)  # before the test images: they take long
    parts = build_metrics(how.metrics, "evaluation.metrics")
    image_list, dataset, device = ImageList.read(images), _dataset(params), choose_device()
    segmenter = checkpoint.load_model(model, device).segmenter
    tests = ImageStore(dataset, image_list)
    shown = examples_shown(previous) or examples.choose_examples(tests, how.examples)
    rows = len(image_list.row_names)
    meters = Meters(parts, segmenter.classes, how.future, device)
    size, progress, keep = how.batch_size, bar("images", f"test {step}"), set(shown)
    with process_group(device) as world:
        matrix, kept = evaluate.count_confusion(
            segmenter, tests, rows, size, device, progress, keep, meters
        )
    if not world.is_main:
        return

    record = _record(image_list, matrix, len(tests))
    further = meters.compute(record)
    # The report needs the files of every step, and DVC has no dependency on all steps of a
    # `foreach`: so the evaluation of each step carries those of the steps before it, with their
    # curves, pseudo-labels and made images, and the report depends on the last one.
    there = write_step(
        out,
        record,
        further,
        shown,
        previous=previous,
        epochs=epochs,
        costs=spent,
        pseudo_labels=pseudo_labels,
        synthesis=synthesis,
    )
    examples.write_examples(there, tests, shown, kept)
    seal_files(out)

    numbers = step_metrics(record, future=how.future)
    protocol = f"{_protocol(params, image_list.classes.sizes)}; {numbers['protocol']}"
    write_json(metrics, numbers | further | spent | {"protocol": protocol})
    _tell(record, numbers, further | spent, params, code)


def _record(image_list: "ImageList", matrix: "NDArray[np.int64]", images: int) -> "Evaluated":
    from cssegcore.metrics.record import Evaluated

    return Evaluated(
        step=image_list.step,
        index=image_list.index,
        classes=image_list.row_names,
        learned=image_list.row_steps,
        seen=matrix.shape[1],
        images=images,
        matrix=matrix.tolist(),
    )


def _tell(
    record: "Evaluated",
    numbers: dict[str, Any],
    further: dict[str, Any],
    params: Params,
    code: Path,
) -> None:
    """Says a step's numbers to the terminal and to the tracker."""
    from cssegcore.core.config import flatten
    from cssegcore.metrics.continual import dead_classes

    from .common.reporting import open_tracked_run

    for name in dead_classes(record, params.evaluation.future):
        warn(
            f"{record.step}: no pixel of {name!r} is found (IoU 0), which the step has learned:"
            " look at its labels, `lr` and epochs; later steps will not find it either."
        )
    miou = {k: v for k, v in numbers["miou"].items() if v is not None}
    say(f"{record.step}: mIoU " + ", ".join(f"{k} {v:.1f}" for k, v in miou.items()))
    with open_tracked_run(params, code.parent) as tracked:
        told = flatten({"miou": miou, **further}, "/")
        tracked.metrics(told, step=record.index)  # type: ignore[arg-type]


def _dataset(params: Params) -> "Dataset":
    from cssegcore.data.center_crop import CentralCrops
    from cssegcore.data.dataset import open_dataset

    dataset, how = open_dataset(params.dataset), params.evaluation
    return CentralCrops.of(dataset, how.size) if how.view == "crop" else dataset


def _protocol(params: Params, sizes: list[int]) -> str:
    without_background = ", ".join(map(str, [sizes[0] - 1, *sizes[1:]]))
    order = params.scenario.order
    rule = f"{params.scenario.rule}, classes {without_background} in order {order}"
    shared = "; test images may be training images" * (params.evaluation.shared == "allow")
    selection = params.validation.selection
    chosen = f"; {selection}" if selection else ""
    return f"{rule}; {params.evaluation.reading}{shared}{chosen}"


if __name__ == "__main__":
    run(main)
