"""Networks of every kind, an extractor that only pools, and what features promise of any."""

import torch
import torch.nn.functional as F

from cssegcore.core.registry import build_part
from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.outputs import Features
from tests.helpers.tiny_training import Layers

RESNET = {"part": "resnet", "depth": 50, "weights": "none"}
DEEPLAB = {"part": "deeplabv3", "backbone": RESNET}


def architecture(**recipe):
    return build_part("cssegcore.models.architectures", Architecture, recipe, "model")


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


class Photograph(FeatureExtractor):
    """Hands the photograph on, at a fourth of its size."""

    channels = last_stage_channels = 3
    backbone = Layers()

    def forward(self, images):
        pooled = F.avg_pool2d(images, 4)
        return Features((pooled,), pooled, pooled)


def sizes(segmenter):
    return [head.classifier.out_channels for head in segmenter.groups]


def check_features(extractor, photographs, strides):
    """Checks what features promise of any extractor."""
    features = extractor(photographs)
    assert [photographs.shape[-1] // tap.shape[-1] for tap in features.stages] == strides
    for tap in features.stages:  # none of them spoiled by an activation in place
        assert (tap < 0).any()
        assert (tap > 0).any()
    assert torch.equal(features.last_stage, features.stages[-1].clamp(min=0))
    assert features.last_stage.shape[1] == extractor.last_stage_channels
    assert features.decoder_out.shape[1] == extractor.channels
    total = (
        sum(tap.square().mean() for tap in features.stages) + features.decoder_out.square().mean()
    )
    total.backward()
    assert all(p.grad is not None for p in extractor.parameters())
