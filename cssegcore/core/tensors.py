"""A network's tensors by name."""

from collections.abc import Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]
"""Tensors by name: weights, running statistics and counters, as `state_dict` gives them, or what
was gathered of them."""
