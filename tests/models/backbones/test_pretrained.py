"""First weights of a backbone: what a file may hold, digests, and downloads that fail."""

import collections
import hashlib
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.models import checkpoint
from cssegcore.models.backbones import backbone_kind
from tests.helpers.tiny_training import BACKBONE, CPU, LINEAR, MODEL, new_segmenter

RESNET = {"part": "resnet", "depth": 18, "weights": "none"}
TORCHVISION = "resnet18-f37072fd.pth"


def small(path, **changed):
    return backbone_kind(BACKBONE | {"weights": str(path)} | changed)


@pytest.fixture(scope="module")
def stored():
    torch.manual_seed(7)
    return backbone_kind(BACKBONE).build(8).state_dict()


def refusal(kind, use="check", stride=8):
    with pytest.raises(InputError) as refused:
        getattr(kind, use)(stride)
    message = str(refused.value)
    assert "\n" not in message
    return message


def same(kind, stored):
    found = kind.build(8).state_dict()
    return all(torch.equal(found[key], value) for key, value in stored.items())


class TestWhatAFileMayHold:
    def test_safetensors(self, stored, tmp_path):
        save_file(stored, tmp_path / "w.safetensors")
        assert same(small(tmp_path / "w.safetensors"), stored)

    def test_a_model_of_this_library(self, tmp_path):
        segmenter = new_segmenter([2])
        model = checkpoint.Model(
            "step0", MODEL, LINEAR, None, ClassTable.of([["background", "a"]], [[0, 1]])
        )
        checkpoint.save(tmp_path / "model.safetensors", segmenter, model, {})
        kind = small(tmp_path / "model.safetensors")
        assert same(kind, segmenter.extractor.backbone.state_dict())

    @pytest.mark.parametrize("key", ["state_dict", "model", "anything"])
    def test_wrapped_beside_other_things(self, stored, tmp_path, key):
        made = {"epoch": 3, key: stored, "optimizer": {"state": {}, "groups": [1]}}
        torch.save(made, tmp_path / "w.pth")
        assert same(small(tmp_path / "w.pth"), stored)

    def test_the_network_once_more_under_a_prefix(self, stored, tmp_path):
        other = {f"average.{key}": torch.zeros_like(value) for key, value in stored.items()}
        torch.save(stored | other, tmp_path / "w.pth")
        said = refusal(small(tmp_path / "w.pth"))
        assert "several times (under no prefix, average.): save the one that you mean" in said

    def test_counts_of_batches_may_be_missing(self, stored, tmp_path):
        kept = {k: v for k, v in stored.items() if not k.endswith("num_batches_tracked")}
        assert len(kept) < len(stored)
        torch.save(kept, tmp_path / "w.pth")
        small(tmp_path / "w.pth").check(8)
        assert same(small(tmp_path / "w.pth"), stored)

    def test_the_network_twice(self, stored, tmp_path):
        twice = {f"{name}.{key}": v for name in ("student", "teacher") for key, v in stored.items()}
        torch.save(twice, tmp_path / "w.pth")
        said = refusal(small(tmp_path / "w.pth"))
        assert "several times (under student., teacher.): save the one that you mean" in said

    def test_several_state_dicts(self, stored, tmp_path):
        torch.save({"model": stored, "model_ema": stored}, tmp_path / "w.pth")
        said = refusal(small(tmp_path / "w.pth"))
        assert "several state dicts (model, model_ema): save the one that you mean" in said

    @pytest.mark.parametrize("use", ["check", "build"])
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "a Git LFS pointer"),
            (b"hello, a text", "Reason: it holds no weights, is damaged, or holds more than"),
            (b"(a text", "Reason: it holds no weights, is damaged, or holds more than"),
            (b"U" + bytes([3, 0x84, 0x8D, 0x93]), "Reason: it holds no weights, is damaged, or"),
            (b"no weights at all", "damaged, or holds more than tensors, which could run programs"),
            (b"", "it holds no weights, is damaged, or holds more than tensors"),
            (b"PK\5\6" + bytes(18), "it holds no weights, is damaged, or holds more than tensors"),
            (collections.deque([1]), "it holds no weights, is damaged, or holds more than tensors"),
            ([1, 2], "it holds a list, no state dict"),
            ({"epoch": 3}, "it holds no state dict, but epoch"),
            ({}, "it holds no state dict, but nothing"),
        ],
    )
    def test_no_weights(self, tmp_path, content, reason, use):
        path = tmp_path / "w.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        said = refusal(small(path), use)
        assert said.startswith(f"`model.backbone.weights`: {path} cannot be used")
        assert reason in said

    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    def test_a_file_that_is_cut_off(self, stored, tmp_path, name):
        path = tmp_path / name
        if name.endswith("pth"):
            torch.save(stored, path)
        else:
            save_file(stored, path)
        path.write_bytes(path.read_bytes()[:-100])
        assert "cannot be used" in refusal(small(path), "build")

    def test_another_network_is_named_by_what_differs(self, stored, tmp_path):
        torch.save(backbone_kind(RESNET).build(32).state_dict(), tmp_path / "w.pth")
        said = refusal(small(tmp_path / "w.pth"))
        assert "are missing (stem.0.0.weight, stem.0.1.weight, stem.0.1.bias, …)" in said
        assert "do not belong to the network (conv1.weight, bn1.weight, " in said
        wide = backbone_kind(BACKBONE | {"weights": "none", "stem": [9, 8]}).build(8)
        torch.save(wide.state_dict(), tmp_path / "w.pth")
        said = refusal(small(tmp_path / "w.pth"))
        assert "6 have another shape (stem.0.0.weight is 9×3×3×3, not 8×3×3×3, " in said

    def test_a_deeper_network_of_the_same_family(self, tmp_path):
        from torchvision import models

        torch.save(models.resnet101(weights=None).state_dict(), tmp_path / "w.pth")
        kind = backbone_kind(RESNET | {"depth": 50, "weights": str(tmp_path / "w.pth")})
        said = refusal(kind, stride=16)
        assert "the weights of torchvision's resnet50: " in said
        assert "306 do not belong to the network (layer3.6.conv1.weight, " in said

    @pytest.mark.parametrize("part", [RESNET, BACKBONE])
    def test_a_file_that_is_not_there(self, part):
        with pytest.raises(
            InputError, match=r"`model\.backbone`: `weights` is 'gone\.pth', and th"
        ):
            backbone_kind(part | {"weights": "gone.pth"})

    def test_a_backbone_without_a_download(self):
        with pytest.raises(InputError, match=r"`weights` is imagenet, but the small .* no down"):
            backbone_kind({"part": "small", "weights": "imagenet"})

    def test_a_saved_model_needs_the_file_no_more(self, stored, tmp_path):
        start = tmp_path / "start.pth"
        torch.save(stored, start)
        backbone = BACKBONE | {"weights": str(start), "batchnorm_momentum": 0.01}
        recipe = MODEL | {"backbone": backbone}
        segmenter = new_segmenter([2], model=recipe).eval()
        classes = ClassTable.of([["background", "a"]], [[0, 1]])
        model = checkpoint.Model("step0", recipe, LINEAR, None, classes)
        checkpoint.save(tmp_path / "model.safetensors", segmenter, model, {})
        start.unlink()
        loaded = checkpoint.load_model(tmp_path / "model.safetensors", CPU)
        image = torch.randn(1, 3, 33, 33)
        assert torch.equal(loaded.segmenter(image).logits, segmenter(image).logits)
        assert loaded.segmenter.extractor.backbone.input_norms()[0].momentum == 0.01
        assert loaded.model == model


