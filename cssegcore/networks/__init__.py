"""Segmentation networks: one module an architecture, found by name."""

from cssegcore.networks._base import Architecture as Architecture
from cssegcore.networks._base import Trunk as Trunk
from cssegcore.networks._folding import folded as folded
from cssegcore.networks._observing import observed as observed
from cssegcore.networks._segmenter import Segmenter as Segmenter
from cssegcore.networks._segmenter import classify as classify
