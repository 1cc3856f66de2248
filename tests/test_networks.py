import urllib.error

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore import checkpoint
from cssegcore.errors import InputError
from cssegcore.networks import Architecture, Segmenter, Trunk
from cssegcore.parts import make_part
from tests.tiny import MODEL

RESNET = {"part": "deeplabv3", "backbone": "resnet50", "weights": "none"}


def architecture(**recipe):
    return make_part("cssegcore.networks", Architecture, recipe, "model")


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


class Photograph(Trunk):
    """Hands the photograph on, at a fourth of its size."""

    channels = 3

    def forward(self, images):
        return F.avg_pool2d(images, 4)


class TestSegmenter:
    def test_logits_are_those_of_the_heads_in_order_upsampled(self):
        segmenter = Segmenter(Photograph(), [3, 1, 2])
        photographs = images(2, 8, 12)
        features = F.avg_pool2d(photographs, 4)
        heads = [
            torch.einsum("oc,bchw->bohw", head.weight[:, :, 0, 0], features)
            + head.bias[:, None, None]
            for head in segmenter.classifiers
        ]
        expected = F.interpolate(torch.cat(heads, 1), (8, 12), mode="bilinear", align_corners=False)
        assert torch.allclose(segmenter(photographs), expected, atol=1e-6)
        assert segmenter.outputs == [3, 1, 2]

    def test_a_grown_head_comes_last_and_leaves_the_others_alone(self):
        segmenter = Segmenter(Photograph(), [3])
        photographs = images(1, 8, 8)
        before = segmenter(photographs)
        for more in (1, 4):
            segmenter.grow(more)
        after = segmenter(photographs)
        assert segmenter.outputs == [3, 1, 4]
        assert torch.allclose(after[:, :3], before, atol=1e-6)
        assert after.shape == (1, 8, 8, 8)

    def test_a_grown_head_is_trained_too(self):
        segmenter = Segmenter(Photograph(), [3])
        segmenter.grow(2)
        grown = {id(p) for p in segmenter.classifiers[-1].parameters()}
        assert grown <= {id(p) for p in segmenter.parameters() if p.requires_grad}

    def test_logits_keep_their_digits_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            assert Segmenter(Photograph(), [3])(images(1, 8, 8)).dtype == torch.float32


class TestSmall:
    @pytest.mark.parametrize(("h", "w"), [(16, 16), (17, 23), (33, 40)])
    def test_any_size_gives_logits_of_that_size(self, h, w):
        segmenter = checkpoint.new_segmenter(MODEL, [3, 2]).eval()
        assert segmenter(images(1, h, w)).shape == (1, 5, h, w)

    def test_output_stride_and_depth(self):
        trunk = architecture(**MODEL).trunk()
        assert trunk.channels == MODEL["depth"]
        assert trunk(images(2, 64, 48)).shape == (2, MODEL["depth"], 8, 6)

    def reach(self, trunk, size, at):
        """Tells which pixels the features at a place depend on."""
        photographs = images(1, size, size).requires_grad_()
        (grad,) = torch.autograd.grad(trunk(photographs)[0, :, at, at].sum(), photographs)
        return (grad != 0).any(1)[0]

    def trunk(self, **changed):
        torch.manual_seed(0)
        return architecture(part="small", **changed).trunk().eval()

    def test_context_reaches_every_pixel_once_it_is_learned(self):
        trunk = self.trunk()
        assert not self.reach(trunk, 128, 0)[-1, -1]
        nn.init.ones_(trunk.context.weight)
        assert self.reach(trunk, 128, 0)[-1, -1]

    def test_dilation_widens_the_view(self):
        narrow, wide = (self.reach(self.trunk(dilation=n), 192, 12).sum() for n in (1, 3))
        assert wide > narrow

    @pytest.mark.parametrize("wrong", [{"depth": 0}, {"widths": [4, 0, 4]}, {"dilation": 0}])
    def test_refusals(self, wrong):
        with pytest.raises(InputError, match=r"`model`: .* must be >= 1"):
            architecture(**MODEL | wrong)


@pytest.fixture(scope="module")
def state_dict_file(tmp_path_factory):
    """A state dict as torchvision publishes them, and torchvision's import paid for once."""
    from torchvision import models

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(models.resnet50(weights=None).state_dict(), path)
    return path


