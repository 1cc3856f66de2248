"""Kinds of heads, which compute logits from features: one module a kind, found by name."""

from cssegcore.models.heads._base import FeatureHead as FeatureHead
from cssegcore.models.heads._base import Head as Head
from cssegcore.models.heads._base import HeadKind as HeadKind
