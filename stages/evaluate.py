"""Tests the model of one step."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.common.cli import bar, run, say
from stages.common.params import Params, read_params
from stages.common.processes import launch_distributed

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset


@launch_distributed
def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    model: Annotated[Path, typer.Option(help="The step's model.")],
    images: Annotated[Path, typer.Option(help="The cumulative test list.")],
    epochs: Annotated[Path, typer.Option(help="The training's curve, kept with the results.")],
    pseudo_labels: Annotated[Path, typer.Option(help="Folder of the step's pseudo-labels.")],
    synthesis: Annotated[Path, typer.Option(help="Folder of the images made for the step.")],
    previous: Annotated[Path, typer.Option(help="The evaluation of the step before.")],
    code: Annotated[Path, typer.Option(help="Table of the code behind this stage.")],
    out: Annotated[Path, typer.Option(help="Folder to write: all steps so far.")],
    metrics: Annotated[Path, typer.Option(help="The step's numbers (JSON).")],
) -> None:
    """Count one confusion matrix over the test images of all classes seen so far."""
    from cssegcore.core.files import read_manifest, write_json
    from cssegcore.data.batches import Images
    from cssegcore.evaluation import evaluate
    from cssegcore.evaluation import examples as examples
    from cssegcore.metrics.continual import step_metrics
    from cssegcore.models import checkpoint
    from cssegcore.runtime.device import choose_device
    from cssegcore.runtime.distributed import process_group
    from cssegcore.scenario.scenario import StepList
    from stages.common.reporting import open_run

    params = read_params()
    image_list, dataset, device = StepList.read(images), _dataset(params), choose_device()
    segmenter = checkpoint.load(model, device).segmenter
    tests = Images(dataset, image_list)
    before = read_manifest(previous, "examples")
    shown = before["examples"] or examples.choose_examples(tests, params.evaluation.examples)
    rows = sum(len(names) for names in image_list.classes)
    size, progress = params.evaluation.batch_size, bar("images", f"test {step}")
    keep = set(shown)
    with process_group(device) as world:
        matrix, kept = evaluate.confusion(segmenter, tests, rows, size, device, progress, keep)
    if not world.is_main:
        return

    shutil.copytree(previous, out, dirs_exist_ok=True)
    confusion = {
        "step": step,
        "index": image_list.index,
        "classes": [name for names in image_list.classes for name in names],
        "learned": [at for at, names in enumerate(image_list.classes) for _ in names],
        "seen": matrix.shape[1],
        "images": len(tests),
        "matrix": matrix.tolist(),
    }
    write_json(out / step / "confusion.json", confusion)
    write_json(out / "manifest.json", {"examples": shown})  # every step shows the same photographs
    shutil.copy(epochs, out / step / "epochs.csv")
    guesses = read_manifest(pseudo_labels)
    write_json(out / step / "pseudo_labels.json", {k: guesses[k] for k in guesses if k != "images"})
    made = read_manifest(synthesis).get("steps", [])
    write_json(out / step / "synthesis.json", made[-1] if made else {})
    if made:
        shutil.copy(synthesis / "sheets" / f"{made[-1]['step']}.png", out / step / "sheet.png")
    examples.write_examples(out / step / "examples", tests, shown, kept)

    numbers = step_metrics(confusion, future=params.evaluation.future)
    numbers["protocol"] = f"{_protocol(params, image_list.classes)}; {numbers['protocol']}"
    write_json(metrics, numbers)
    miou = {k: v for k, v in numbers["miou"].items() if v is not None}
    say(f"{step}: mIoU " + ", ".join(f"{k} {v:.1f}" for k, v in miou.items()))
    with open_run(params, code.parent) as tracked:
        tracked.metrics({f"miou/{k}": v for k, v in miou.items()}, step=image_list.index)


def _dataset(params: Params) -> "Dataset":
    from cssegcore.data.center_crop import CentralCrops
    from cssegcore.data.dataset import open_dataset

    dataset, how = open_dataset(params.dataset), params.evaluation
    return CentralCrops.of(dataset, how.size) if how.view == "crop" else dataset


def _protocol(params: Params, classes: list[list[str]]) -> str:
    sizes = ", ".join(str(len(names) - (at == 0)) for at, names in enumerate(classes))
    rule = f"{params.scenario.setting}, classes {sizes} in order {params.scenario.order}"
    shared = "; test images may be training images" * (params.evaluation.shared == "allow")
    return f"{rule}; {params.evaluation.reading}{shared}"


if __name__ == "__main__":
    run(main)
