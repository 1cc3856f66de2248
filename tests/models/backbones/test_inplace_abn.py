"""In-place ABN ResNets: held against the published network, and how their checkpoints are read."""

import hashlib
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.models import checkpoint
from cssegcore.models._base import Architecture
from cssegcore.models.backbones import backbone_kind
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU, LINEAR, new_segmenter

pytestmark = pytest.mark.slow

RESNET = {"part": "resnet", "depth": 50, "weights": "none"}
MAPILLARY = RESNET | {"style": "mapillary"}
EPS = 1e-5


def kind(**changed):
    return backbone_kind(MAPILLARY | changed)


def architecture(output_stride=16, **changed):
    recipe = {"part": "deeplabv3", "output_stride": output_stride, "depth": 8}
    network = recipe | {"backbone": MAPILLARY | changed}
    return build_part("cssegcore.models.architectures", Architecture, network, "model")


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


class Abn(nn.Module):
    """Activated normalisation as in-place ABN computes it in evaluation."""

    def __init__(self, channels, slope=0.01):
        super().__init__()
        self.slope = slope
        self.weight, self.bias = (nn.Parameter(torch.empty(channels)) for _ in range(2))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x):
        mean, var, scale, shift = (
            value[None, :, None, None]
            for value in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        y = (x - mean) / torch.sqrt(var + EPS) * (torch.abs(scale) + EPS) + shift
        return torch.where(y > 0, y, self.slope * y)


class Block(nn.Module):
    """A bottleneck; gives the sum before its activation."""

    def __init__(self, inputs, width, stride, dilation):
        super().__init__()
        self.convs = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(inputs, width, 1, bias=False),
                bn1=Abn(width),
                conv2=nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False),
                bn2=Abn(width),
                conv3=nn.Conv2d(width, 4 * width, 1, bias=False),
                bn3=Abn(4 * width, slope=1),
            )
        )
        if stride != 1 or inputs != 4 * width:
            self.proj_conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.proj_bn = Abn(4 * width, slope=1)

    def forward(self, x):
        shortcut = self.proj_bn(self.proj_conv(x)) if hasattr(self, "proj_conv") else x
        return self.convs(x) + shortcut


class Mapillary(nn.Module):
    """The ResNet-50 of MiB's models/resnet.py, under the names of its checkpoints."""

    def __init__(self, stride):
        super().__init__()
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.mod1 = nn.Sequential(OrderedDict(conv1=stem, bn1=Abn(64)))
        dilations, inputs = {16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}[stride], 64
        for i, (count, dilation) in enumerate(zip((3, 4, 6, 3), dilations, strict=True)):
            stage = nn.Sequential()
            for j in range(count):
                strided = 2 if i > 0 and j == 0 and dilation == 1 else 1
                stage.add_module(f"block{j + 1}", Block(inputs, 64 * 2**i, strided, dilation))
                inputs = 256 * 2**i
            self.add_module(f"mod{i + 2}", stage)
        self.classifier = nn.Sequential(OrderedDict(fc=nn.Linear(2048, 10)))

    def forward(self, x):
        x, sums = F.max_pool2d(self.mod1(x), 3, 2, 1), []
        for stage in (self.mod2, self.mod3, self.mod4, self.mod5):
            for block in stage:
                last = block(x)
                x = torch.where(last > 0, last, 0.01 * last)
            sums.append(last)
        return sums, x


def published(stride):
    """Returns the published network with weights of either sign."""
    torch.manual_seed(0)
    network = Mapillary(stride)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.mul_(6**0.5)  # keeps features as large as they are
        if isinstance(module, Abn):
            module.weight.data.uniform_(0.2, 0.8).mul_(torch.randn_like(module.weight).sign())
            module.bias.data.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def stored():
    """The state dict of a published checkpoint, in which every key begins with `module.`."""
    return {f"module.{key}": value for key, value in published(16).state_dict().items()}


