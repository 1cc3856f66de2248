"""DeepInversion's feature statistics: batch normalisations meet what they met in training.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.precision import at_least_float32

FIRST_FACTOR = 10.0
"""Of the first layer, as released; not in the paper."""


def statistics_distance(
    values: Float[Tensor, "b n h w"],
    running_mean: Float[Tensor, " n"],
    running_var: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Computes ‖mean − running mean‖ + ‖variance − running variance‖, both over the channels.

    Mean and variance are over the batch and its pixels. Gradient: 0 where a norm is 0.

    Deviation: the norms are not squared, as in the released code. The variance is biased, while
    the running variance that a batch normalisation keeps is not: that matters for maps of 1 x 1.
    """
    with torch.autocast(values.device.type, enabled=False):
        variance, mean = torch.var_mean(at_least_float32(values), dim=(0, 2, 3), correction=0)
        return torch.linalg.vector_norm(running_mean - mean) + torch.linalg.vector_norm(
            running_var - variance
        )


def batch_norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Returns a network's batch normalisations by name, in the order of its modules.

    Raises:
        InputError: There is none, or one keeps no running statistics.
    """
    layers = {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    bare = [name for name, m in layers.items() if m.running_mean is None]
    if layers and not bare:
        return layers
    kinds = {type(m).__name__ for m in network.modules()}
    others = ", ".join(sorted(kind for kind in kinds if "Norm" in kind))
    if bare:
        reason = f"`{bare[0]}` keeps none (track_running_stats=False)"
    elif others:
        reason = f"it normalises by {others} and has no BatchNorm2d"
    else:
        reason = "it has no normalisation at all"
    raise InputError(
        "DeepInversion draws images out of the running statistics that BatchNorm2d keep, and"
        f" {type(network).__name__} cannot be inverted: {reason}. Choose a network with such"
        " layers, or a replay that needs none, such as stored photographs."
    )


def released_factors(network: nn.Module, first: float = FIRST_FACTOR) -> dict[str, float]:
    """Returns the released code's factor of each layer: `first`, then 1 for all others.

    The first is that of the order of modules. A network with two stems wants a choice of its own,
    and so does one with normalisations after a pooling to 1 x 1, whose statistics are the batch's.

    Raises:
        InputError: See `batch_norms`.
    """
    names = list(batch_norms(network))
    return dict.fromkeys(names, 1.0) | {names[0]: first}


class FeatureStatistics:
    """What `record_feature_statistics` layers met in the latest forward pass."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        self._factors = factors
        self.distances: dict[str, Float[Tensor, ""]] = {}
        """`statistics_distance` of the input of each layer, not multiplied.

        Of a layer that a pass runs twice, the last counts.
        """

    def total(self) -> Float[Tensor, ""]:
        """Sums the distances times their factors.

        Raises:
            ValueError: A layer did not run since the latest pass began.
        """
        idle = [name for name in self._factors if name not in self.distances]
        if idle:
            raise ValueError(f"no forward pass ran the layer `{idle[0]}`: it has no statistics")
        return torch.stack([f * self.distances[name] for name, f in self._factors.items()]).sum()


@contextmanager
def record_feature_statistics(
    network: nn.Module, factors: Mapping[str, float]
) -> Iterator[FeatureStatistics]:
    """Measures every forward pass of a network, whose weights ask for no gradient meanwhile.

    Afterwards, also after an error, hooks and measurements are gone and weights are as they were.

    Args:
        network: In evaluation mode: in training it would normalise by the batch, and move the very
            statistics that the images are drawn from.
        factors: Of the layers that count, by name: others are not measured.

    Raises:
        InputError: See `batch_norms`.
        ValueError: The network trains, or a factor is of no layer, or not a finite number >= 0.
    """
    layers = batch_norms(network)
    _check(network, layers, factors)
    found = FeatureStatistics(dict(factors))
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    hooks = [network.register_forward_pre_hook(lambda *_: found.distances.clear())]
    try:
        for name in factors:
            hooks.append(layers[name].register_forward_pre_hook(_measuring(found.distances, name)))
        for weight in learning:
            weight.requires_grad_(False)
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for weight in learning:
            weight.requires_grad_(True)
        found.distances.clear()  # they hold the pass's memory


def _measuring(
    distances: dict[str, Tensor], name: str
) -> Callable[[nn.BatchNorm2d, tuple[Tensor, ...]], None]:
    def measure(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        distances[name] = statistics_distance(inputs[0], layer.running_mean, layer.running_var)

    return measure


def _check(network: nn.Module, layers: Mapping[str, object], factors: Mapping[str, float]) -> None:
    training = [name for name, module in network.named_modules() if module.training]
    if training:
        raise ValueError(f"only a network in evaluation mode is inverted: `{training[0]}` trains")
    if not factors:
        raise ValueError("`factors` must name a layer")
    for name, factor in factors.items():
        if name not in layers:
            raise ValueError(
                f"`factors` names `{name}`, which is no BatchNorm2d; there are {', '.join(layers)}"
            )
        if not 0 <= factor < math.inf:
            raise ValueError(f"the factor of `{name}` must be a finite number >= 0, got {factor}")
