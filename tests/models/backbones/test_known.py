"""Known files on images of another normalisation are refused."""

import hashlib

import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET, Normalization
from cssegcore.models.backbones import _known, backbone_kind
from tests.helpers import shared_data as shared
from tests.helpers.tiny_training import BACKBONE

SCALED = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MOBILENET, LITE = _known.KNOWN


@pytest.mark.parametrize("start", [MOBILENET, LITE])
def test_a_known_file_needs_its_normalisation(start):
    digest = start + "0" * 48
    _known.check_normalization(digest, "w.pth", _known.KNOWN[start])
    _known.check_normalization(digest, "w.pth", SCALED)  # what timm says for Lite0 is close enough
    with pytest.raises(InputError, match="were trained on images of mean") as refused:
        _known.check_normalization(digest, "w.pth", IMAGENET)
    assert "\n" not in str(refused.value)


def test_files_that_nobody_knows_pass():
    _known.check_normalization("0" * 64, "w.pth", IMAGENET)


def test_null_is_the_default_which_may_be_wrong(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save(backbone_kind(BACKBONE | {"weights": "none"}).build(8).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(_known, "KNOWN", {digest[:16]: SCALED})
    with pytest.raises(InputError) as refused:
        backbone_kind(BACKBONE | {"weights": str(path)}).check(8)
    assert str(refused.value).endswith(
        "set `model.backbone.normalization` to {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}."
    )
    own = {"mean": [0.5] * 3, "std": [0.5] * 3}
    backbone_kind(BACKBONE | {"weights": str(path), "normalization": own}).check(8)


def test_the_shared_file_is_known():
    path = shared.data("weights/mobilenet_v2_imagenet_dequantised.pth")
    with pytest.raises(InputError, match=r"`model\.backbone\.normalization`: the weights "):
        backbone_kind({"part": "mobilenet_v2", "weights": str(path)}).check(16)
