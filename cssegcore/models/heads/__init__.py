"""What stands between features and logits: one module a kind of head, found by name."""

from cssegcore.models.heads._base import FeatureHead as FeatureHead
from cssegcore.models.heads._base import Head as Head
from cssegcore.models.heads._base import HeadKind as HeadKind
