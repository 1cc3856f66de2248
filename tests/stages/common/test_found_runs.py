"""Which finished runs a comparison takes for runs of one benchmark."""

import json

import pytest

from cssegcore.report.comparison.table import compare_runs
from cssegcore.report.comparison.writers import as_csv
from stages.common.found_runs import FoundRun, finished_runs
from stages.common.naming import as_texts
from tests.helpers import tiny_dataset as scenes

SUMMARY = {"miou": {"all": 50.0}}


def found(params, *, source="somewhere", noted=("mib", {})):
    """A run whose parameters a tool keeps in an order of its own."""
    files = {
        "summary.json": json.dumps(SUMMARY),
        "steps.csv": "step,miou_all\n0,80\n",
        "classes.csv": "step,class,iou\n0,disc,50\n",
    }
    texts = dict(sorted(as_texts(params).items(), reverse=True))
    label, changed = noted
    read = {name: text.encode() for name, text in files.items()}.__getitem__
    return FoundRun(source, texts, 0.0, read, {"label": label, "changed": changed})


def blocks(*several):
    runs, notes = finished_runs(map(found, several))
    assert notes == []
    table = compare_runs(runs)
    as_csv(table)
    return {
        block.benchmark.title: [(row.count, row.orders) for row in block.rows]
        for block in table.blocks
    }


def grown(params, step, classes):
    """The same project after `arrive`."""
    more = json.loads(json.dumps(params))
    previous = more["scenario"]["last"]
    more["scenario"]["classes"][step] = classes
    more["scenario"]["last"] = step
    more["increments"][step] = {"previous": previous}
    more["steps"][step] = more["steps"][previous] | {"previous": previous}
    return more


def test_runs_of_two_and_of_three_steps_are_no_seeds_of_one_benchmark():
    first, second = (scenes.composed(f"seed={seed}") for seed in (1, 2))
    title = "shapes/4-2 · overlapped · whole photographs"
    assert blocks(first, second) == {title: [("2 seeds", ("native",))]}
    later = grown(second, "step10", ["heart", "moon", "cloud"])
    assert blocks(first, later) == {
        f"{title}, steps of 4+2+2 classes": [("1 seed", ("native",))],
        f"{title}, steps of 4+2+2+3 classes": [("1 seed", ("native",))],
    }


@pytest.mark.parametrize(
    ("setting", "change", "apart"),
    [
        ("overlapped", {"left_out": "void"}, 2),
        ("overlapped", {"classes": {"step0": ["disc"], "step1": ["heart"]}}, 2),
        ("overlapped", {"lists": {"step0": {"train": "lists/b.txt", "test": None}}}, 1),
        ("listed", {"lists": {"step0": {"train": "lists/b.txt", "test": None}}}, 2),
    ],
)
def test_what_is_learned_is_part_of_a_benchmark(setting, change, apart):
    params = scenes.composed()
    params["scenario"] |= {"setting": setting, "classes": {"step0": ["disc"], "step1": ["ring"]}}
    other = json.loads(json.dumps(params)) | {"seed": 2}
    other["scenario"] |= change
    titles = blocks(params, other)
    assert len(titles) == apart
    assert all(("classes or lists #" in title) == (apart == 2) for title in titles)


def test_two_orders_of_one_name_are_two_orders():
    params = scenes.composed()
    turned = json.loads(json.dumps(params)) | {"seed": 2}
    steps = turned["scenario"]["classes"]
    steps["step1"], steps["step2"] = steps["step2"], steps["step1"]
    ((count, orders),) = next(iter(blocks(params, turned).values()))
    assert count == "2 orders × 1 seed"
    assert all(order.startswith("native#") for order in orders)
