import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cssegcore import checkpoint
from cssegcore.checkpoint import KEY, Model
from cssegcore.errors import InputError
from tests.tiny import CPU, MODEL, state

KNOWN = Model("step1", MODEL, [["background", "red"], ["grün"]], [[0, 2], [1]])


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    made = checkpoint.new_segmenter(MODEL, [2, 1])
    made(torch.randn(2, 3, 16, 16))  # moves the statistics of the norms
    return made


@pytest.fixture
def path(tmp_path, segmenter):
    checkpoint.save(tmp_path / "deep" / "model.safetensors", segmenter, KNOWN)
    return tmp_path / "deep" / "model.safetensors"


class TestRoundTrip:
    def test_weights_statistics_and_description_come_back(self, path, segmenter):
        loaded, known = checkpoint.load(path, CPU)
        assert known == KNOWN
        assert state(loaded) == state(segmenter)
        assert not loaded.training
        assert loaded.outputs == [2, 1]

    def test_the_same_weights_give_the_same_bytes(self, path, segmenter):
        again = path.with_name("again.safetensors")
        checkpoint.save(again, segmenter.to(memory_format=torch.channels_last), KNOWN)
        assert again.read_bytes() == path.read_bytes()

    def test_nothing_else_is_left_in_the_folder(self, path):
        assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]

    def test_other_programs_can_read_the_file(self, path):
        with safe_open(path, "np") as file:
            about = json.loads(file.metadata()[KEY])
            assert file.get_tensor("heads.1.weight").shape == (1, MODEL["depth"], 1, 1)
        assert about == dataclasses.asdict(KNOWN)


class TestRefusals:
    def refused(self, path):
        with pytest.raises(InputError) as error:
            checkpoint.load(path, CPU)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_no_file(self, tmp_path):
        assert "does not exist: run `dvc repro`" in self.refused(tmp_path / "gone.safetensors")

    @pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
    def test_half_a_file(self, path, share):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        assert "cannot be read" in self.refused(path)

    def test_what_stands_before_the_first_step(self, tmp_path):
        (tmp_path / "model").write_text("none\n")
        assert "cannot be read" in self.refused(tmp_path / "model")

    def test_a_folder(self, tmp_path):
        assert "cannot be read" in self.refused(tmp_path)

    def test_weights_of_somebody_else(self, tmp_path):
        save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
        assert "no model of cssegcore" in self.refused(tmp_path / "w.safetensors")

    def test_weights_that_are_not_those_described(self, path, segmenter):
        other = dataclasses.replace(KNOWN, classes=[["background"], ["grün"]])
        checkpoint.save(path, segmenter, other)
        assert "do not fit" in self.refused(path)

    @pytest.mark.parametrize("about", ["{", '{"step": "step1"}'])
    def test_a_damaged_description(self, tmp_path, about):
        save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", {KEY: about})
        self.refused(tmp_path / "w.safetensors")
