import base64
import csv
import json
import re
import shutil
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.palette import save_labels
from cssegcore.report.write import write_report

pytestmark = pytest.mark.slow

CLASSES = ["background", "disc", "star", "ring & co"]
LEARNED = [0, 0, 1, 2]
PROTOCOL = {"method": "mib", "scenario": "shapes/1-1", "setting": "overlapped", "seed": "1"}
FILES = {
    "summary.json",
    "headline.json",
    "steps.csv",
    "classes.csv",
    "epochs.csv",
    "report.html",
} | {f"{name}.svg" for name in ("heatmap", "curves", "losses", "confusion")}


def write_evaluation(folder, *, trained=True, examples=True, classes=CLASSES):
    """Three steps; the second tests a photograph that the first does not."""
    rng = np.random.default_rng(5)
    for index in range(3):
        step = folder / f"step{index}"
        (step / "examples").mkdir(parents=True)
        matrix = rng.integers(1, 60, (4, index + 2)) + 90 * np.eye(4, index + 2, dtype=int)
        confusion = {
            "step": step.name,
            "index": index,
            "classes": classes,
            "learned": LEARNED,
            "seen": index + 2,
            "images": 10 + index,
            "matrix": matrix.tolist(),
        }
        (step / "confusion.json").write_text(json.dumps(confusion))
        if trained:
            head, terms = ("epoch,lr,loss,ce", "0.5") if index == 0 else (HEAD_LATER, "0.4,0.25")
            rows = [f"{epoch},0.01,0.{9 - epoch},{terms}" for epoch in (1, 2)]
            (step / "epochs.csv").write_text("\n".join([head, *rows]) + "\n")
        for name in ("one", "two") if index else ("one",):
            if examples:
                photo = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
                photo.save(step / "examples" / f"{name}.photo.jpg")
                for kind in ("truth", "prediction"):
                    labels = rng.integers(0, index + 2, (12, 16))
                    save_labels(step / "examples" / f"{name}.{kind}.png", labels)
    return folder


