import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.models import checkpoint
from cssegcore.models.checkpoint import KEY, Model
from tests.helpers.tiny_training import CPU, LINEAR, MODEL, new_segmenter, state

CLASSES = ClassTable.of([["background", "red"], ["grün"]], [[0, 2], [1]])
KNOWN = Model("step1", MODEL, LINEAR, None, CLASSES)
SHARED = torch.arange(6.0).reshape(2, 3)
STATISTICS = {
    "fisher": {"extractor.norm.weight": SHARED, "lowered/extractor.norm.weight": SHARED.t()},
    "walk": {"extractor.norm.weight": SHARED},
    "prototypes": {"counts": torch.tensor([3, 2**40]), "means|odd": torch.zeros(2, 0)},
}


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    made = new_segmenter([2, 1])
    made(torch.randn(2, 3, 16, 16))  # moves the statistics of the norms
    return made


@pytest.fixture
def path(tmp_path, segmenter):
    checkpoint.save(tmp_path / "deep" / "model.safetensors", segmenter, KNOWN, {})
    return tmp_path / "deep" / "model.safetensors"


class TestRoundTrip:
    def test_weights_statistics_and_description_come_back(self, path, segmenter):
        loaded = checkpoint.load_model(path, CPU)
        assert loaded.model == KNOWN
        assert state(loaded.segmenter) == state(segmenter)
        assert not loaded.segmenter.training
        assert loaded.segmenter.outputs == 3
        assert loaded.statistics == {}

    def test_what_was_gathered_comes_back(self, path, segmenter):
        checkpoint.save(path, segmenter, KNOWN, STATISTICS)
        loaded = checkpoint.load_model(path, CPU)
        assert state(loaded.segmenter) == state(segmenter)
        assert {k: set(v) for k, v in loaded.statistics.items()} == {
            k: set(v) for k, v in STATISTICS.items()
        }
        for name, gathered in STATISTICS.items():
            for key, value in gathered.items():
                found = loaded.statistics[name][key]
                assert found.dtype == value.dtype
                assert torch.equal(found, value)

    def test_what_was_gathered_gives_the_same_bytes_in_any_order(self, path, segmenter):
        checkpoint.save(path, segmenter, KNOWN, STATISTICS)
        before = path.read_bytes()
        turned = {k: dict(reversed(v.items())) for k, v in reversed(STATISTICS.items())}
        checkpoint.save(path, segmenter, KNOWN, turned)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("unknown", ["softmax", "sigmoid"])
    def test_the_unknown_class_and_other_heads_come_back(self, tmp_path, unknown):
        known = dataclasses.replace(KNOWN, unknown=unknown, head={"part": "conv"})
        made = known.segmenter()
        checkpoint.save(tmp_path / "m.safetensors", made, known, {})
        loaded = checkpoint.load_model(tmp_path / "m.safetensors", CPU)
        assert loaded.model == known
        assert state(loaded.segmenter) == state(made)
        assert loaded.segmenter.unknown == unknown
        assert (loaded.segmenter.outputs, loaded.segmenter.classes) == (4, 3)

    def test_the_same_weights_give_the_same_bytes(self, path, segmenter):
        again = path.with_name("again.safetensors")
        checkpoint.save(again, segmenter.to(memory_format=torch.channels_last), KNOWN, {})
        assert again.read_bytes() == path.read_bytes()

    def test_nothing_else_is_left_in_the_folder(self, path):
        assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]

    def test_other_programs_can_read_the_file(self, path):
        with safe_open(path, "np") as file:
            about = json.loads(file.metadata()[KEY])
            assert file.get_tensor("heads.1.classifier.weight").shape == (1, MODEL["depth"], 1, 1)
        assert len(about.pop("digest")) == 64
        assert about == {
            "step": "step1",
            "network": MODEL,
            "head": LINEAR,
            "unknown": None,
            "background": "argmax",
            "classes": [["background", "red"], ["grün"]],
            "raw": [[0, 2], [1]],
        }


class TestRefusals:
    def refused(self, path):
        with pytest.raises(InputError) as error:
            checkpoint.load_model(path, CPU)
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
        assert "is a folder: name the file" in self.refused(tmp_path)

    def test_weights_of_somebody_else(self, tmp_path):
        save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
        assert "no model of cssegcore" in self.refused(tmp_path / "w.safetensors")

    def test_weights_that_are_not_those_described(self, path, segmenter):
        other = dataclasses.replace(
            KNOWN, classes=ClassTable.of([["background"], ["grün"]], [[0], [1]])
        )
        checkpoint.save(path, segmenter, other, {})
        assert "do not fit" in self.refused(path)

    @pytest.mark.parametrize("changed", [{"unknown": "sigmoid"}, {"head": {"part": "conv"}}])
    def test_heads_that_are_not_those_described(self, path, segmenter, changed):
        checkpoint.save(path, segmenter, dataclasses.replace(KNOWN, **changed), {})
        assert "do not fit" in self.refused(path)

    @pytest.mark.parametrize("about", ["{", '{"step": "step1"}'])
    def test_a_damaged_description(self, tmp_path, about):
        save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", {KEY: about})
        self.refused(tmp_path / "w.safetensors")