class TestDigests:
    def test_a_file_is_checked_before_training(self, stored, tmp_path):
        path = tmp_path / "w.pth"
        torch.save(stored, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for start in ("", digest[:8], digest):
            small(path, sha256=start).check(8)
        other = ("0" if digest[0] != "0" else "1") + digest[1:8]
        said = refusal(small(path, sha256=other))
        for part in (f"`model.backbone.sha256` is {other}", str(path), digest):
            assert part in said

    def test_a_pointer_is_told_before_its_digest(self, tmp_path):
        (tmp_path / "w.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1")
        said = refusal(small(tmp_path / "w.pth", sha256="0" * 8))
        assert said.endswith("which stands for the file: run `git lfs pull` where it is.")

    @pytest.mark.parametrize("wrong", ["abc", "0" * 65, "ABCDEF01", "sha256-12", "0676ba6g"])
    def test_what_is_no_digest(self, wrong):
        message = r"`model\.backbone`: `sha256` must be 8 to 64 hex.*" + wrong
        with pytest.raises(InputError, match=message):
            backbone_kind(RESNET | {"sha256": wrong})

    def test_a_digest_is_of_a_file(self):
        with pytest.raises(InputError, match=r"`sha256` is of a file, but `weights` is imagenet"):
            backbone_kind(RESNET | {"weights": "imagenet", "sha256": "0" * 8})


class TestDownloads:
    """torchvision's, without a network."""

    @pytest.mark.parametrize("use", ["check", "build"])
    @pytest.mark.parametrize(
        ("part", "file"), [("resnet", TORCHVISION), ("mobilenet_v2", "mobilenet_v2-b0353104.pth")]
    )
    def test_weights_that_cannot_be_had(self, tmp_path, monkeypatch, use, part, file):
        def offline(*_, **__):
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
        numbers = {"depth": 18} if part == "resnet" else {}
        said = refusal(backbone_kind({"part": part, "weights": "imagenet"} | numbers), use, 32)
        for words in ("`model.backbone.weights`", file, "no route", str(tmp_path)):
            assert words in said

    @pytest.mark.parametrize("use", ["check", "build"])
    def test_a_damaged_download_in_the_cache(self, tmp_path, monkeypatch, use):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / TORCHVISION).write_bytes(b"half a fi")
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        said = refusal(backbone_kind(RESNET | {"weights": "imagenet"}), use, 32)
        assert f"{TORCHVISION} is damaged: its SHA-256 is " in said
        assert "Delete it" in said

    def test_what_is_in_the_cache_is_read(self, tmp_path, monkeypatch):
        from torchvision import models

        torch.manual_seed(1)
        theirs = models.resnet18(weights=None).state_dict()
        (tmp_path / "checkpoints").mkdir()
        torch.save(theirs, tmp_path / "w")
        digest = hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest()
        named = f"resnet18-{digest[:8]}.pth"
        (tmp_path / "w").rename(tmp_path / "checkpoints" / named)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        published = models.get_model_weights("resnet18")["IMAGENET1K_V1"]
        shown = type("Shown", (), {"url": published.url.replace(TORCHVISION, named)})
        monkeypatch.setattr(models, "get_model_weights", lambda _: {"IMAGENET1K_V1": shown})
        kind = backbone_kind(RESNET | {"weights": "imagenet"})
        kind.check(32)
        found = kind.build(32).state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in found.items())