@pytest.fixture(scope="module")
def file(stored, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50_iabn_sync.pth.tar"
    torch.save({"epoch": 90, "arch": "resnet50", "state_dict": stored, "best_prec1": 75.5}, path)
    return path


class TestInPlaceAbn:
    @pytest.mark.parametrize("stride", [16, 8])
    def test_the_backbone_computes_what_the_published_one_does(self, stored, file, stride):
        with torch.device("meta"):
            theirs = Mapillary(stride)
        theirs.load_state_dict({k[len("module.") :]: v for k, v in stored.items()}, assign=True)
        theirs.eval().double()
        ours = architecture(stride, weights=str(file)).extractor().eval().double()
        photographs = images(1, 64, 48).double()
        with torch.no_grad():
            sums, last = theirs(photographs)
            features = ours(photographs)
        pairs = zip((*features.stages, features.last_stage), (*sums, last), strict=True)
        for got, expected in pairs:
            assert got.shape == expected.shape
            # scales are rounded to float32 once; without their eps they are 2e-5 off
            assert (got - expected).norm() < 1e-6 * expected.norm()
            assert (expected < 0).any()
            assert (expected > 0).any()

    def test_a_last_stage_is_dilated_from_its_first_block_on(self):
        def layout(stride):
            with torch.device("meta"):
                extractor = architecture(stride).extractor()
            convolutions = [m for m in extractor.backbone.modules() if isinstance(m, nn.Conv2d)]
            spread = [m for m in convolutions if m.kernel_size == (3, 3)]
            assert all(m.padding == m.dilation for m in spread)
            return [m.dilation[0] for m in spread]

        blocks = [1] * (3 + 4)  # 3, 4, 6 and 3 blocks of a ResNet-50
        assert layout(16) == [*blocks, *[1] * 6, *[2] * 3]
        assert layout(8) == [*blocks, *[2] * 6, *[4] * 3]

    def test_no_activation_but_leaky_ones(self):
        for depth, count in ((50, 17), (101, 34)):
            with torch.device("meta"):
                extractor = architecture(depth=depth).extractor()
            modules = list(extractor.modules())
            assert not any(isinstance(m, nn.ReLU) for m in modules)
            leaky = [m for m in extractor.backbone.modules() if isinstance(m, nn.LeakyReLU)]
            assert len(leaky) == count
            assert {m.negative_slope for m in modules if isinstance(m, nn.LeakyReLU)} == {0.01}

    def test_training_leaves_the_sums_alone_and_moves_every_weight(self):
        torch.manual_seed(0)
        extractor = architecture().extractor()
        features = extractor(images(2, 64, 64))
        assert [64 // tap.shape[-1] for tap in features.stages] == [4, 8, 16, 16]
        for tap in features.stages:  # an activation in place would leave a hundredth of it
            assert -tap.min() > 0.1 * tap.max()
        last = features.stages[-1]
        assert torch.equal(features.last_stage, torch.where(last > 0, last, 0.01 * last))
        (
            sum(tap.square().mean() for tap in features.stages)
            + features.decoder_out.square().mean()
        ).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in extractor.parameters())

    @pytest.mark.parametrize("unwrapped", [True, False])
    def test_files_of_one_gpu_and_without_the_classifier(self, stored, tmp_path, unwrapped):
        kept = {k: v for k, v in stored.items() if "classifier" not in k}
        if unwrapped:
            kept = {k[len("module.") :]: v for k, v in kept.items()}
        torch.save({"state_dict": kept}, tmp_path / "w.pth")
        backbone = kind(weights=str(tmp_path / "w.pth")).build(16)
        pairs = {
            "mod1.bn1": backbone.bn1,
            "mod2.block1.proj_bn": backbone.layer1[0].downsample[1],
            "mod5.block3.convs.bn3": backbone.layer4[2].bn3,
        }
        for name, norm in pairs.items():
            for part in ("bias", "running_mean", "running_var"):
                assert torch.equal(getattr(norm, part), stored[f"module.{name}.{part}"])
            scale = stored[f"module.{name}.weight"]
            assert (scale < 0).any()
            assert torch.equal(norm.weight, scale.abs() + EPS)

    def test_a_saved_model_needs_the_file_no_more(self, file, tmp_path):
        start = tmp_path / "start.pth.tar"
        start.write_bytes(file.read_bytes())
        digest = hashlib.sha256(start.read_bytes()).hexdigest()
        backbone = MAPILLARY | {"weights": str(start), "sha256": digest}
        recipe = {"part": "deeplabv3", "backbone": backbone, "depth": 8}
        segmenter = new_segmenter([2], model=recipe).eval()
        model = checkpoint.Model(
            "step0", recipe, LINEAR, None, ClassTable.of([["background", "a"]], [[0, 1]])
        )
        checkpoint.save(tmp_path / "model.safetensors", segmenter, model, {})
        start.unlink()
        loaded = checkpoint.load_model(tmp_path / "model.safetensors", CPU)
        photograph = images(1, 33, 33)
        assert torch.equal(loaded.segmenter(photograph).logits, segmenter(photograph).logits)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({"conv1.weight": torch.zeros(1)}, "no in-place ABN checkpoint, so `style` is torchv"),
            ({"state_dict": [1, 2]}, "it holds no state dict, but state_dict"),
            ({"state_dict": {"mod1.conv1.weight": torch.zeros(64, 3, 7, 7)}}, "are missing .bn1"),
        ],
    )
    def test_files_that_do_not_fit(self, tmp_path, content, reason):
        torch.save(content, tmp_path / "w.pth")
        reading = kind(weights=str(tmp_path / "w.pth"))
        message = rf"`model\.backbone\.weights`: .*w\.pth cannot be used .*iabn_sync.*{reason}"
        for use in (reading.check, reading.build):
            with pytest.raises(InputError, match=message) as refused:
                use(16)
            assert "\n" not in str(refused.value)

    def test_a_file_of_the_other_style(self, file):
        reading = kind(style="torchvision", weights=str(file))
        with pytest.raises(InputError, match=r"w.*cannot be used.*read with `style: mapillary`"):
            reading.check(16)

    @pytest.mark.parametrize(
        ("depth", "place"),
        [
            (50, "ResNet50v1 in the README of github.com/mapillary/inplace_abn"),
            (101, "release v1.0 of github.com/arthurdouillard/CVPR2021_PLOP"),
        ],
    )
    @pytest.mark.parametrize("weights", ["imagenet", "pretrained/gone.pth.tar"])
    def test_what_cannot_be_downloaded_is_said(self, depth, place, weights):
        with pytest.raises(InputError) as refused:
            kind(depth=depth, weights=weights)
        message = str(refused.value)
        start = "`model.backbone`: `weights` is "
        for part in (start, weights, f"resnet{depth}_iabn_sync", place, "`none`"):
            assert part in message
        assert "\n" not in message

    @pytest.mark.parametrize("depth", [50, 101])
    def test_the_choices_of_a_model(self, depth):
        model = scenes.composed(f"model=deeplabv3_r{depth}_iabn")["model"]
        backbone = model.pop("backbone")
        assert model == {"part": "deeplabv3", "output_stride": 16, "decoder": "summed"}
        assert backbone == {
            "part": "resnet",
            "depth": depth,
            "style": "mapillary",
            "weights": f"pretrained/resnet{depth}_iabn_sync.pth.tar",
            "sha256": "",
            "normalization": None,
            "batchnorm_momentum": 0.1,
        }
