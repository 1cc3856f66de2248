"""Networks whose predictions are known: by the nearest colour, or of several classes."""

import numpy as np
import torch
from torch import nn

from cssegcore.core.normalization import IMAGENET
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads.linear import Linear
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter
from tests.helpers.tiny_training import Layers

GREY, RED, BLUE = (np.array(c) for c in ([0.5, 0.5, 0.5], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9]))


class Colours(FeatureExtractor):
    """Features are the photograph's colours, pixel by pixel."""

    channels = last_stage_channels = 3

    def __init__(self, norm=None):
        super().__init__()
        first = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            first.weight.copy_(torch.eye(3)[..., None, None])
        self.backbone = Layers(first, norm or nn.BatchNorm2d(3, eps=1e-12))

    def forward(self, images):
        top = self.backbone(images)
        return Features((top,), top, top)


def telling(*colours, norm=None, sharpness=2.0):
    """A network that gives each pixel the class whose colour is nearest."""
    segmenter = Segmenter(Colours(norm), Linear(), [len(colours)]).eval()
    at = torch.tensor((np.array(colours) - IMAGENET.mean) / IMAGENET.std, dtype=torch.float32)
    classifier = segmenter.groups[0].classifier
    with torch.no_grad():
        classifier.weight.copy_(2 * sharpness * at[..., None, None])
        classifier.bias.copy_(-sharpness * at.square().sum(1))
    return segmenter


def nearest(images, *colours):
    """The class of each pixel of stored images by the nearest colour."""
    away = images[..., None, :] / 255 / np.array(IMAGENET.std) - np.array(colours) / np.array(
        IMAGENET.std
    )
    return (away**2).sum(-1).argmin(-1)


def varied(segmenter):
    """Makes an untrained network see several classes: its statistics become those of noise."""
    segmenter.groups[-1].classifier.weight.data *= 5
    norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of what it meets from now on
        norm.reset_running_stats()
    noise = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        segmenter.train()(noise)
    for norm in norms:
        norm.momentum = 0.1
    return segmenter.eval()