HEAD_LATER = "epoch,lr,loss,ce,kd"
MORE = ("harmonic", "average")
"""Columns that not every paper has."""


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def written(evaluation, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "report"
    parameters = {"seed": 1, "method": {"losses": {"kd": {"weight": 10.0}}}}
    summary = write_report(
        evaluation, out, title="MiB <on> shapes", protocol=PROTOCOL, parameters=parameters
    )
    return out, summary


def rows_of(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def iou_table(evaluation, *, ignore_future=False):
    """IoU in points, step by step, straight from the files and in plain Python."""
    table = []
    for index in range(3):
        matrix = json.loads((evaluation / f"step{index}/confusion.json").read_text())["matrix"]
        seen = index + 2
        rows = [list(row) for row in matrix[:seen]]
        for row in [] if ignore_future else matrix[seen:]:
            rows[0] = [a + b for a, b in zip(rows[0], row, strict=True)]
        columns = [sum(row[c] for row in rows) for c in range(seen)]
        table.append(
            [100 * rows[c][c] / (sum(rows[c]) + columns[c] - rows[c][c]) for c in range(seen)]
        )
    return table


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_summary_holds_what_the_matrices_say(written, evaluation):
    out, summary = written
    first, second, last = table = iou_table(evaluation)
    expected = {
        "all": mean(last),
        "all_nobg": mean(last[1:]),
        "old": mean(last[:3]),
        "old_nobg": mean(last[1:3]),
        "new": last[3],
        "base": mean(last[:2]),
        "base_nobg": last[1],
        "added": mean(last[2:]),
    }
    assert summary == json.loads((out / "summary.json").read_text())
    for group, value in expected.items():
        assert summary["miou"][group] == pytest.approx(value, abs=2e-4), group
    assert summary["average"] == pytest.approx(mean(map(mean, table)), abs=2e-4)
    lost = [max(first[c], second[c]) - last[c] for c in (0, 1)] + [second[2] - last[2]]
    assert summary["forgetting"] == pytest.approx(mean(lost), abs=2e-4)
    gained = [last[0] - first[0], last[1] - first[1], last[2] - second[2]]
    assert summary["backward_transfer"] == pytest.approx(mean(gained), abs=2e-4)
    other = iou_table(evaluation, ignore_future=True)
    average = summary["future_ignore"]["average_nobg"]
    assert average == pytest.approx(mean(mean(row[1:]) for row in other), abs=2e-4)
    assert summary["protocol"].startswith("method mib; scenario shapes/1-1; setting overlapped;")
    assert "classes not learned yet count as background" in summary["protocol"]


def test_the_other_rule_can_be_the_headline(evaluation, tmp_path):
    summary = write_report(evaluation, tmp_path, title="x", protocol={}, future="ignore")
    table = iou_table(evaluation, ignore_future=True)
    assert summary["average"] == pytest.approx(mean(map(mean, table)), abs=2e-4)
    assert "future_background" in summary
    assert "do not count" in (tmp_path / "report.html").read_text()
    step = rows_of(tmp_path / "steps.csv")[0]
    assert float(step["miou_all"]) == pytest.approx(mean(table[0]), abs=2e-4)


def test_tables_have_one_row_per_step_class_and_epoch(written, evaluation):
    out, _ = written
    assert {path.name for path in out.iterdir()} == FILES
    table = iou_table(evaluation)
    steps = rows_of(out / "steps.csv")
    assert [row["step"] for row in steps] == ["0", "1", "2"]
    assert [row["images"] for row in steps] == ["10", "11", "12"]
    assert [float(row["miou_all"]) for row in steps] == pytest.approx(
        [mean(row) for row in table], abs=2e-4
    )
    assert steps[0]["miou_old"] == ""
    other = [mean(row[1:]) for row in iou_table(evaluation, ignore_future=True)]
    assert [float(row["future_ignore_miou_all_nobg"]) for row in steps] == pytest.approx(
        other, abs=2e-4
    )
    classes = rows_of(out / "classes.csv")
    assert len(classes) == 2 + 3 + 4
    star = [row for row in classes if row["class"] == "star"]
    assert [(row["step"], row["learned"]) for row in star] == [("1", "1"), ("2", "1")]
    assert float(star[1]["forgetting"]) == pytest.approx(table[1][2] - table[2][2], abs=2e-4)
    assert star[0]["forgetting"] == ""
    epochs = rows_of(out / "epochs.csv")
    assert [row["running_epoch"] for row in epochs] == list("123456")
    assert [row["step"] for row in epochs] == list("001122")
    assert [row["kd"] for row in epochs] == ["", "", "0.25", "0.25", "0.25", "0.25"]
    assert epochs[2]["loss"] == "0.8"


def test_the_same_evaluation_gives_the_same_bytes(written, evaluation, tmp_path):
    out, _ = written
    for number in (1, 2):
        write_report(evaluation, tmp_path / str(number), title="MiB", protocol=PROTOCOL)
    for name in FILES:
        first, second = ((tmp_path / n / name).read_bytes() for n in "12")
        assert first == second, name
    for name in ("summary.json", "steps.csv", "classes.csv", "epochs.csv"):
        assert (out / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_the_page_stands_alone_and_holds_the_numbers(written, evaluation):
    out, summary = written
    page = (out / "report.html").read_text()
    assert not re.findall(r"https?://|<script[^>]|<link|@import|url\((?!#)", page)
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,22})', page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "<title>MiB &lt;on&gt; shapes</title>" in page
    assert "ring &amp; co" in page
    for value in PROTOCOL.values():
        assert f"</span>{value}</li>" in page
    for group in ("all", "old", "new", "base", "added"):
        assert f'<p class="value">{summary["miou"][group]:.1f}</p>' in page
    for row in iou_table(evaluation):
        for value in row:
            assert f">{value:.1f}</td>" in page
    first = re.findall(r"<p[^>]*>(.*?)</p>", page)[0]
    assert "Last epoch" in first
    assert "None was chosen on test images" in first
    assert "prefers-color-scheme: dark" in page
    assert re.search(r"method\.losses\.kd\.weight</code></th><td[^>]*><code>10\.0<", page)
    assert page.count("not in this step’s test") == 1
    assert page.count('class="photo"') == 2


def test_what_was_watched_is_shown(evaluation, tmp_path):
    watched = tmp_path / "watched"
    shutil.copytree(evaluation, watched)
    for step in ("step0", "step1"):  # not every epoch is measured, nor every step
        curve = watched / step / "epochs.csv"
        head, first, second = curve.read_text().splitlines()
        curve.write_text(f"{head},val_miou,val_new\n{first},,\n{second},61.25,61.25\n")
    weights = {"weights": "best epoch on validation images"}
    write_report(watched, tmp_path / "out", title="t", protocol=PROTOCOL | weights)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*FILES, "validation.svg"}
    figure = (tmp_path / "out" / "validation.svg").read_text()
    assert ">all<" in figure
    assert ">old<" not in figure
    assert "val_miou" not in (tmp_path / "out" / "losses.svg").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Mean IoU on validation images" in page
    assert "The model of each step: best epoch on validation images. None" in page
    assert "Last epoch" not in page