@pytest.mark.usefixtures("state_dict_file")
class TestDeepLab:
    @pytest.mark.parametrize(("stride", "side"), [(16, 5), (8, 9)])
    def test_feature_stride_and_one_iteration_of_training(self, stride, side):
        torch.manual_seed(0)
        recipe = RESNET | {"output_stride": stride, "depth": 32}
        segmenter = checkpoint.new_segmenter(recipe, [4, 1])
        photographs = images(2, 65, 65)
        shapes = []
        hook = segmenter.trunk.register_forward_hook(lambda *args: shapes.append(args[2].shape))
        logits = segmenter(photographs)
        hook.remove()
        assert shapes == [(2, 32, side, side)]
        assert logits.shape == (2, 5, 65, 65)

        labels = torch.full((2, 65, 65), 4)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())
        torch.optim.SGD(segmenter.parameters(), lr=0.01).step()
        assert F.cross_entropy(segmenter(photographs), labels) < loss

    def test_one_image_a_batch_is_tested_but_not_trained(self):
        segmenter = Segmenter(architecture(**RESNET).trunk(), [2])
        assert segmenter.eval()(images(1, 65, 65)).shape == (1, 2, 65, 65)
        with pytest.raises(InputError, match=r"`optimizer\.batch_size` to 2 or more"):
            segmenter.train()(images(1, 65, 65))

    def test_strides_become_dilations_from_the_end(self):
        def layout(stride):
            trunk = architecture(**RESNET, output_stride=stride).trunk()
            convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
            return [m.dilation[0] for m in convolutions if m.kernel_size == (3, 3)]

        blocks = [1] * (3 + 4)  # 3, 4, 6 and 3 blocks of a ResNet-50
        assert layout(16) == [*blocks, *[1] * 6, 1, 2, 2, 6, 12, 18]
        assert layout(8) == [*blocks, 1, *[2] * 5, 2, 4, 4, 12, 24, 32]

    def test_weights_from_a_file(self, state_dict_file):
        trunk = architecture(**RESNET | {"weights": str(state_dict_file)}).trunk()
        stored = torch.load(state_dict_file, weights_only=True)
        assert torch.equal(trunk.backbone[0].weight, stored["conv1.weight"])
        last = trunk.backbone[-1][-1].conv3.weight
        assert torch.equal(last, stored["layer4.2.conv3.weight"])

    @pytest.mark.parametrize("use", ["check", "trunk"])
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (lambda full: {"conv1.weight": full["conv1.weight"]}, "Missing key"),
            (lambda full: full | {"conv1.weight": torch.zeros(1)}, "size mismatch"),
            (lambda full: [1, 2], "dict-like"),
            (lambda full: b"no weights at all", "cannot be used"),
        ],
    )
    def test_weights_that_do_not_fit(self, state_dict_file, tmp_path, content, reason, use):
        path, made = tmp_path / "w.pth", content(torch.load(state_dict_file, weights_only=True))
        path.write_bytes(made) if isinstance(made, bytes) else torch.save(made, path)
        network = architecture(**RESNET | {"weights": str(path)})
        with pytest.raises(InputError, match=rf"`model.weights`: .*w\.pth.*{reason}") as refused:
            getattr(network, use)()
        assert "\n" not in str(refused.value)

    def test_a_file_that_is_not_there(self):
        with pytest.raises(InputError, match=r"`model`: `weights` is 'gone\.pth'"):
            architecture(**RESNET | {"weights": "gone.pth"})

    @pytest.mark.parametrize("use", ["check", "trunk"])
    def test_imagenet_weights_that_cannot_be_had(self, tmp_path, monkeypatch, use):
        def offline(*_, **__):
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
        network = architecture(**RESNET | {"weights": "imagenet"})
        with pytest.raises(InputError) as refused:
            getattr(network, use)()
        message = str(refused.value)
        for part in ("`model.weights`", "resnet50-0676ba61.pth", "no route", str(tmp_path)):
            assert part in message
        assert "\n" not in message

    def test_a_damaged_download_in_the_cache(self, tmp_path, monkeypatch):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "resnet50-0676ba61.pth").write_bytes(b"half a fi")
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        with pytest.raises(InputError, match=r"resnet50-0676ba61\.pth cannot be used") as refused:
            architecture(**RESNET | {"weights": "imagenet"}).check()
        assert "\n" not in str(refused.value)

    def test_a_saved_model_needs_its_starting_weights_no_more(self, state_dict_file, tmp_path):
        start = tmp_path / "start.pth"
        start.write_bytes(state_dict_file.read_bytes())
        recipe = RESNET | {"weights": str(start), "depth": 8}
        segmenter = checkpoint.new_segmenter(recipe, [2]).eval()
        model = checkpoint.Model("step0", recipe, [["background", "a"]], [[0, 1]])
        checkpoint.save(tmp_path / "model.safetensors", segmenter, model)
        start.unlink()
        loaded, known = checkpoint.load(tmp_path / "model.safetensors", torch.device("cpu"))
        assert torch.equal(loaded(images(1, 33, 33)), segmenter(images(1, 33, 33)))
        assert known == model

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"output_stride": 4}, "`model.output_stride` must be one of 16, 8"),
            ({"backbone": "resnet18"}, "`model.backbone` must be one of resnet50, resnet101"),
            ({"depth": 0}, "`model`: `depth` must be >= 1, got 0"),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=message):
            architecture(**RESNET | wrong)
