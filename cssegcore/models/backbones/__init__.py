"""Backbones: one module a family of networks, found by name."""

from cssegcore.models.backbones._base import Backbone as Backbone
from cssegcore.models.backbones._base import BackboneKind as BackboneKind
from cssegcore.models.backbones._base import backbone_kind as backbone_kind
from cssegcore.models.backbones._base import backbone_module as backbone_module
