"""A grid of three methods and two seeds in DVC's queue, and the table of a paper that comes of it.

One story from a clone to its end. The test prints what ran and the table (`pytest -s`).
"""

import re
import statistics
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.dvc_project import QUICK, Project, ran
from tests.helpers.typeset import typeset

pytestmark = [pytest.mark.dvc, pytest.mark.long]

METHODS, SEEDS = ("ft", "lwf", "mib"), (1, 2)


def expect_table(text: str) -> None:
    """Looks whether a LaTeX table is whole: as many cells in every row as it has columns."""
    (columns,) = re.findall(r"\\begin\{tabular\}\{@\{\}(l(?:r)+)@\{\}\}", text)
    assert text.count("\\end{tabular}") == 1
    rules = re.findall(r"\\(toprule|midrule|bottomrule)", text)
    assert rules == ["toprule", "midrule", "bottomrule"]
    for row in re.findall(r"^(.*) \\\\$", text, re.M):
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert row.count(" & ") + 1 + sum(n - 1 for n in spans) == len(columns), row
    plain = re.sub(r"^%.*$", "", text, flags=re.M)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not re.search(r"(?<!\\)[_#]", plain)


def test_a_grid_becomes_the_table_of_a_paper(tmp_path: Path, commands: Path) -> None:
    (tmp_path / "clone").mkdir()
    project = Project(tmp_path / "clone", commands)
    numbers = ("--base", "6", "--increment", "2")
    project.run("python", "-m", "stages", "scenario", "shapes/6-2", *numbers)
    quick = [word for override in (*QUICK, "scenario=shapes/6-2") for word in ("-S", override)]
    grid = ("-S", f"method={','.join(METHODS)}", "-S", f"seed={','.join(map(str, SEEDS))}")
    queued = project.run("dvc", "exp", "run", "--queue", *quick, *grid)
    assert queued.count("Queued experiment") == len(METHODS) * len(SEEDS)
    project.run("dvc", "queue", "start")
    project.wait_for_queue()
    names = re.findall(
        r"^\w{7}\s+([\w-]+)\s.*Success\s*$", project.run("dvc", "queue", "status"), re.M
    )
    assert len(names) == len(METHODS) * len(SEEDS)
    stages = Counter(
        stage for name in names for stage in ran(project.run("dvc", "queue", "logs", name))
    )
    print("ran:", ", ".join(f"{name} {n}" for name, n in sorted(stages.items())))  # noqa: T201
    assert stages["train@step0"] == len(SEEDS), "methods share the base step of a seed"
    assert stages["train@step1"] == len(METHODS) * len(SEEDS)
    assert stages["index"] == 1

    compare = ("python", "-m", "stages", "compare", "--source", "dvc")
    text = project.run(*compare, "--out", "table.tex", "--out", "table.csv")
    print(text)  # noqa: T201
    found: dict[str, list[float]] = {}
    for name in ("ft", "lwf", "mib"):
        (line,) = re.findall(rf"^{name}\s+2 seeds\s+(.+)$", text, re.M)
        assert line.count(" ± ") == 5, "every number has its deviation"
        found[name] = [float(n) for n in re.findall(r"\d+\.\d", line)]
    expect_mean_and_deviation(project, found)
    table = (project.root / "table.tex").read_text()
    expect_table(table)
    assert table.count("$\\pm$") == 5 * len(METHODS)
    typeset(project.root, table)


def expect_mean_and_deviation(project: Project, found: dict[str, list[float]]) -> None:
    """Takes one column from DVC's own table of experiments."""
    import csv

    rows = csv.DictReader(project.run("dvc", "exp", "show", "--csv", "--no-pager").splitlines())
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["Experiment"]:
            values.setdefault(row["method.name"], []).append(float(row["all"]))
    assert set(values) == set(METHODS)
    for name, numbers in values.items():
        assert len(numbers) == len(SEEDS)
        mean, deviation = found[name][6:8]  # three columns before: base at step 0, base, added
        assert mean == pytest.approx(statistics.mean(numbers), abs=0.051)
        assert deviation == pytest.approx(statistics.stdev(numbers), abs=0.051)
