"""Real DVC and the wheel: a project of one's own grows, and no step of it is trained twice.

The test prints what ran (`pytest -s`).
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.dvc_project import QUICK, ran
from tests.helpers.installation import Installation, build_wheel
from tests.helpers.tiny_dataset import BEFORE_STEP, BEFORE_TRAINING, draw, write_lines

pytestmark = [pytest.mark.dvc, pytest.mark.long]

FIRST = ("library", *BEFORE_TRAINING)
OWN = (*BEFORE_STEP, "train", "evaluate")
TABLE = ["background", "red", "green", "goat", "sheep", "pig", "hen"]
"""Steps learn two, two, one and one of them."""
CHOSEN = ("method=ssul", "optimizer.batch_size=2", "augmentation.size=16")
"""With saliency maps and pseudo-labels; two images are a batch."""


class Farm:
    """A project that `cssegcore init` lays out, driven through the command line."""

    def __init__(self, root: Path, installed: Installation) -> None:
        self.photographs, self.project = root / "photographs", root / "farm"
        self.installed = installed
        self.put("march", 20, 3, lambda n: [1, 2] if n % 2 else [1 + n // 2 % 2])
        self.run("init", str(self.project), "--dataset", str(self.photographs), cwd=root)

    def put(self, month, count, classes, shown):
        """Adds photographs of a month and all classes up to a number; every tenth shows all."""
        for number in range(count):
            photograph, labels = draw(shown(number), 9)
            pixels = (photograph.astype(int) + number + 20 * classes).clip(0, 255)
            for folder, array in (("images", pixels), ("labels", labels)):
                path = self.photographs / folder / month / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
        write_lines(self.photographs / "classes.txt", TABLE[:classes])

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        return self.installed.run("cssegcore", *arguments, cwd=cwd or self.project)

    def repro(self, *targets: str) -> set[str]:
        return ran(self.installed.run("dvc", "repro", *targets, cwd=self.project))

    def results(self, *steps: str) -> list[bytes]:
        places = (self.project / "work" / step for step in steps)
        return [(place / "model.safetensors").read_bytes() for place in places]


def test_months_of_photographs_become_steps_and_each_is_trained_once(
    tmp_path: Path, commands: Path
) -> None:
    for folder in ("build", "installed"):
        (tmp_path / folder).mkdir()
    installed = Installation(build_wheel(tmp_path / "build"), tmp_path / "installed", commands)
    farm = Farm(tmp_path, installed)
    farm.run("compose", "params.yaml", *QUICK, *CHOSEN)
    first = farm.repro()
    assert first == {*FIRST, "train@step0", "evaluate@step0", "report"}

    farm.put("june", 12, 5, lambda n: [3 + n % 2, 1 + n // 2 % 2])
    assert "step1 learns goat, sheep" in farm.run("arrive")
    before = farm.results("step0")
    second = farm.repro()
    print("a second step arrived:", ", ".join(sorted(second)))  # noqa: T201
    # lists tell classes to come otherwise than the setting of before, so tests are counted again
    own = {f"{stage}@step1" for stage in OWN}
    assert second == {*FIRST, "report", "evaluate@step0"} | own
    assert farm.results("step0") == before

    farm.put("july", 12, 6, lambda n: [5, 1 + n % 3])
    assert "step2 learns pig" in farm.run("arrive")
    before = farm.results("step0", "step1")
    metrics = [farm.project / f"work/step{k}/metrics.json" for k in (0, 1)]
    told = [path.read_bytes() for path in metrics]
    third = farm.repro()
    print("a third step arrived:", ", ".join(sorted(third)))  # noqa: T201
    assert third == {*FIRST, "report"} | {f"{stage}@step2" for stage in OWN}
    assert farm.results("step0", "step1") == before
    assert [path.read_bytes() for path in metrics] == told
    assert (farm.project / "work/report/classes.csv").read_text().count("pig") == 1

    farm.put("august", 12, 7, lambda n: [6, 4 + n % 2])
    assert "step3 learns hen" in farm.run("arrive")
    assert farm.repro() == {*FIRST, "report"} | {f"{stage}@step3" for stage in OWN}

    # nothing is new, and a list that is edited is seen
    assert farm.repro() == {"library"}
    held_out = farm.project / "lists/photographs/main/step0_test.txt"
    write_lines(held_out, held_out.read_text().splitlines()[:1])
    assert farm.repro("evaluate@step0") == {"library", "split", "evaluate@step0"}
