import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.models._base import Architecture
from cssegcore.models.architectures.mask_transformer import TokenHead, normalize_masks
from cssegcore.models.heads.conv import Conv
from cssegcore.models.inference import infer
from cssegcore.models.segmenter import Segmenter
from tests.helpers.tiny_training import VIT_MODEL, new_segmenter

VIT = VIT_MODEL["backbone"]


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("timm")


def architecture(**changed):
    recipe = VIT_MODEL | changed
    return build_part("cssegcore.models.architectures", Architecture, recipe, "model")


def network(*outputs):
    torch.manual_seed(0)
    segmenter = new_segmenter(list(outputs), model=VIT_MODEL).eval()
    with torch.no_grad():
        for head in segmenter.groups:
            head.scale.normal_()
            head.shift.normal_()
    return segmenter


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


class TestScores:
    def test_they_are_normalised_cosines_of_patches_and_classes(self):
        segmenter = network(4, 2)
        seen = segmenter(images(2, 16, 24))
        patches, classes = (
            t.detach().double().numpy() for t in (seen.features.decoder_out, seen.features.classes)
        )
        scale, shift = (
            np.concatenate([getattr(h, name).detach().numpy() for h in segmenter.groups])
            for name in ("scale", "shift")
        )
        assert patches.shape == (2, 8, 2, 3)
        assert classes.shape == (2, 6, 8)
        for b, y, x in np.ndindex(2, 2, 3):
            patch = patches[b, :, y, x]
            lengths = np.linalg.norm(classes[b], axis=1) * np.linalg.norm(patch)
            cosines = classes[b] @ patch / lengths
            spread = np.sqrt(((cosines - cosines.mean()) ** 2).sum() / 5)
            expected = (cosines - cosines.mean()) / (spread + 1e-5) * scale + shift
            got = seen.logits_lowres[b, :, y, x].detach().numpy()
            assert np.allclose(got, expected, atol=1e-4)

    def test_tokens_take_part_in_the_blocks(self):
        segmenter = network(4)
        before = segmenter(images(1, 16, 16)).features
        with torch.no_grad():
            segmenter.groups[0].token[3].copy_(torch.linspace(-1, 1, 8))
        after = segmenter(images(1, 16, 16)).features
        assert torch.equal(before.last_stage, after.last_stage)
        assert not torch.equal(before.decoder_out, after.decoder_out)
        assert not torch.equal(before.classes[:, 0], after.classes[:, 0])

    def test_the_deviation_is_the_unbiased_one(self):
        masks = torch.tensor([[[0.5, 0.1, -0.3]]])
        got = normalize_masks(masks, torch.tensor([1.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]))
        assert torch.allclose(got, torch.tensor([[[1.0, 1.0, -1.0]]]), atol=1e-4)

    def test_they_keep_their_digits_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            seen = network(4)(images(1, 16, 16))
        assert seen.logits.dtype == seen.logits_lowres.dtype == torch.float32


class TestSizes:
    @pytest.mark.parametrize(("h", "w"), [(16, 16), (17, 23), (40, 33)])
    def test_a_photograph_of_any_size_is_padded_to_whole_patches(self, h, w):
        segmenter = network(4)
        photographs = images(1, h, w)
        whole = F.pad(photographs, (0, -w % 8, 0, -h % 8))
        seen, padded = segmenter(photographs), segmenter(whole)
        assert seen.logits.shape == (1, 4, h, w)
        assert torch.allclose(seen.logits, padded.logits[..., :h, :w], atol=1e-5)
        expected = F.interpolate(seen.logits_lowres, whole.shape[-2:], mode="bilinear")
        assert torch.allclose(padded.logits, expected, atol=1e-5)


class TestGrowth:
    def test_a_step_adds_tokens_that_come_last(self):
        segmenter = network(4)
        kept = segmenter.groups[0].token.clone()
        segmenter.grow(2)
        assert [head.outputs for head in segmenter.groups] == [4, 2]
        assert segmenter.outputs == segmenter.classes == 6
        new = segmenter.groups[-1]
        assert isinstance(new, TokenHead)
        assert (new.scale == 1).all()
        assert (new.shift == 0).all()
        assert torch.equal(segmenter.groups[0].token, kept)
        seen = segmenter(images(1, 16, 16))
        assert seen.logits.shape == (1, 6, 16, 16)
        assert torch.equal(segmenter.classifiers().weight, torch.cat([kept, new.token]))

    def test_other_heads_are_not_built(self):
        segmenter = Segmenter(architecture().extractor(), Conv(), [4, 1])
        assert all(isinstance(head, TokenHead) for head in segmenter.groups)

    def test_the_old_model_s_outputs_are_ordinary_tensors(self):
        seen = infer(network(4).requires_grad_(False), images(1, 16, 16))
        assert not seen.features.classes.is_inference()


REFUSED = [
    (
        {"backbone": {"part": "resnet", "depth": 50, "weights": "none"}},
        "reads the patches of a ViT, and `model.backbone` is torchvision's resnet50: choose"
        " `model=segmenter_vit_b16`",
    ),
    ({"output_stride": 16}, "`model.output_stride` is now `model.backbone.patch`"),
    ({"blocks": 1}, r"`drop_path` is 0\.1, but rises from 0 at the first block"),
    ({"heads": 3}, "`heads` must divide `backbone.width`, got 3 for 8"),
    ({"drop_path": 1}, r"`drop_path` must lie in \[0, 1\), got 1"),
    ({"backbone": VIT | {"heads": 3}}, "`width` must be a multiple of `heads`, got 8 and 3"),
    ({"backbone": VIT | {"image": 20}}, "`image` must be a multiple of `patch`, got 20 and 8"),
    ({"backbone": VIT | {"weights": "imagenet"}}, "has no download: give the path"),
]


@pytest.mark.parametrize(("changed", "words"), REFUSED)
def test_what_makes_no_sense_is_refused(changed, words):
    with pytest.raises(InputError, match=words):
        architecture(**changed)


def test_two_outputs_are_refused():
    architecture().check_outputs(3)
    with pytest.raises(InputError, match=r"3 or more classes .* first step has 2: give it 1 more"):
        architecture().check_outputs(2)


def test_training_leaves_out_branches_and_evaluation_none():
    segmenter = new_segmenter([4], model=VIT_MODEL | {"drop_path": 0.5}).train()
    photographs = images(4, 16, 16)
    torch.manual_seed(0)
    first, second = segmenter(photographs).logits, segmenter(photographs).logits
    assert not torch.equal(first, second)
    segmenter.eval()
    assert torch.equal(segmenter(photographs).logits, segmenter(photographs).logits)


def test_a_part_is_a_value():
    assert architecture() == dataclasses.replace(architecture(), drop_path=0.1)
