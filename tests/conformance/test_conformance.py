import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conformance import __main__ as command
from tests.conformance.checks import CHECKS
from tests.conformance.vectors import compare, relative
from tests.helpers.shared_data import VECTORS, conformance


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_the_library_gives_the_published_numbers(name):
    found = CHECKS[name](conformance(name))
    assert found.cases >= 1
    assert found.error < 1e-5


def test_every_file_has_a_check():
    files = {path.stem for folder in VECTORS for path in folder.glob("*.npz")}
    assert files <= CHECKS.keys()


WANT = {"x": np.array([1.0, -2.0, np.nan, np.inf], np.float32)}


class TestCompare:
    @pytest.mark.parametrize(
        ("have", "message"),
        [
            ([1.0001, -2.0, np.nan, np.inf], "case 1, x: off by"),
            ([1.0, -2.0, np.nan, -np.inf], "inf or NaN"),
            ([1.0, -2.0, 0.0, np.inf], "not finite at other places"),
            ([1.0, -2.0], "shape"),
        ],
    )
    def test_what_is_wrong_is_said(self, have, message):
        with pytest.raises(AssertionError, match=message):
            compare({"x": have}, WANT, "case 1")

    def test_tolerances(self):
        assert compare({"x": [1.00003, -2.0, np.nan, np.inf]}, WANT, "") < 2e-5
        with pytest.raises(AssertionError, match="relative"):
            compare({"x": [1 + 2e-9, -2.0, np.nan, np.inf]}, WANT, "", relative)
        with pytest.raises(AssertionError, match="limit 0"):
            compare({"n": 10_000_001}, {"n": np.array(10_000_000)}, "")

    def test_a_forgotten_array_is_said(self):
        with pytest.raises(AssertionError, match=r"x.*not compared"):
            compare({}, WANT, "")


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        good = {"policy": "poly", "base_lrs": [0.5], "epochs": 1, "iters_per_epoch": 2}
        arrays = {f"case0_in_{key}": value for key, value in good.items()}
        rates = [[0.5], [0.5 * 0.5**0.9], [0.0]]
        np.savez(tmp_path / "lr_schedules.npz", n_cases=1, case0_exp_lr=rates, **arrays)
        return tmp_path

    def run(self, *folders):
        app = command.typer.Typer()
        app.command()(command.main)
        return CliRunner().invoke(app, [*map(str, folders)])

    def test_all_good(self, folder):
        result = self.run(folder)
        assert result.exit_code == 0
        assert "lr_schedules             1 cases, largest error" in result.output
        assert result.output.splitlines()[-1] == "1 passed, 0 failed"

    def test_a_file_without_a_check_and_one_that_breaks_its_check_fail(self, folder):
        np.savez(folder / "unheard_of.npz", n_cases=0)
        np.savez(folder / "metrics.npz", n_cases=1)
        result = self.run(folder)
        assert result.exit_code == 1
        assert "unheard_of               no check yet" in result.output
        assert "metrics                  FAILED: KeyError" in result.output
        assert result.output.splitlines()[-1] == "1 passed, 2 failed"

    def test_several_folders_are_checked_in_turn(self, folder):
        assert self.run(folder, folder).output.splitlines()[-1] == "2 passed, 0 failed"

    def test_an_empty_folder_is_no_success(self, tmp_path):
        assert self.run(tmp_path).exit_code == 2
