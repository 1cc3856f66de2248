"""From photographs of a phone, with coloured masks, to a model that is served.

One story from an empty folder to its end, by the installed command. The test prints what ran
(`pytest -s`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.helpers.dvc_project import QUICK, ran
from tests.helpers.installation import Installation, build_wheel
from tests.helpers.model_server import ask, served_model
from tests.helpers.tiny_dataset import BEFORE_STEP, BEFORE_TRAINING, draw, write_lines

pytestmark = [pytest.mark.dvc, pytest.mark.long]

FIRST = {"library", *BEFORE_TRAINING}
OWN = (*BEFORE_STEP, "train", "evaluate")
COLOURS = {
    "background": (0, 0, 0),
    "cow": (200, 30, 30),
    "horse": (30, 200, 30),
    "goat": (30, 30, 200),
    "pig": (200, 200, 30),
}
CHOSEN = ("method=ssul", "optimizer.batch_size=4", "augmentation.size=16")
"""With saliency maps and pseudo-labels; four photographs are a batch."""
TURNED = 6
"""The orientation of a photograph that viewers turn by a quarter."""
KINDS = ("png", "confidence.png")
"""What `predict` writes of a photograph."""


class Farm:
    """Photographs as they come, and the project that grows out of them."""

    def __init__(self, root: Path, commands: Path) -> None:
        for folder in ("build", "installed"):
            (root / folder).mkdir()
        wheel = build_wheel(root / "build")
        self.installed = Installation(wheel, root / "installed", commands)
        self.root, self.project = root, root / "farm"

    def shoot(
        self, month: str, count: int, shade: int, shown: Callable[[int], Sequence[int]]
    ) -> None:
        """Takes photographs of a month and paints their masks.

        Every fifth photograph is stored lying on its side; of those, every second mask is painted
        over what is stored. Some names end in capitals.
        """
        for number in range(count):
            photograph, labels = (array[:24] for array in draw(shown(number), 9))
            colours = np.array([*COLOURS.values(), COLOURS["background"]], np.uint8)
            mask = colours[np.where(labels == 255, len(colours) - 1, labels)]
            pixels = (photograph.astype(int) + 2 * number + shade).clip(0, 255).astype(np.uint8)
            exif, capitals = Image.Exif(), number % 3 == 0
            if number % 5 == 0:
                exif[0x0112] = TURNED
                pixels = np.rot90(pixels)
                mask = np.rot90(mask) if number % 10 == 0 else mask
            name = f"IMG_{number:04}"
            for place, array, ending, more in (
                ("raw", pixels, "JPG" if capitals else "jpg", {"quality": 95, "exif": exif}),
                ("masks", mask, "PNG" if capitals else "png", {}),
            ):
                path = self.root / month / place / f"{month}_{name}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path, **more)

    def bring(self, month: str, classes: int) -> str:
        """Imports a month into the dataset, by a table of that many classes."""
        table = [f"{n},{','.join(map(str, rgb))}" for n, rgb in COLOURS.items()]
        write_lines(self.root / "colours.csv", table[: classes + 1])
        folders = (f"{month}/masks", "--photographs", f"{month}/raw")
        how = ("--table", "colours.csv", "--out", "photos")
        return self.run("import", "colours", *folders, *how, cwd=self.root)

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        return self.installed.run("cssegcore", *arguments, cwd=cwd or self.project)

    def repro(self, told: str, *targets: str) -> set[str]:
        stages = ran(self.installed.run("dvc", "repro", *targets, cwd=self.project))
        print(f"{told}: {len(stages)} stages: {', '.join(sorted(stages))}")  # noqa: T201
        return stages

    def models(self, *steps: int) -> list[bytes]:
        names = [f"work/step{k}/model.safetensors" for k in steps]
        return [(self.project / name).read_bytes() for name in names]


def own(*steps: int) -> set[str]:
    return {f"{stage}@step{k}" for stage in OWN for k in steps}


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def as_shown(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def test_from_photographs_to_a_served_model(tmp_path: Path, commands: Path) -> None:
    farm = Farm(tmp_path, commands)
    farm.shoot("march", 60, 0, lambda n: [[1], [2], [3], [1, 2], [1, 2, 3]][n % 5])
    said = farm.bring("march", 3)
    assert "60 images of 3 classes -> photos: background, cow, horse, goat" in said
    assert "12 photographs are written anew: turned" in said
    farm.run("init", "farm", "--dataset", "photos", "--base", "1", "--increment", "1", cwd=tmp_path)
    farm.run("compose", "params.yaml", *QUICK, *CHOSEN)
    shown = farm.run("show")
    assert "goat" in shown
    assert {path.name for path in (farm.project / "show").glob("batch_*")} == {
        f"batch_step{k}.png" for k in range(3)
    }
    first = farm.repro("three steps")
    assert first == {*FIRST, "report", "train@step0", "evaluate@step0"} | own(1, 2)

    farm.shoot("june", 15, 40, lambda n: [4, 1 + n % 3])
    assert "15 images of 4 classes" in farm.bring("june", 4)
    assert "step3 learns pig" in farm.run("arrive")
    before = farm.models(0, 1, 2)
    fourth = farm.repro("a fourth arrived")
    # lists tell classes to come otherwise than the setting of before, so tests are counted again
    again = {f"evaluate@step{k}" for k in range(3)}
    assert fourth == {*FIRST, "report"} | again | own(3)
    assert farm.models(0, 1, 2) == before

    expect_one_answer(farm, [*sorted((tmp_path / "june" / "raw").iterdir())[4:8]])


def expect_one_answer(farm: Farm, photographs: list[Path]) -> None:
    """Holds what ONNX and a server say of photographs against what `predict` writes."""
    model, names = "work/step3/model.safetensors", list(map(str, photographs))
    exported = farm.run("export", model, "../photos/images", "--out", "farm.onnx")
    assert "farm.onnx: photographs from" in exported
    farm.run("export", model, "--out", "farm.mlflow")
    farm.run("predict", model, *names, "--out", "labelled", "--confidence")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(farm.project / "farm.onnx"))
    shapes = set()
    with served_model(farm.project / "farm.mlflow", farm.installed.folder) as port:
        for path in photographs:
            batch = as_shown(path)[None]
            labels, sure = (opened(farm.project / f"labelled/{path.stem}.{kind}") for kind in KINDS)
            served = ask(port, batch)
            assert np.array_equal(served["labels"][0], labels)
            # after so short a schedule labels may be background alone; scores differ anyhow
            assert sure.min() < sure.max()
            assert np.abs(255 * np.array(served["confidences"][0]) - sure).max() < 1
            of_onnx = session.run(["labels", "confidences"], {"photographs": batch})
            assert np.array_equal(of_onnx[0][0], labels)
            assert np.allclose(of_onnx[1], served["confidences"], atol=1e-3)
            shapes.add(opened(path).shape)
    assert len(shapes) == 2, "one of them lies on its side"
