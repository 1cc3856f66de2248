"""The page for those who hear it, who have no mouse, who see little, and on paper."""

import itertools
import json

import pytest

from cssegcore.report.theme import COLOURS, STRONGEST
from cssegcore.report.write import write_report
from tests.helpers.page_tree import parsed
from tests.report.test_report import GUESSES, PROTOCOL, write_evaluation


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every section."""
    evaluation = write_evaluation(tmp_path_factory.mktemp("evaluation"))
    made = {
        "step": "step0",
        "classes": [{"class": "disc", "wanted": 4, "kept": 3, "made": 8}],
        "agreement": {"inverted": {"target_pixels": 0.875, "miou": 0.5, "by_class": [1, 0.875]}},
        "distance": {"made": 2.7, "real": 12.3},
    }
    step = evaluation / "step1"
    (step / "synthesis.json").write_text(json.dumps(made))
    (step / "sheet.png").write_bytes(b"a sheet")
    (step / "pseudo_labels.json").write_text(json.dumps(GUESSES["step1"]))
    (step / "further.json").write_text(json.dumps({"sharp": {"all": 12.3, "old": None}}))
    (step / "costs.json").write_text(json.dumps({"trainable_weights": 5, "kept_bytes": {}}))
    out = tmp_path_factory.mktemp("page")
    write_report(
        evaluation,
        out,
        title="all",
        protocol=PROTOCOL,
        parameters={"seed": 1},
        changed={"kd.weight": "5", "<b>": "&"},
        provenance={"made": "2026-11-30 08:00 UTC", "device": "NVIDIA H200"},
    )
    return parsed((out / "report.html").read_text())


@pytest.mark.slow
class TestPage:
    def test_headings_go_down_one_by_one(self, page):
        levels = [int(h.tag[1]) for h in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
        assert levels[0] == 1
        assert levels.count(1) == 1
        steps = [below - above for above, below in itertools.pairwise(levels)]
        assert max(steps) == 1
        assert all(section.all("h2") for section in page.all("section"))

    def test_what_is_seen_can_be_heard(self, page):
        assert page.all("html")[0]["lang"] == "en"
        assert page.all("title")[0].text == "all"
        images = page.all("img")
        assert len(images) > 5
        assert all(image["alt"] for image in images)
        for drawing in page.all("svg"):
            assert (drawing.above[0]["role"], bool(drawing.above[0]["aria-label"])) == ("img", True)
        labels = {label["for"] for label in page.all("label")}
        assert {field["id"] for field in page.all("input")} == labels != set()

    def test_cells_know_their_headings(self, page):
        tables = page.all("table")
        assert len(tables) >= 9
        for table in tables:
            for row in table.all("tbody")[0].all("tr"):
                assert row.all("th")[0]["scope"] == "row"
            heads = table.all("thead")[0].all("th")
            assert {head["scope"] for head in heads} <= {"col", "colgroup"}
            assert all(head.text for head in heads)

    def test_what_scrolls_can_be_scrolled_by_keys(self, page):
        for table in page.all("table"):
            place = next(e for e in table.above if "scroll" in (e["class"] or "").split())
            assert (place["tabindex"], place["role"]) == ("0", "region")
            assert place["aria-label"]

    def test_marks_are_unique_and_nothing_is_loaded(self, page):
        marks = [e["id"] for e in page.all() if e["id"]]
        assert len(marks) == len(set(marks)) > 1
        (policy,) = (m for m in page.all("meta") if m["http-equiv"] == "Content-Security-Policy")
        rules = dict(rule.split(maxsplit=1) for rule in policy["content"].split(";"))
        assert rules.pop("default-src") == "'none'"
        assert set(rules.values()) == {"data:", "'unsafe-inline'"}
        found = {e[name] for e in page.all() for name in ("src", "href", "srcset") if e[name]}
        found |= {e["xlink:href"] for e in page.all("use")}
        assert all(address.startswith(("data:image/", "#")) for address in found)

    def test_it_says_when_where_and_with_what_it_was_made(self, page):
        (header,) = page.all("header")
        assert "Changed from the default: kd.weight 5, <b> &." in header.text
        facts = [(div.all("dt")[0].text, div.all("dd")[0].text) for div in header.all("div")]
        assert facts == [("made", "2026-11-30 08:00 UTC"), ("device", "NVIDIA H200")]

    def test_swatches_and_shading_are_printed_and_nothing_is_cut_off(self, page):
        (style,) = page.all("style")
        printed = style.text.partition("@media print {")[2]
        assert "print-color-adjust: exact" in printed
        assert ".scroll.tall { overflow: visible; max-height: none; }" in printed
        assert "@media screen and (prefers-color-scheme: dark)" in style.text


def luminance(colour):
    """Relative luminance as WCAG 2 defines it, of red, green and blue in 0–255."""
    parts = [value / 255 for value in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(colour, share, ground):
    return [share * c + (1 - share) * g for c, g in zip(colour, ground, strict=True)]


@pytest.mark.parametrize("dark", [False, True])
def test_letters_stand_out_from_what_lies_behind_them(dark):
    rgb = {name: list(bytes.fromhex(pair[dark][1:])) for name, pair in COLOURS.items()}
    for letters in ("ink", "muted"):
        for ground in ("page", "surface"):
            assert contrast(rgb[letters], rgb[ground]) >= 4.5, (letters, ground)
    for hue in ("good", "bad"):  # the fullest cell of a table
        assert contrast(rgb["ink"], mixed(rgb[hue], STRONGEST, rgb["surface"])) >= 4.5, hue


def test_contrast_is_that_of_the_standard():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
