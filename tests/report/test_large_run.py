"""The page of 150 classes and eleven steps: small, and with the worst first."""

import base64
import io
import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.palette import save_labels
from cssegcore.report.data_urls import LONGEST_SHOWN, reduced_data_url
from tests.helpers.large_run import CLASSES, EXAMPLES, LEARNED, STEPS
from tests.helpers.page_tree import parsed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def large(large_report):
    """The folder of the report, the page as a tree, and the matrices of the steps."""
    evaluation, out = large_report
    paths = [evaluation / f"step{index}/confusion.json" for index in range(STEPS)]
    matrices = [json.loads(path.read_text())["matrix"] for path in paths]
    return out, parsed((out / "report.html").read_text()), matrices


def iou(matrices, step, c):
    """IoU in points, in plain Python; None before the class is learned."""
    rows = [list(row) for row in matrices[step]]
    seen = len(rows[0])
    if c >= seen:
        return None
    for row in rows[seen:]:  # classes to come count as background
        rows[0] = [a + b for a, b in zip(rows[0], row, strict=True)]
    predicted = sum(row[c] for row in rows[:seen])
    return 100 * rows[c][c] / (sum(rows[c]) + predicted - rows[c][c])


def test_the_page_is_under_two_megabytes(large):
    out, _, _ = large
    assert (out / "report.html").stat().st_size < 2_000_000


def test_the_worst_classes_come_first(large):
    _, page, matrices = large
    head, *rows = page.section("Classes").rows()
    assert head == ["class", "learned in", *(f"step{i}" for i in range(STEPS)), "forgetting"]
    last = [iou(matrices, STEPS - 1, c) for c in range(len(CLASSES))]
    order = sorted(range(len(CLASSES)), key=last.__getitem__)
    assert [row[0] for row in rows] == [CLASSES[c] for c in order]
    assert [row[1] for row in rows] == [str(LEARNED[c]) for c in order]
    for row, c in zip(rows[:3], order, strict=False):
        each = [iou(matrices, step, c) for step in range(STEPS)]
        assert row[2:-1] == ["" if value is None else f"{value:.1f}" for value in each]


def test_the_most_forgotten_and_the_most_confused_classes_are_named(large):
    _, page, matrices = large
    lost = {}
    for c, name in enumerate(CLASSES):
        *before, last = (iou(matrices, step, c) for step in range(STEPS))
        best = max((value for value in before if value is not None), default=last)
        lost[name] = best, last, best - last
    head, *rows = page.section("Most forgotten").rows()
    assert head == ["class", "forgetting", "best", "last", "learned in"]
    first = sorted(lost, key=lambda name: -lost[name][2])[:15]
    assert [row[0] for row in rows] == first
    assert rows[0][2:4] == [f"{value:.1f}" for value in lost[first[0]][:2]]
    shares = {
        (CLASSES[truth], CLASSES[said]): 100 * count / sum(row)
        for truth, row in enumerate(matrices[-1])
        for said, count in enumerate(row)
        if truth != said
    }
    pairs = sorted(shares, key=lambda pair: -shares[pair])[:15]
    _, *rows = page.section("Most confused").rows()
    assert [tuple(row[:2]) for row in rows] == pairs
    assert [row[2] for row in rows] == [f"{shares[pair]:.1f}" for pair in pairs]


def test_every_class_of_the_matrix_has_a_name(large):
    out, page, _ = large
    drawing = ET.parse(out / "confusion.svg").iter()
    texts = ["".join(e.itertext()) for e in drawing if e.tag.endswith("}text")]
    names = [text for text in texts if text in CLASSES]
    shown = list(dict.fromkeys(names))
    assert names == [*shown, *shown]  # below, and at the left
    assert 20 < len(shown) <= 30
    worst = page.section("Most confused").rows()[1]
    assert set(worst[:2]) <= set(shown)
    alternatives = [
        element["aria-label"] for element in page.all("div") if element["role"] == "img"
    ]
    assert "IoU after each step of each class" not in alternatives  # the table is one
    assert (out / "heatmap.svg").exists()


def test_predictions_of_all_steps_stand_behind_one_slider(large):
    _, page, _ = large
    section = page.section("Photographs")
    panels = [element for element in section.all("div") if element["class"] == "panels"]
    assert [panel["aria-label"] for panel in panels] == [f"photo{n}" for n in range(EXAMPLES)]
    for panel in panels:
        figures = panel.all("figure")
        assert [figure["data-step"] for figure in figures] == [None, None, *map(str, range(STEPS))]
        assert [f.text for f in figures][:3] == ["photograph", "truth", "step0"]
    (slider,) = section.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", str(STEPS - 1))
    (place,) = (e for e in section.all("p") if "slider" in (e["class"] or ""))
    assert "hidden" in place.attributes  # until a script is at work
    sizes = [opened(image["src"]).size for image in section.all("img")]
    assert set(sizes) == {(LONGEST_SHOWN, LONGEST_SHOWN * 384 // 512)}


def opened(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_reduced_labels_are_labels_and_what_is_no_image_stays(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "labels.png"
    save_labels(path, rng.choice([0, 7, 140, 255], (700, 900)))
    small = opened(reduced_data_url(path))
    assert small.size == (480, 373)
    assert {value for _, value in small.convert("RGB").getcolors()} == {
        colour for _, colour in Image.open(path).convert("RGB").getcolors()
    }
    path.write_bytes(b"no image")
    assert base64.b64decode(reduced_data_url(path).partition(",")[2]) == b"no image"


def test_numbers_can_be_sorted_by_a_script_that_the_page_brings(large):
    _, page, _ = large
    sortable = [t for t in page.all("table") if t["class"] == "sortable"]
    sorted_by = [[th.text for th in t.all("th") if th["aria-sort"]] for t in sortable]
    assert sorted_by == [["forgetting"], ["pixels, %"], [f"step{STEPS - 1}"]]
    (script,) = page.all("script")
    assert script["src"] is None
    assert not re.search(r"https?:|import|fetch|XMLHttp", script.text)
