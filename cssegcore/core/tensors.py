"""A network's tensors by name."""

from collections.abc import Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]
"""Tensors by name: weights, running statistics and counters of a `state_dict`, or statistics of
them."""
