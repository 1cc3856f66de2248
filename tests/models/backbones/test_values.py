"""Values of first weights: what would load without a word and compute nothing is refused."""

import pytest
import torch
from safetensors.torch import save_file

from cssegcore.models.backbones import backbone_kind
from tests.models.backbones.test_pretrained import RESNET, refusal, same, small, stored

__all__ = ["stored"]
KEY = "stem.0.0.weight"


@pytest.mark.parametrize("use", ["check", "build"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_value_that_is_no_number(stored, tmp_path, use, name, number):
    weights = stored[KEY].clone()
    weights[0, 0, 0, 0] = number
    (torch.save if name == "w.pth" else save_file)(stored | {KEY: weights}, tmp_path / name)
    said = refusal(small(tmp_path / name), use)
    assert said.startswith(f"`model.backbone.weights`: {tmp_path / name} cannot be used")
    assert f"tensor {KEY} has 1 of {weights.numel()} values that are NaN" in said


@pytest.mark.parametrize("use", ["check", "build"])
def test_whole_numbers(stored, tmp_path, use):
    torch.save({k: v.int() for k, v in stored.items()}, tmp_path / "w.pth")
    said = refusal(small(tmp_path / "w.pth"), use)
    assert f"its tensor {KEY} is of type torch.int32, and weights are of floating" in said


def test_what_float32_cannot_hold(stored, tmp_path):
    huge = torch.full_like(stored[KEY], 1e300, dtype=torch.float64)
    torch.save(stored | {KEY: huge}, tmp_path / "w.pth")
    assert "NaN or infinite" in refusal(small(tmp_path / "w.pth"))


def test_half_precision_is_fine(stored, tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in stored.items()}
    torch.save(half, tmp_path / "w.pth")
    small(tmp_path / "w.pth").check(8)
    assert same(small(tmp_path / "w.pth"), {k: v.to(stored[k].dtype) for k, v in half.items()})


def test_a_classifier_that_is_left_out_is_not_looked_at(tmp_path):
    weights = backbone_kind(RESNET).build(32).state_dict()
    torch.save(weights | {"fc.bias": torch.tensor([float("nan")])}, tmp_path / "w.pth")
    backbone_kind(RESNET | {"weights": str(tmp_path / "w.pth")}).check(32)
