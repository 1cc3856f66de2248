import pytest
import torch
from torch import nn

from cssegcore.models.fuse_batchnorm import fuse_batchnorm
from cssegcore.models.heads.conv import Conv
from cssegcore.models.segmenter import Segmenter
from tests.helpers.networks import DEEPLAB, RESNET, architecture, images
from tests.helpers.tiny_training import MODEL

MAPILLARY = RESNET | {"style": "mapillary"}
BISENET = {"part": "bisenet", "backbone": RESNET | {"depth": 18}}


class TestFolded:
    @staticmethod
    def stirred(**recipe):
        """A segmenter whose normalisations do something."""
        torch.manual_seed(0)
        segmenter = Segmenter(architecture(**recipe).extractor(), Conv(), [3, 1])
        for module in segmenter.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, -1, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        return segmenter.eval()

    @pytest.mark.parametrize(
        ("recipe", "left"),
        [
            (MODEL, 1),  # sees a sum
            (DEEPLAB, 2),  # see four convolutions and a sum
            (DEEPLAB | {"backbone": MAPILLARY}, 2),
            (BISENET, 4),  # auxiliary heads sleep
        ],
    )
    def test_it_says_the_same_and_has_fewer_layers(self, recipe, left):
        segmenter = self.stirred(**recipe)
        quick, seen = fuse_batchnorm(segmenter), images(2, 48, 80)
        with torch.no_grad():
            got, wanted = quick(seen), segmenter(seen)
        for mine, theirs in zip(got.features.stages, wanted.features.stages, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())
        assert torch.allclose(got.logits, wanted.logits, rtol=1e-3, atol=1e-4)
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in quick.modules())
        assert norms == left + len(quick.heads)  # which fold theirs while they run
        assert not any(p.requires_grad for p in quick.parameters())

    def test_it_is_a_copy(self):
        segmenter = self.stirred(**MODEL)
        before, quick = (
            fuse_batchnorm(segmenter)(images(1, 32, 32)).logits,
            fuse_batchnorm(segmenter),
        )
        with torch.no_grad():
            for weight in segmenter.parameters():
                weight.add_(1)
        assert torch.equal(quick(images(1, 32, 32)).logits, before)

    def test_a_trunk_that_stands_still_is_run_folded_and_saved_as_it_is(self):
        segmenter = self.stirred(**MODEL)
        names, wanted = list(segmenter.state_dict()), segmenter(images(1, 32, 32)).logits
        ran = []
        for module in segmenter.extractor.modules():
            module.register_forward_hook(lambda *_: ran.append(1))
        segmenter.fuse_batchnorm()
        ran.clear()
        assert torch.allclose(segmenter(images(1, 32, 32)).logits, wanted, atol=1e-5)
        assert list(segmenter.state_dict()) == names
        assert len(list(segmenter.parameters())) == len(set(segmenter.parameters()))
