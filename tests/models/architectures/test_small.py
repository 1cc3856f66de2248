import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET, Normalization
from tests.helpers.networks import RESNET, architecture, check_features, images
from tests.helpers.tiny_training import BACKBONE, MODEL, new_segmenter


class TestSmall:
    @pytest.mark.parametrize(("h", "w"), [(16, 16), (17, 23), (33, 40)])
    def test_any_size_gives_logits_of_that_size(self, h, w):
        segmenter = new_segmenter([3, 2]).eval()
        assert segmenter(images(1, h, w)).logits.shape == (1, 5, h, w)

    def test_output_stride_and_depth(self):
        extractor = architecture(**MODEL).extractor()
        assert extractor.channels == MODEL["depth"]
        assert extractor(images(2, 64, 48)).decoder_out.shape == (2, MODEL["depth"], 8, 6)

    def test_features(self):
        extractor = architecture(**MODEL).extractor()
        inputs = []
        for block in extractor.backbone.blocks:
            block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        check_features(extractor, images(2, 64, 64), [4, 8, 8])
        stages = extractor(images(2, 64, 64)).stages
        for tap, following in zip(stages, inputs[4:], strict=False):  # of the second pass
            assert torch.equal(following, tap.clamp(min=0))

    def reach(self, extractor, size, at):
        """Tells which pixels the features at a place depend on."""
        photographs = images(1, size, size).requires_grad_()
        seen = extractor(photographs).decoder_out[0, :, at, at].sum()
        (grad,) = torch.autograd.grad(seen, photographs)
        return (grad != 0).any(1)[0]

    def extractor(self, **changed):
        torch.manual_seed(0)
        return architecture(part="small", backbone={"part": "small"} | changed).extractor().eval()

    def test_context_reaches_every_pixel_once_it_is_learned(self):
        extractor = self.extractor()
        assert not self.reach(extractor, 128, 0)[-1, -1]
        nn.init.ones_(extractor.context.weight)
        assert self.reach(extractor, 128, 0)[-1, -1]

    def test_dilation_widens_the_view(self):
        narrow, wide = (self.reach(self.extractor(dilation=n), 192, 12).sum() for n in (1, 3))
        assert wide > narrow

    @pytest.mark.parametrize(
        ("wrong", "limit"),
        [
            ({"dilation": 0}, "1, got 0"),
            ({"stem": [8, 7]}, "8: .* past the end of its memory"),
            ({"widths": [8, 0, 8]}, "8: .* past the end of its memory"),
        ],
    )
    def test_refusals(self, wrong, limit):
        with pytest.raises(InputError, match=rf"`model\.backbone`: .* must be >= {limit}"):
            architecture(**MODEL | {"backbone": BACKBONE | wrong})
        with pytest.raises(InputError, match=r"`model`: `depth` must be >= 1, got 0"):
            architecture(**MODEL | {"depth": 0})

    @pytest.mark.parametrize("key", ["stem", "widths", "dilation"])
    def test_a_key_of_before_is_answered_with_its_new_name(self, key):
        with pytest.raises(InputError, match=rf"`model\.{key}` is now `model\.backbone\.{key}`"):
            architecture(part="small", depth=8, **{key: 1})

    def test_it_takes_any_backbone(self):
        torch.manual_seed(0)
        network = architecture(part="small", backbone=RESNET, depth=8, output_stride=32)
        network.check()
        extractor = network.extractor()
        check_features(extractor, images(2, 64, 64), [4, 8, 16, 32])
        assert extractor(images(2, 64, 64)).decoder_out.shape == (2, 8, 2, 2)

    def test_the_images_are_normalised_as_for_its_backbone(self):
        assert new_segmenter([2]).normalization == IMAGENET
        other = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
        model = MODEL | {"backbone": BACKBONE | {"normalization": other}}
        segmenter = new_segmenter([2], model=model)
        expected = Normalization((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
        assert segmenter.normalization == segmenter.extractor.normalization == expected
