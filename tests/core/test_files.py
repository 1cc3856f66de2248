import json
import os
import signal
import subprocess
import sys

import pytest

from cssegcore.core.errors import InputError
from cssegcore.core.files import (
    append_csv,
    copy_content,
    digest,
    replacing,
    write_csv,
    write_json,
    write_text,
)
from tests.helpers.tiny_dataset import HOME, disk_full_beyond


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    write_text(tmp_path / "a", "old")
    with replacing(tmp_path / "a") as temporary:
        assert temporary.parent == tmp_path  # a rename is whole within one file system only
        temporary.write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert contents(tmp_path) == {"a": "new"}


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "b" / "c" / "a", "x")
    assert contents(tmp_path / "b" / "c") == {"a": "x"}


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a", "old")

    def half_way():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        half_way()
    assert contents(tmp_path) == {"a": "old"}


def test_a_kill_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    code = """
import os, signal, sys
from pathlib import Path
from cssegcore.core.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", code, tmp_path / "a"]
    assert subprocess.run(command, cwd=HOME, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "old"


def test_what_stands_in_the_way_is_no_matter_of_space(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    for path in (tmp_path / "file/a", tmp_path / "folder", tmp_path / "gone/a"):
        with pytest.raises(InputError) as refused, replacing(path) as temporary:
            temporary.write_text("")
        assert f"cannot write {path}: " in str(refused.value)
        assert ". Something else stands where a folder or this file goes: move" in str(
            refused.value
        )


def test_a_full_disk_leaves_the_old_file_and_says_the_way_out(tmp_path):
    write_text(tmp_path / "a", "old")
    with disk_full_beyond(1000), pytest.raises(InputError) as refused:
        write_text(tmp_path / "a", "x" * 2000)
    line = str(refused.value)
    assert line.startswith(f"cannot write {tmp_path / 'a'}: File too large. Free space")
    assert "\n" not in line
    assert contents(tmp_path) == {"a": "old"}


def test_no_space_for_the_temporary_file_is_said_alike(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(InputError, match=r"^cannot write .*a: No space left on device\. Free spac"):
        write_text(tmp_path / "a", "x")


def test_a_folder_that_is_a_file_is_said_in_one_line(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(InputError, match=r"^cannot write .*b: "):
        write_text(tmp_path / "a" / "b", "x")


def test_a_file_can_be_read_by_others_as_any_new_file(tmp_path):
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_text_is_utf8_with_lf(tmp_path):
    write_text(tmp_path / "a", "ü\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xbc\n"


def test_json_is_the_same_bytes_for_the_same_value(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": ["ü"]})
    write_json(tmp_path / "b", {"a": ["ü"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_bytes()) == {"a": ["ü"], "b": 1}


def test_a_table_has_the_columns_of_all_rows(tmp_path):
    rows = [{"epoch": 1.0, "loss": 1 / 3}, {"epoch": 2.0, "loss": 1e-9, "kd": None, "n": 12345678}]
    write_csv(tmp_path / "c.csv", rows, ("lr", "loss"))
    lines = (b"lr,loss,epoch,kd,n", b",0.333333,1,,", b",1e-09,2,,12345678", b"")
    assert (tmp_path / "c.csv").read_bytes() == b"\n".join(lines)
    write_csv(tmp_path / "c.csv", [{"miou": 100.0}], numbers="")
    assert (tmp_path / "c.csv").read_bytes() == b"miou\n100.0\n"


def test_a_table_that_grows_is_the_one_that_is_written_at_once(tmp_path):
    rows = [{"batch": float(at), "loss": at / 3, "n": at} for at in range(4)]
    write_csv(tmp_path / "whole.csv", rows)
    write_csv(tmp_path / "grown.csv", rows[:1])
    for more in (rows[1:3], rows[3:]):
        append_csv(tmp_path / "grown.csv", more)
    assert (tmp_path / "grown.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with pytest.raises(InputError, match=r"^cannot write .*: Is a directory"):
        append_csv(tmp_path, rows)


def test_a_digest_tells_parts_apart_by_their_lengths():
    assert digest(b"ab", b"c") != digest(b"a", b"bc") != digest(b"abc") != digest(b"abc", b"")
    assert digest(b"ab", b"c") == digest(b"ab", b"c")
    assert len(digest(os.urandom(9))) == 16


class TestCopies:
    def test_a_folder_goes_into_one_that_is_there(self, tmp_path):
        write_text(tmp_path / "from" / "a" / "b", "new")
        (tmp_path / "from" / "a" / "b").chmod(0o444)
        write_text(tmp_path / "to" / "c", "old")
        copy_content(tmp_path / "from", tmp_path / "to")
        assert contents(tmp_path / "to" / "a") == {"b": "new"}
        assert (tmp_path / "to" / "c").read_text() == "old"
        assert (tmp_path / "to" / "a" / "b").stat().st_mode & 0o200

    @pytest.mark.parametrize("inside", ["", "a"])
    def test_a_full_disk_names_what_cannot_be_written(self, tmp_path, inside):
        write_text(tmp_path / "from" / "a", "x" * 2000)
        source, target = tmp_path / "from" / inside, tmp_path / "to" / inside
        with disk_full_beyond(1000), pytest.raises(InputError) as refused:
            copy_content(source, target)
        assert str(refused.value).startswith(f"cannot write {target}: ")
        assert "File too large" in str(refused.value)

    def test_what_is_not_there_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"from does not exist: run `dvc repro`"):
            copy_content(tmp_path / "from", tmp_path / "to")
