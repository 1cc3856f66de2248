"""The positions of timm's ViT; all else is checked with every backbone."""

import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.models.backbones import backbone_kind

TINY = {"part": "vit", "patch": 8, "width": 8, "depth": 1, "heads": 2, "image": 32}


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("timm")


def kind(**changed):
    return backbone_kind(TINY | changed)


def test_a_file_of_another_size_has_its_positions_resampled(tmp_path):
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    other = kind(image=24).build(8)
    stored = {key.removeprefix("network."): value for key, value in other.state_dict().items()}
    stored |= {"head.weight": torch.zeros(5, 8), "head.bias": torch.zeros(5)}
    torch.save(stored, tmp_path / "w.pth")
    reading = kind(weights=str(tmp_path / "w.pth"))
    reading.check(8)
    found = reading.build(8).state_dict()
    expected = resample_abs_pos_embed(stored["pos_embed"], [4, 4], num_prefix_tokens=1)
    assert found["network.pos_embed"].shape == (1, 17, 8)
    assert torch.equal(found["network.pos_embed"], expected)
    assert torch.equal(found["network.pos_embed"][:, 0], stored["pos_embed"][:, 0])
    kept = [key for key in stored if not key.startswith(("head.", "pos_embed"))]
    assert all(torch.equal(found[f"network.{key}"], stored[key]) for key in kept)


def test_positions_that_are_no_square_are_another_network_s(tmp_path):
    stored = {k.removeprefix("network."): v for k, v in kind().build(8).state_dict().items()}
    stored["pos_embed"] = torch.zeros(1, 16, 8)
    torch.save(stored, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"have another shape \(pos_embed is 1×16×8, not 1×17×8"):
        kind(weights=str(tmp_path / "w.pth")).check(8)


def test_images_are_normalised_as_mbs_does():
    assert kind().outline(8).normalization == IMAGENET


def test_features_are_the_patches_in_their_places():
    torch.manual_seed(0)
    backbone = kind().build(8).eval()
    photographs = torch.zeros(1, 3, 32, 32)
    photographs[..., 8:16, 24:32] = 1  # the second row's last patch
    with torch.no_grad():
        (features,) = backbone(photographs)
        tokens = backbone.network.forward_features(photographs)
    assert features.shape == (1, 8, 4, 4)
    assert torch.equal(features[0, :, 1, 3], tokens[0, 1 + 7])


def test_without_timm_the_way_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm.layers", None)
    with pytest.raises(InputError, match=r"`model\.backbone\.part` is vit, .* `pip install timm`"):
        kind().outline(8)


def test_convolutions_before_the_patches():
    torch.manual_seed(0)
    backbone = kind(stem=(4, 4, 4, 6)).build(8)
    layers = backbone.network.patch_embed.proj
    assert [c.stride for c in layers if isinstance(c, torch.nn.Conv2d)] == [
        *[(2, 2)] * 3,
        *[(1, 1)] * 2,
    ]
    assert backbone.input_norms() == [layers[1]]
    photographs = torch.rand(2, 3, 32, 40)
    (features,) = backbone(photographs)
    assert features.shape == (2, 8, 4, 5)
    assert backbone(photographs[..., :30, :33])[0].shape == (2, 8, 4, 5)  # whole patches
    seen = torch.rand(1, 3, 64, 64, requires_grad=True)
    layers.eval()(seen)[0, :, 4, 4].sum().backward()
    rows = seen.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[0] < 32
    assert rows[-1] >= 40


@pytest.mark.parametrize(
    ("patch", "stem"), [(6, (4, 4, 4)), (8, (4, 4)), (8, (4, 0, 4))], ids=["power", "few", "none"]
)
def test_convolutions_that_do_not_make_patches_are_refused(patch, stem):
    with pytest.raises((ValueError, InputError), match="stem"):
        kind(patch=patch, image=24, stem=stem)


def test_a_file_without_convolutions_is_another_network_s(tmp_path):
    stored = {k.removeprefix("network."): v for k, v in kind().build(8).state_dict().items()}
    torch.save(stored, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"patch_embed\.proj"):
        kind(weights=str(tmp_path / "w.pth"), stem=(4, 4, 4)).check(8)
