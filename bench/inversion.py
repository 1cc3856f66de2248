"""How fast images are drawn out of a network.

    python -m bench.inversion [-S model=bisenet_r50 -S augmentation.size=224 …]

Runs one batch of `method.replay.inversion` from first to last iteration on a network with fresh
weights: what they are changes nothing about the time.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench._device import Clock
from cssegcore.core.class_table import ClassTable
from cssegcore.core.config import parse
from cssegcore.inversion.invert import invert
from cssegcore.inversion.label_maps import draw_targets
from cssegcore.inversion.object_shapes import procedural
from cssegcore.inversion.settings import InversionSettings
from cssegcore.method.replay.deepinversion import DeepInversion
from cssegcore.models.checkpoint import Model
from cssegcore.runtime.device import choose_device
from stages import compose
from stages.common.params import Params, read_params


def main() -> None:
    """Prints seconds, seconds an iteration and images an hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    given = parser.parse_args()
    params = composed(given.set)
    recipe = {k: v for k, v in params.method["replay"].items() if k != "part"}
    how = parse(DeepInversion, recipe, "method.replay")
    device, size = choose_device(), params.augmentation["size"]
    classes = ["background", *params.scenario.classes["step0"]]
    model = Model(
        step="step0",
        network=params.model,
        head=params.method["base"]["head"],
        unknown=None,
        classes=ClassTable.of([classes], [range(len(classes))]),
    )
    segmenter = model.segmenter().to(device).to(memory_format=torch.channels_last).eval()
    count, known = how.inversion.batch_size, range(1, len(classes))
    primaries = np.resize(np.array(known), count).tolist()
    rng = np.random.default_rng(params.seed)
    targets = draw_targets(primaries, known, size, procedural, rng)

    def run(settings: InversionSettings) -> None:
        invert(segmenter, None, targets, settings, rng, lambda items, _: items)  # ends in a copy

    run(dataclasses.replace(how.inversion, phases=((1, 3),)))  # warm up
    start = time.perf_counter()
    run(how.inversion)
    seconds = time.perf_counter() - start
    iterations = sum(n for _, n in how.inversion.phases)
    hour = 3600 * count / seconds
    print(f"{params.model['part']}, {count} images of {size} x {size}, {iterations} iterations")
    print(f"{seconds:.1f} s, {1000 * seconds / iterations:.0f} ms an iteration")
    print(f"{hour:.0f} images an hour")
    print(f"{how.per_class * seconds / count:.0f} s for the {how.per_class} images of a class")
    print(Clock(device).machine)


def composed(overrides: list[str]) -> Params:
    """Returns the parameters of a run that replays made images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        compose.main(path, ["method/replay=deepinversion", *overrides])
        return read_params(path)


if __name__ == "__main__":
    main()
