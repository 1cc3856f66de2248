"""Networks of timm by name."""

import sys

import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import Normalization
from cssegcore.core.registry import build_part
from cssegcore.models._base import Architecture
from cssegcore.models.backbones import backbone_kind
from tests.helpers import cat_photographs as cats
from tests.helpers import shared_data as shared

pytestmark = pytest.mark.slow

LITE = "tf_efficientnet_lite0"
FILE = "weights/efficientnet-lite0-57934424.pth"
SCALED = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
"""As the file's network was trained."""


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("timm")


def kind(name=LITE, **changed):
    return backbone_kind({"part": "timm", "name": name, "weights": "none"} | changed)


def refusal(kind, stride=16):
    with pytest.raises(InputError) as refused:
        kind.check(stride)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", [LITE, "resnet18", "convnext_atto"])
def test_features_are_timm_s(name, tmp_path):
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    reading = kind(name, weights=str(tmp_path / "w.pth"))
    reading.check(32)
    backbone = reading.build(32).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        got = backbone(images)
        every = theirs.forward_intermediates(images, intermediates_only=True)
    expected = [f for f in every if f.shape[-1] <= 96 // 4]
    assert [f.shape for f in got] == [f.shape for f in expected]
    for mine, whole in zip(got, expected, strict=True):
        assert torch.allclose(mine, whole, rtol=1e-4, atol=1e-5)


def test_normalisations_are_apart_from_their_activations():
    norms = [m for m in kind().outline(16).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 1 + 2 + 15 * 3
    assert {type(norm) for norm in norms} == {nn.BatchNorm2d}
    assert {norm.eps for norm in norms} == {1e-3}


def test_images_are_normalised_as_timm_says():
    assert kind().outline(32).normalization == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    usual = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert kind("resnet18").outline(32).normalization == usual


def test_cats_are_cats():
    import timm

    path = shared.data(FILE)
    reading = kind(weights=str(path), normalization=SCALED, sha256="57934424")
    reading.check(32)
    backbone = reading.build(32).eval()
    stored = torch.load(path, weights_only=True)
    whole = timm.create_model(LITE).eval()
    head = {"_conv_head": whole.conv_head, "_bn1": whole.bn2, "_fc": whole.classifier}
    for name, module in head.items():
        keys = [key for key in stored if key.startswith(f"{name}.")]
        module.load_state_dict({key.removeprefix(f"{name}."): stored[key] for key in keys})
    with torch.no_grad():
        last = backbone(cats.normalised(cats.photographs(), backbone.normalization))[-1]
        seen = whole.forward_head(whole.bn2(whole.conv_head(last))).argmax(1)
    assert sum(label in cats.CATS for label in seen.tolist()) >= 0.7 * cats.COUNT


def test_a_file_of_efficientnet_pytorch_under_a_prefix(tmp_path):
    path = shared.data(FILE)
    stored = torch.load(path, weights_only=True)
    torch.save({"model": {f"module.{k}": v for k, v in stored.items()}}, tmp_path / "w.pth")
    plain, wrapped = (
        kind(weights=str(p)).build(16).state_dict() for p in (path, tmp_path / "w.pth")
    )
    assert all(torch.equal(value, wrapped[key]) for key, value in plain.items())
    said = refusal(kind("tf_efficientnet_lite1", weights=str(path)))
    assert "are missing (blocks." in said


def test_it_is_deeplab_s_backbone_with_pretrained_weights():
    backbone = {"part": "timm", "name": LITE, "weights": str(shared.data(FILE))}
    recipe = {"part": "deeplabv3", "backbone": backbone, "depth": 16}
    network = build_part("cssegcore.models.architectures", Architecture, recipe, "model")
    network.check()
    extractor = network.extractor()
    features = extractor(torch.randn(2, 3, 64, 64))
    assert features.decoder_out.shape == (2, 16, 4, 4)
    assert [64 // tap.shape[-1] for tap in features.stages] == [4, 8, 16, 16]
    features.decoder_out.square().mean().backward()
    assert all(p.grad is not None for p in extractor.backbone.parameters())


@pytest.mark.parametrize("use", ["check", "build"])
def test_timm_is_not_there(monkeypatch, use):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm is not installed: `pip install timm`, which is"):
        getattr(kind(), use)(16)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "tf_eficientnet_lite0",
            "timm has no network 'tf_eficientnet_lite0'. Did you mean `tf_e",
        ),
        ("densenet121", "timm's densenet121 cannot end at stride 16, which the decoder needs"),
        ("vit_tiny_patch16_224", "cannot be a backbone: it reads images of one size only"),
        ("xception65", "cannot be a backbone: a copy of it would not hand out its features"),
    ],
)
def test_networks_that_do_not_fit(name, reason):
    assert reason in refusal(kind(name))


def test_a_download_that_fails(monkeypatch):
    import timm

    create = timm.create_model

    def offline(name, pretrained=False, **numbers):
        if pretrained:
            raise FileNotFoundError("cannot find it on the Hub.\nPlease check your connection")
        return create(name, **numbers)

    monkeypatch.setattr(timm, "create_model", offline)
    said = refusal(kind(weights="imagenet"))
    assert "timm cannot fetch what it has for tf_efficientnet_lite0 (cannot find it on the" in said


def test_what_timm_offers_is_read(monkeypatch):
    import timm

    create = timm.create_model
    torch.manual_seed(5)
    theirs = create("resnet18")

    def offering(name, pretrained=False, **numbers):
        return theirs if pretrained else create(name, **numbers)

    monkeypatch.setattr(timm, "create_model", offering)
    backbone = kind("resnet18", weights="imagenet").build(32)
    assert torch.equal(backbone.input_norms()[0].weight, theirs.bn1.weight)
    last = backbone.state_dict()["network.layer4.1.conv2.weight"]
    assert torch.equal(last, theirs.layer4[1].conv2.weight)
