"""The page in a headless Chromium, if there is one: on a phone, in the dark, sorted, printed.

`CSSEGCORE_AXE` may name axe-core's `axe.min.js`, which then looks at the page as well.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.large_run import EXAMPLES, STEPS

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is on the path"),
]

PROBE = """
const all = (what) => [...document.querySelectorAll(what)];
const [, , table] = all("table.sortable");
const cells = (row) => table.rows[row].cells;
const column = [...cells(0)].findIndex((cell) => cell.textContent.trim() === "step3");
const values = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent.trim());
const found = { width: innerWidth, page: document.documentElement.scrollWidth };
found.dark = getComputedStyle(document.body).backgroundColor;
cells(0)[column].querySelector("button").click();
found.falling = values();
cells(0)[column].querySelector("button").click();
found.rising = values();
found.told = [...cells(0)].map((cell) => cell.getAttribute("aria-sort"));
const slider = document.getElementById("step-shown");
slider.value = 3;
slider.dispatchEvent(new Event("input"));
found.step = slider.getAttribute("aria-valuetext");
found.shown = all(".prediction").filter((e) => e.checkVisibility()).map((e) => e.dataset.step);
const place = table.closest(".scroll");
place.scrollLeft = 200;
const name = table.tBodies[0].querySelector("th");
found.moved = place.scrollLeft;
found.name = name.getBoundingClientRect().left - place.getBoundingClientRect().left;
const tell = () => {
  const told = document.createElement("pre");
  told.textContent = JSON.stringify(found);
  document.body.replaceChildren(told);
};
if (window.axe === undefined) tell();
else axe.run(document, { resultTypes: ["violations"] }).then((result) => {
  found.violations = result.violations.map((one) => [one.id, one.nodes[0].html]);
  tell();
});
"""


@pytest.fixture
def report(large_report):
    return large_report[1] / "report.html"


def browse(page, profile, *arguments):
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command = [BROWSER, *options, *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize(
    ("width", "dark"),
    [(390, False), (390, True), (1280, False), (1280, True)],
    ids=["phone", "phone in the dark", "desk", "desk in the dark"],
)
def test_on_a_screen(report, tmp_path, width, dark):
    if width < 500 and "shell" not in str(BROWSER):
        pytest.skip("a whole Chromium has no window below 500 pixels; chromium-headless-shell has")
    axe = os.environ.get("CSSEGCORE_AXE")
    scripts = [Path(axe).read_text()] if axe else []
    probe = "".join(f"<script>{script}</script>" for script in [*scripts, PROBE])
    page = tmp_path / "page.html"
    page.write_text(report.read_text().replace("</body>", probe + "</body>"))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    size = (f"--window-size={width},900", "--virtual-time-budget=60000", scheme)
    dom = browse(page, tmp_path / "profile", *size, "--dump-dom")
    found = json.loads(html.unescape(re.findall(r"<pre>(.*?)</pre>", dom, re.DOTALL)[0]))
    assert found["width"] == width
    assert found["page"] <= width, "the page itself scrolls to no side"
    assert found["dark"] == ("rgb(14, 18, 22)" if dark else "rgb(245, 246, 248)")
    numbers = [float(value) for value in found["falling"] if value]
    assert numbers == sorted(numbers, reverse=True)
    assert found["falling"][len(numbers) :] == [""] * (151 - len(numbers))  # not learned yet
    assert [float(value) for value in found["rising"] if value] == numbers[::-1]
    assert found["rising"][-1] == ""
    assert [told for told in found["told"] if told] == ["ascending"]
    assert found["step"] == "step3"
    assert found["shown"] == ["3"] * EXAMPLES
    assert (found["moved"] > 0) == (width < 1000)
    assert found["name"] == pytest.approx(0, abs=1), "names stay while numbers scroll"
    assert found.get("violations", []) == []


def printed(page, folder):
    """Returns a page as PDF."""
    pdf = folder / "page.pdf"
    browse(page, folder / "profile", f"--print-to-pdf={pdf}")
    return pdf.read_bytes()


def test_on_paper_a_long_table_has_its_head_on_every_page(report, tmp_path):
    """By a link in the head of the table of classes: where it lies on the pages."""
    text, head = report.read_text(), '<th scope="col">learned in</th>'
    before, after = text[: (at := text.index("<h2>Classes</h2>"))], text[at:]
    linked = head.replace("learned in", '<a href="https://head.example/">learned in</a>')
    page = tmp_path / "page.html"
    page.write_text(before + after.replace(head, linked, 1))
    content = printed(page, tmp_path)
    links = re.findall(rb"/Rect\s*\[([^]]+)\](?:(?!endobj).)*?head\.example", content, re.DOTALL)
    tops = {round(float(link.split()[3])) for link in links}
    assert len(tops) == 2, "once where the table begins, then at the top of pages"


def test_on_paper_all_steps_and_parameters_are_there(report, tmp_path):
    page = tmp_path / "page.html"  # what is printed is what `beforeprint` and print styles leave
    probe = """<script>
        const seen = (e) => e.checkVisibility({ contentVisibilityAuto: true });
        dispatchEvent(new Event("beforeprint"));
        const all = [...document.querySelectorAll("details, details td")].filter(seen).length;
        dispatchEvent(new Event("afterprint"));
        const told = document.createElement("pre");
        told.textContent = JSON.stringify([all, document.querySelector("details").open]);
        document.body.append(told);
    </script></body>"""
    page.write_text(report.read_text().replace("</body>", probe))
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    assert json.loads(re.findall(r"<pre>(.*?)</pre>", dom, re.DOTALL)[0]) == [2, False]
    content = printed(report, tmp_path)
    images = len(re.findall(rb"/Subtype\s*/Image", content))
    assert images >= EXAMPLES * (STEPS + 2)
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 8
