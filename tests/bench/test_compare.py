import dataclasses
import json
import sys

import pytest

from bench import compare
from cssegcore.report.comparison.runs import Benchmark, FinishedRun

pytestmark = pytest.mark.slow

GRID = ("--methods", "ft", "mib", "--seeds", "1", "-S", "scenario=shapes/4-2", "--classes")


def record(method, seed=1, overrides=("scenario=shapes/4-2",), iou=50.0):
    run = FinishedRun(
        source="here",
        method=method,
        label=method,
        benchmark=Benchmark("shapes/4-2", "overlapped"),
        seed=seed,
        summary={"miou": {"all": iou, "base_nobg": iou, "added_nobg": iou}, "average": iou},
        steps=[{"miou_base_nobg": iou}],
        classes=[
            {"step": 0.0, "class": "disc", "iou": 99.0},
            {"step": 1.0, "class": "disc", "iou": iou},
            {"step": 1.0, "class": "star", "iou": None},
        ],
        seconds=1800.0,
    )
    return compare.Record(run, tuple(overrides), "abc", 2, 1)


@pytest.fixture
def made(monkeypatch):
    """Methods and seeds of the runs that were made."""
    asked = []

    def experiment(method, seed, overrides):
        asked.append((method, seed))
        return record(method, seed, overrides, 70.0)

    monkeypatch.setattr(compare, "experiment", experiment)
    return asked


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench.compare", *map(str, arguments)])
    compare.main()


def test_a_record_is_what_was_written():
    content = json.loads(json.dumps(dataclasses.asdict(record("mib"))))
    assert compare.Record.read(content) == record("mib")


def test_runs_that_an_earlier_night_made_are_not_made_again(made, monkeypatch, tmp_path, capsys):
    call(monkeypatch, *GRID, "--out", tmp_path / "first.json")
    assert made == [("ft", 1), ("mib", 1)]
    second = ("--add", tmp_path / "first.json", "--out", tmp_path / "second.json")
    call(monkeypatch, "--methods", "mib", "joint", "--seeds", "1", *GRID[5:], *second)
    assert made == [("ft", 1), ("mib", 1), ("joint", 1)]
    assert "mib, seed 1: made by abc" in capsys.readouterr().out
    content = json.loads((tmp_path / "second.json").read_text())
    assert [told["run"]["method"] for told in content["records"]] == ["ft", "mib", "joint"]


def test_one_file_is_where_a_grid_begins_and_goes_on(made, monkeypatch, tmp_path):
    file = tmp_path / "runs.json"
    for _ in range(2):
        call(monkeypatch, *GRID, "--add", file, "--out", file)
    assert made == [("ft", 1), ("mib", 1)]


@pytest.mark.parametrize("content", [None, "[]", '{"records": [{}]}', "x"])
def test_a_file_that_holds_no_runs_is_refused_before_any(made, monkeypatch, tmp_path, content):
    file = tmp_path / "else.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit, match=r"else\.json is no file of an earlier --out"):
        call(monkeypatch, *GRID, "--add", file, "--out", tmp_path / "runs.json")
    assert not made


def test_a_run_with_other_overrides_is_another_run(made, monkeypatch, tmp_path):
    call(monkeypatch, *GRID, "--out", tmp_path / "a.json")
    other = ("--add", tmp_path / "a.json", "--out", tmp_path / "b.json", "-S", "optimizer.clip=1")
    call(monkeypatch, *GRID, *other)
    assert made == [("ft", 1), ("mib", 1)] * 2


def test_where_a_file_lies_is_no_part_of_a_run(made, monkeypatch, tmp_path):
    place = "-S", "model.backbone.weights=/here/w.pth"
    assert compare.without_places(["scenario=a/b", place[1]]) == ("scenario=a/b",)
    call(monkeypatch, *GRID, "--out", tmp_path / "a.json")
    other = ("--add", tmp_path / "a.json", "--out", tmp_path / "b.json", *place)
    call(monkeypatch, *GRID, *other)
    assert made == [("ft", 1), ("mib", 1)]


def test_classes_and_hours_are_told(made, monkeypatch, tmp_path, capsys):
    call(monkeypatch, *GRID, "--out", tmp_path / "a.json")
    said = capsys.readouterr().out
    assert "|  | disc |\n| --- | --- |\n| `ft` | 70.0 |\n| `mib` | 70.0 |" in said
    assert "4 trainings run, 2 taken from the cache\n1.0 hours of training" in said


class TestParameters:
    OVERRIDES = ("scenario=shapes/4-2", "method=mib", "seed=1")

    def test_places_are_no_part_of_them(self):
        somewhere = ("model.backbone.weights=/a/file", "dataset.root=/a/folder")
        digest = compare.parameters_digest(self.OVERRIDES)
        assert compare.parameters_digest((*self.OVERRIDES, *somewhere)) == digest
        assert compare.parameters_digest((*self.OVERRIDES, "optimizer.backbone_lr=0.1")) != digest

    def test_runs_of_other_parameters_are_not_taken_for_these(self, made, monkeypatch, tmp_path):
        now = compare.parameters_digest(self.OVERRIDES)
        alike = dataclasses.replace(record("mib"), parameters=now)
        for kept in (record("mib"), alike):
            compare._write(tmp_path / "kept.json", [kept])
            call(monkeypatch, "--methods", "mib", *GRID[3:], "--add", tmp_path / "kept.json")
        assert made == []
        compare._write(tmp_path / "kept.json", [dataclasses.replace(alike, parameters="other")])
        with pytest.raises(SystemExit, match="mib, seed 1, was made by abc with other parameters"):
            call(monkeypatch, "--methods", "mib", *GRID[3:], "--add", tmp_path / "kept.json")
