"""DeepInversion's feature statistics: batch statistics must equal the running statistics.

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


def statistics_distance(
    values: Float[Tensor, "b n h w"],
    running_mean: Float[Tensor, " n"],
    running_var: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Computes ‖mean − running mean‖ + ‖variance − running variance‖, both over the channels.

    Mean and variance run over batch and pixels. The gradient of a norm that is 0 is 0.

    Deviation: the norms are not squared, as in the released code. The variance is biased, but
    the running variance of a batch normalisation is unbiased: this matters for maps of 1 x 1.
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


class FeatureStatistics:
    """Distances of the latest forward pass inside `record_feature_statistics`."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        self._factors = factors
        self.distances: dict[str, Float[Tensor, ""]] = {}
        """`statistics_distance` of each layer's input, before its factor.

        If a pass runs a layer twice, the second run counts.
        """

    def total(self) -> Float[Tensor, ""]:
        """Sums the distances times their factors.

        Raises:
            ValueError: A layer did not run in the latest forward pass.
        """
        idle = [name for name in self._factors if name not in self.distances]
        if idle:
            raise ValueError(f"no forward pass ran the layer `{idle[0]}`: it has no statistics")
        return torch.stack([f * self.distances[name] for name, f in self._factors.items()]).sum()


@contextmanager
def record_feature_statistics(
    network: nn.Module, factors: Mapping[str, float]
) -> Iterator[FeatureStatistics]:
    """Measures each forward pass of a network; its weights require no gradient inside the block.

    When the block ends, also by an error, hooks and measurements are removed, and the weights
    require gradients as before.

    Args:
        network: A network in evaluation mode. In training mode it would change the running
            statistics that the images are fitted to.
        factors: Factor of each layer by name; layers without a factor are not measured.

    Raises:
        InputError: See `batch_norms`.
        ValueError: The network is in training mode, or a factor names no batch normalisation or is
            not a finite number >= 0.
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
        found.distances.clear()  # they keep the graph of the forward pass alive


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