def test_the_papers_tables_stand_in_summary_and_page(evaluation, tmp_path):
    last = iou_table(evaluation)[-1]
    for void in (False, True):
        protocol = {"test images": "crops of 96"} if void else {}
        out = tmp_path / str(void)
        summary = write_report(
            evaluation,
            out,
            title="x",
            protocol=protocol,
            background="void" if void else "annotated",
        )
        page = (out / "report.html").read_text()
        table = page[page.index("<h2>Under the papers’ protocols</h2>") :]
        table = table[: table.index("</table>")]
        assert ("this run: crops of 96." if void else "this run: not said.") in table
        rows = [
            [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        assert rows[0] == ["paper", "1", "2", "3", "later", "all", *MORE, "what counts"]
        papers = ["MiB", "PLOP", "SSUL", "SDR", "DKD, STAR", "MBS"]
        assert [row[0] for row in rows[1:]] == papers
        for row, (name, numbers) in zip(rows[1:], summary["protocols"].items(), strict=True):
            shown = [*numbers["groups"], *(numbers[k] for k in ("added", "all", *MORE))]
            assert row[1:-1] == ["–" if n is None else f"{n:.1f}" for n in shown], name
            untested = void and name in ("mib", "sdr", "mbs")
            assert ("pixels of the background" in row[-1]) == untested
        plop = summary["protocols"]["plop"]
        assert plop["all"] == pytest.approx(mean(last), abs=2e-4)
        assert plop["average"] == summary["average"]
        mib = summary["protocols"]["mib"]
        assert (mib["all"] == summary["miou"]["all_nobg"]) != void


def test_the_stage_says_what_was_tested_and_whether_the_background_is_void(project):
    write_evaluation(project.folder / "work" / "step2" / "evaluation", examples=False)
    (project.folder / "work" / "code").mkdir()
    all_classes = {}
    for background, view in (
        ("annotated", "whole photographs"),
        ("void", "central crop of 64 by 64"),
    ):
        project.set("dataset.background", background)
        project.set("evaluation.view", "crop" if background == "void" else "whole")
        project.set("evaluation.size", 64)
        assert project.run("report").status == 0
        summary = json.loads((project.folder / "work/report/summary.json").read_text())
        assert view in summary["protocol"]
        all_classes[background] = {k: row["all"] for k, row in summary["protocols"].items()}
    annotated, void = all_classes["annotated"], all_classes["void"]
    assert [name for name in void if void[name] != annotated[name]] == ["mbs", "mib", "sdr"]


GUESSES = {
    "step0": {},
    "step1": {
        "background": 400,
        "classes": [
            {"class": "background", "threshold": None, "predicted": 300, "accepted": 300},
            {"class": "disc", "threshold": 0.001234567, "predicted": 100, "accepted": 30},
        ],
    },
    "step2": {
        "background": 800,
        "classes": [
            {"class": "background", "threshold": None, "predicted": 0, "accepted": 0},
            {"class": "disc", "threshold": 0.7, "predicted": 600, "accepted": 1},
            {"class": "star", "threshold": 0.7, "predicted": 2, "accepted": 2},
        ],
    },
}


def test_pseudo_labels_are_told_by_step_and_class(tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    for step, content in GUESSES.items():
        (evaluation / step / "pseudo_labels.json").write_text(json.dumps(content))
    write_report(evaluation, tmp_path / "report", title="x", protocol=PROTOCOL)
    page = (tmp_path / "report" / "report.html").read_text()
    table = page[page.index("<h2>Pseudo-labels</h2>") :]
    table = table[: table.index("</table>")]
    rows = [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    ]
    assert rows == [
        ["step", "class", "threshold", "predicted, %", "accepted, %"],
        ["step1", "background", "–", "75.0", "100.0"],
        ["step1", "disc", "0.001235", "25.0", "30.0"],
        ["step2", "background", "–", "0.0", "0.0"],
        ["step2", "disc", "0.7", "75.0", "0.2"],
        ["step2", "star", "0.7", "0.2", "100.0"],
    ]
    assert table.count('class="starts"') == 1


def test_without_pseudo_labels_there_is_no_table_of_them(written, tmp_path):
    assert "Pseudo-labels" not in (written[0] / "report.html").read_text()
    evaluation = write_evaluation(tmp_path / "evaluation", trained=False, examples=False)
    (evaluation / "step1" / "pseudo_labels.json").write_text("{}")
    write_report(evaluation, tmp_path / "report", title="x", protocol=PROTOCOL)
    assert "Pseudo-labels" not in (tmp_path / "report" / "report.html").read_text()


def test_made_images_are_shown_with_what_networks_see_in_them(written, tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    made = {
        "step": "step0",
        "classes": [{"class": "disc", "wanted": 4, "kept": 3, "made": 8}],
        "agreement": {
            "inverted": {"target_pixels": 0.875, "miou": 0.5, "by_class": [1, 0.875]},
            "independent": {"target_pixels": None, "miou": 0.25, "by_class": [1, None]},
        },
        "distance": {"made": 2.71828, "real": 12.3456},
    }
    (evaluation / "step1" / "synthesis.json").write_text(json.dumps(made))
    (evaluation / "step2" / "synthesis.json").write_text("{}")
    (evaluation / "step1" / "sheet.png").write_bytes(b"a sheet")
    write_report(evaluation, tmp_path / "report", title="x", protocol=PROTOCOL)
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<h2>Images made before") == 1
    section = page[page.index("<h2>Images made before step1</h2>") :]
    section = section[: section.index("</section>")]
    for words in (
        "the model of step0: 3 of 4 images",
        "inverted model sees 87.5 % of the pixels of a class as asked for (mIoU 50.0)",
        "independent model sees – % of the pixels of a class as asked for (mIoU 25.0)",
        "running ones: 2.72; of photographs, 12.3",
        base64.b64encode(b"a sheet").decode(),
    ):
        assert words in section
    assert "Images made before" not in (written[0] / "report.html").read_text()


def test_nothing_trained_and_no_photographs_still_make_a_report(tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation", trained=False, examples=False)
    out = tmp_path / "report"
    write_report(evaluation, out, title="x", protocol=PROTOCOL)
    assert {path.name for path in out.iterdir()} == FILES
    assert (out / "epochs.csv").read_text() == "running_epoch,step,epoch,lr,loss\n"
    assert "Photographs" not in (out / "report.html").read_text()


def test_a_class_without_truth_and_a_single_step_are_shown_as_undefined(tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    shutil.rmtree(evaluation / "step1")
    shutil.rmtree(evaluation / "step2")
    path = evaluation / "step0/confusion.json"
    confusion = json.loads(path.read_text())
    confusion["matrix"][1] = [0, 0]
    path.write_text(json.dumps(confusion))
    summary = write_report(evaluation, tmp_path / "report", title="x", protocol={})
    assert summary["forgetting"] is None
    assert summary["miou"]["all_nobg"] is None
    assert '<td class="none">no truth</td>' in (tmp_path / "report/report.html").read_text()


def texts(path):
    return ["".join(e.itertext()) for e in ET.parse(path).iter() if e.tag.endswith("}text")]


def test_names_are_shown_as_they_are_and_take_no_effect(tmp_path):
    names = ["background", "up_to_$5_each", "$5_to_$10", "\\frac{<b>&amp;"]
    evaluation = write_evaluation(tmp_path / "evaluation", classes=names)
    write_report(evaluation, tmp_path / "report", title="$x_", protocol={"$": "^$"})
    for figure in ("heatmap", "confusion"):
        assert set(names) <= set(texts(tmp_path / f"report/{figure}.svg"))
    page = (tmp_path / "report/report.html").read_text()
    assert "\\frac{&lt;b&gt;&amp;amp;" in page
    assert "<b>" not in page


def test_names_of_any_script_and_length_leave_the_figure_whole(tmp_path):
    names = ["背景" * 30, "दुकान", "a\x1b[31m\x00\n\ufffeb", "x" * 3000]
    evaluation = write_evaluation(tmp_path / "evaluation", classes=names)
    write_report(evaluation, tmp_path / "report", title="x", protocol=PROTOCOL)
    for figure in ("heatmap", "confusion"):
        shown = texts(tmp_path / f"report/{figure}.svg")
        assert {"दुकान", "a�[31m���b", "x" * 23 + "…", "背景" * 5 + "背…"} <= set(shown)
        drawing = (tmp_path / f"report/{figure}.svg").read_text()
        assert drawing.count("fill-opacity") >= 4


def test_figures_take_the_colours_of_the_page(written):
    out, _ = written
    page = (out / "report.html").read_text()
    declared = set(re.findall(r"(--[a-z]+): #", page))
    for figure, alternative in ALTERNATIVES.items():
        drawing = (out / f"{figure}.svg").read_text()
        colours = {c for c in re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing) if c != "none"}
        named = [re.fullmatch(r"var\((--\w+), #[0-9a-f]{6}\)", colour) for colour in colours]
        assert all(named), colours
        assert len(colours) > 2
        assert {match[1] for match in named} <= declared
        assert page.count(f'aria-label="{alternative}"') == 1
        marks = re.findall(r'id="(\w+)"', drawing)
        assert all(page.count(f'id="{mark}"') == 1 for mark in marks)


ALTERNATIVES = {
    "heatmap": "IoU after each step of each class",
    "curves": "mean IoU of all, old and new classes after each step",
    "losses": "loss and its terms over the epochs",
    "confusion": "row-normalised confusion matrix",
}


def test_further_metrics_are_in_summary_table_and_page(written, tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    for index in (1, 2):
        numbers = {"sharp": {"all": 12.3456 + index, "old": None}, "alone": 3.21}
        (evaluation / f"step{index}/further.json").write_text(json.dumps(numbers))
    summary = write_report(evaluation, tmp_path / "report", title="x", protocol=PROTOCOL)
    assert summary == written[1] | {"sharp": {"all": 14.3456, "old": None}, "alone": 3.21}
    rows = rows_of(tmp_path / "report/steps.csv")
    assert [row["sharp_all"] for row in rows] == ["", "13.3456", "14.3456"]
    assert list(rows[0])[-3:] == ["sharp_all", "sharp_old", "alone"]
    page = (tmp_path / "report" / "report.html").read_text()
    section = page[page.index("<h2>sharp</h2>") :]
    section = section[: section.index("</section>")]
    assert re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", section) == [
        *("step", "all", "old"),
        *("step0", "–", "–"),
        *("step1", "13.3", "–"),
        *("step2", "14.3", "–"),
    ]
    assert "<td>3.2</td>" in page[page.index("<h2>alone</h2>") :]


def test_costs_are_told_where_they_are_known(written, tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    kept = {"exemplars": 1000, "made_images": 0, "statistics": 3 * 2**20}
    for index in (1, 2):
        costs = {"trainable_weights": 12345 * index, "kept_bytes": kept}
        (evaluation / f"step{index}/costs.json").write_text(json.dumps(costs))
    out = tmp_path / "report"
    seconds = {"step0": 2.25, "step2": 61.06}
    summary = write_report(evaluation, out, title="x", protocol=PROTOCOL, seconds=seconds)
    assert summary == written[1], "no result"
    page = (out / "report.html").read_text()
    section = page[page.index("<h2>Costs</h2>") :]
    section = section[: section.index("</section>")]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in section.split("<tr>")[2:]]
    assert rows == [
        ["–", "–", "–", "–", "2.2"],
        ["12,345", "1000 B", "0 B", "3 MiB", "–"],
        ["24,690", "1000 B", "0 B", "3 MiB", "61.1"],
    ]
    assert "<h2>Costs</h2>" not in (written[0] / "report.html").read_text()


def test_many_classes_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(2):
        seen = 60 + 5 * index
        step = tmp_path / "evaluation" / f"step{index}"
        step.mkdir(parents=True)
        confusion = {
            "step": step.name,
            "index": index,
            "classes": [f"class {c}" for c in range(65)],
            "learned": [0] * 60 + [1] * 5,
            "seen": seen,
            "images": 1,
            "matrix": rng.integers(0, 9, (65, seen)).tolist(),
        }
        (step / "confusion.json").write_text(json.dumps(confusion))
    summary = write_report(tmp_path / "evaluation", tmp_path / "out", title="x", protocol={})
    assert summary["steps"] == 2
    drawing = ET.parse(tmp_path / "out/heatmap.svg").getroot()
    # three blocks of classes, one below the other
    assert float(drawing.attrib["height"]) > 0.4 * float(drawing.attrib["width"])


class TestBadInput:
    def refused(self, evaluation, tmp_path, message):
        with pytest.raises(InputError, match=message):
            write_report(evaluation, tmp_path / "report", title="x", protocol={})
        assert not (tmp_path / "report").exists()

    def test_no_evaluation(self, tmp_path):
        self.refused(tmp_path / "none", tmp_path, r"none holds no evaluated step")

    def test_half_a_file(self, tmp_path):
        evaluation = write_evaluation(tmp_path / "evaluation")
        path = evaluation / "step1/confusion.json"
        path.write_bytes(path.read_bytes()[:40])
        self.refused(evaluation, tmp_path, r"step1/confusion.json is not JSON")

    def test_steps_of_two_runs(self, tmp_path):
        evaluation = write_evaluation(tmp_path / "evaluation")
        shutil.copytree(evaluation / "step1", evaluation / "step1b")
        self.refused(evaluation, tmp_path, r"step1 and step1b are not steps of one run")
