"""The bench that breaks things on purpose: it must see every way in which a trial can go wrong."""

import importlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from bench.torture import _batch, _ledger, _mutate, _page, disk, hostile, kills
from bench.torture._hostile_inputs import every
from bench.torture._ledger import CRASHED, DIFFERS, HANGS, OTHER, OUTSIDE, REFUSED, SAME, Ledger
from bench.torture._tree import Tree
from bench.torture._trial import Kill, forked
from cssegcore.core.errors import InputError
from tests.helpers import tiny_dataset as scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _once():
    """Imports what `index` does, for all forks to come."""
    for name in (
        "typer",
        "stages.common.params",
        "cssegcore.data.index",
        "cssegcore.data.layouts.voc",
    ):
        importlib.import_module(name)


@pytest.fixture
def ledger(tmp_path):
    return Ledger("kills", tmp_path / "out", seed=1, share=0.01)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A project whose index is made: no stage before it or after it is needed for these tests."""
    return Tree(tmp_path_factory.mktemp("torture") / "tree").walk("index")


def says(text, status):
    os.write(2, text.encode())
    return status


def judged(ledger, tmp_path, work, **options):
    return ledger.judge(forked(work, (tmp_path / "inside",), **options), lambda: True)


class TestTrial:
    @pytest.mark.parametrize(
        ("work", "what"),
        [
            (lambda: 0, SAME),
            (lambda: says("error: no\n", 2), REFUSED),
            (lambda: says("a warning\nerror: no\n", 2), REFUSED),
            (lambda: says("error: " + "x" * 6000, 2), CRASHED),
            (lambda: says("Usage: …", 2), CRASHED),
            (lambda: says("error: no\n", 1), CRASHED),
            (lambda: 1 // 0, CRASHED),
            (lambda: os.abort(), CRASHED),
            (lambda: len(bytearray(2**40)), CRASHED),
        ],
        ids=range(9),
    )
    def test_each_end_has_its_word(self, ledger, tmp_path, work, what):
        assert judged(ledger, tmp_path, work) == what

    def test_what_does_not_end_is_ended_with_all_that_it_started(self, ledger, tmp_path):
        note = tmp_path / "pid"

        def work():
            if os.fork() == 0:
                note.write_text(str(os.getpid()))
            time.sleep(60)
            return 0

        assert judged(ledger, tmp_path, work, seconds=0.5) == HANGS
        status = Path(f"/proc/{note.read_text()}/stat")
        deadline = time.monotonic() + 5  # it dies by itself, once the signal is there
        while status.exists() and ") Z" not in status.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_a_file_elsewhere_is_seen(self, ledger, tmp_path):
        (tmp_path / "inside").mkdir()
        inside, outside = tmp_path / "inside/x", tmp_path / "x"
        assert judged(ledger, tmp_path, lambda: inside.write_text("") and 1) == SAME
        assert judged(ledger, tmp_path, lambda: outside.write_text("") and 1) == OUTSIDE

    def test_it_dies_at_the_write_that_is_asked_for(self, tmp_path):
        def work():
            for name in "abc":
                (tmp_path / name).write_text(name)
            return 0

        ended = forked(work, (tmp_path,), kill=Kill(signal.SIGKILL, at_write=2))
        assert ended.status == -signal.SIGKILL
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
        assert forked(work, (tmp_path,)).writes == 3

    def test_another_result_has_its_word(self, ledger):
        assert ledger.judge(forked(lambda: 0, ()), lambda: False) == DIFFERS


class TestBatch:
    def test_each_trial_has_its_word_also_after_a_crash_and_a_hang(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_batch, "WAITS", 1)
        given = []

        def refuse():
            raise InputError("no")

        acts = {
            "refused": refuse,
            "error": lambda: {}["x"],
            "dies": os.abort,
            "hangs": lambda: time.sleep(60),
            "writes": lambda: (tmp_path / "x").write_text(""),
            "writes and refuses": lambda: (tmp_path / "x").write_text("") or refuse(),
        }

        words = ["fine", *acts, "other", "unchanged"]

        def read():
            acts.get(given[0], int)()
            return given[0]

        def prepare(number):
            given[:] = [words[number]]
            return words[number] != "unchanged"

        trials = _batch.Trials(prepare, read, "fine", OTHER, ())
        told = _batch.batched(trials, range(len(words)))
        expected = [SAME, REFUSED, CRASHED, CRASHED, HANGS, OUTSIDE, OUTSIDE, OTHER, SAME]
        assert [each.what for each in told] == expected

    def test_once_hands_over_what_is_read(self):
        assert _batch.once(lambda: {"a": [1, b"x"]}) == {"a": [1, b"x"]}
        with pytest.raises(SystemExit, match="ZeroDivisionError"):
            _batch.once(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("change", "content"),
    [
        (_mutate.change_bytes, bytes(range(256))),
        (_mutate.change_json, b'{"a": [1, {"b": null}], "c": "x"}'),
        (_mutate.change_yaml, b"a: [1, {b: null}]\nc: x\n"),
        (_mutate.change_lines, b"a,b\n1,2\n"),
        (_mutate.flip_bit, b"abc"),
    ],
)
def test_changes_are_many_and_the_same_for_a_seed(change, content):
    made = [change(random.Random(seed), content) for seed in range(100)]
    assert made == [change(random.Random(seed), content) for seed in range(100)]
    assert len(set(made)) > 15
    if change is _mutate.flip_bit:
        ones = [int.from_bytes(each) ^ int.from_bytes(content) for each in made]
        assert {one.bit_count() for one in ones} == {1}


class TestFamilies:
    def test_a_stage_is_killed_and_runs_again(self, ledger, tree):
        kills._kill(ledger, tree, "index", signal.SIGTERM, 0)
        assert [row.happened for row in ledger.rows.values()] == [{SAME: 1}]

    def test_a_stage_that_forgets_is_found(self, ledger, tree, monkeypatch):
        monkeypatch.setattr(tree, "same", lambda _: False)
        kills._kill(ledger, tree, "index", signal.SIGKILL, 0)
        (row,) = ledger.rows.values()
        assert row.bad() == {DIFFERS: 1}
        assert row.examples[0]["trial"] == ("plain", "index", "SIGKILL", 0)

    def test_a_disk_is_full(self, ledger, tree):
        disk._limited(ledger, tree, "index", 0)
        (row,) = ledger.rows.values()
        assert row.happened == {REFUSED: 1}

    def test_hostile_files(self, ledger, tree, tmp_path):
        wanted = {
            "a photograph is a pipe (FIFO)",
            "a list names `../../`",
            "labels of 2 bits a sample",
        }
        chosen = [each for each in every() if each.fault in wanted]
        assert len(chosen) == len(wanted)
        for each in chosen:
            only = hostile.inputs.Hostile(
                each.fault, each.make, ("index",), each.wanted, each.right
            )
            hostile._try(ledger, tmp_path / "own", tree, only, 0)
        assert {row.fault: not row.bad() for row in ledger.rows.values()} == dict.fromkeys(
            wanted, True
        )

    def test_names_of_hostile_inputs_differ(self):
        faults = [each.fault for each in every()]
        assert len(faults) == len(set(faults)) > 80


def test_a_family_ends_when_its_time_is_over(ledger):
    ledger.minutes = 60
    ledger.count("a fault", SAME)
    ledger.minutes = 0
    with pytest.raises(_ledger.TimeUp):
        ledger.count("a fault", SAME)
    assert json.loads(ledger.write().read_text())["rows"][0]["happened"] == {SAME: 2}


def test_the_page_tells_what_was_counted(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(_ledger, "machine", lambda: "a machine")
    for what in (SAME, SAME, REFUSED, CRASHED):
        ledger.count("a fault", what, {"trial": 1}, lambda place: (place / "x").write_text("y"))
    content = json.loads(ledger.write().read_text())
    (example,) = content["rows"][0]["examples"]
    assert (Path(example["at"]) / "x").read_text() == "y"
    _page.write(tmp_path / "page.md", tmp_path / "out")
    page = (tmp_path / "page.md").read_text()
    assert "| a fault | 4 | 2 | 1 |  | 1 × traceback |" in page
    assert "4 trials of 1 faults on a machine. Faults of ours found: 1 × traceback." in page


def test_what_went_wrong_is_tried_again(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(_ledger, "machine", lambda: "a machine")
    for trial, what in enumerate((SAME, CRASHED, CRASHED)):
        ledger.count("a fault", what, {"trial": trial})
    ledger.write()
    again = Ledger("kills", tmp_path / "out", seed=1)
    again.recall()
    assert [again.wants("a fault", trial) for trial in range(3)] == [False, True, True]
    assert not again.wants("another", 1)
    again.count("a fault", REFUSED, {"trial": 1})
    again.count("a fault", CRASHED, {"trial": 2})
    again.write()
    _page.write(tmp_path / "page.md", tmp_path / "out")
    page = (tmp_path / "page.md").read_text()
    assert "| a fault | 3 | 1 |  |  | 2 × traceback (1 of them mended, tried again at " in page
    again.count("a fault", SAME, {"trial": 2})
    again.write()
    _page.write(tmp_path / "page.md", tmp_path / "out")
    assert "2 × traceback (mended, tried again at " in (tmp_path / "page.md").read_text()


def test_a_family_that_ran_anew_replaces_its_section_alone(tmp_path, monkeypatch):
    page, out = tmp_path / "page.md", tmp_path / "out"
    machines = {"kills": "a machine", "rot": "a machine", "hostile": "one with 2 cores, no GPU"}
    for family, machine in machines.items():
        monkeypatch.setattr(_ledger, "machine", lambda name=machine: name)
        ledger = Ledger(family, out, seed=1)
        for trial, what in enumerate((SAME, SAME, REFUSED, OTHER, CRASHED, CRASHED, CRASHED)):
            ledger.count(f"fault of `{family}`: a | b", what, {"trial": trial})
        for trial, what in enumerate((DIFFERS, HANGS, HANGS)):
            ledger.count("more", what, {"trial": trial})
        ledger.count("none", OTHER)
        ledger.write()
        again = Ledger(family, out, seed=1)
        again.recall()
        again.count(f"fault of `{family}`: a | b", REFUSED, {"trial": 4})
        again.count("more", SAME, {"trial": 0})
        again.write()
    _page.write(page, out)
    whole = page.read_text()
    assert "33 trials of 9 faults on a machine; one with 2 cores, no GPU." in whole
    assert "3 × another result (mended, tried again at " in whole
    assert "9 × traceback (3 of them mended, tried again at " in whole
    for family in machines.keys() - {"rot"}:
        (out / f"{family}.json").unlink()
    _page.write(page, out)
    assert page.read_text() == whole
    content = json.loads((out / "rot.json").read_text())
    content["rows"] = content["rows"][2:]
    (out / "rot.json").write_text(json.dumps(content))
    _page.write(page, out)
    assert "23 trials of 7 faults on" in page.read_text()
    assert page.read_text().count("fault of `") == 2


def test_the_page_of_the_project_can_be_kept():
    page = (scenes.HOME / "docs/reliability.md").read_text()
    sections = _page._sections(page)
    rows = [row for part in sections.values() for row in _page._rows(part)]
    assert list(sections) == list(_page.TITLES)
    assert _page.summary(rows, set(_page._machines(page))) in page


def test_it_says_how_it_is_run():
    outcome = scenes.run_module("bench.torture", "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert "python -m bench.torture" in outcome.out
