"""Any network of timm by its name: https://github.com/huggingface/pytorch-image-models.

timm is optional: nothing else of this library imports it.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, final
from unittest import mock

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.config import did_you_mean
from cssegcore.core.errors import InputError
from cssegcore.core.normalization import Normalization
from cssegcore.models.backbones._base import WHERE, Backbone, BackboneKind
from cssegcore.models.backbones._efficientnet import (
    is_efficientnet_pytorch,
    of_efficientnet_pytorch,
)
from cssegcore.models.backbones._pretrained import WEIGHTS

FINEST = 4
"""Stride of the first features that are given."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Timm(BackboneKind):
    """A network of timm.

    `weights: imagenet` is what timm offers for the name; a file holds the state dict of timm's
    network, with or without its classifier. For EfficientNets without squeeze-and-excitation
    (EfficientNet-Lite) it may also be a file of the package efficientnet_pytorch.

    Attributes:
        name: timm's name of the network, such as `tf_efficientnet_lite0`.
    """

    name: str

    @property
    def title(self) -> str:
        return f"timm's {self.name}"

    def fresh(self, output_stride: int) -> Backbone:
        timm = _timm()
        if not timm.is_model(self.name):
            known = did_you_mean(self.name, timm.list_models())
            raise InputError(f"`{WHERE}.name`: timm has no network {self.name!r}.{known}")
        offered: Any = timm.get_pretrained_cfg(self.name)
        numbers = self._numbers(output_stride)
        backbone = _Timm(_network(self.name, numbers))
        if offered is not None:
            backbone.normalization = Normalization(offered.mean, offered.std)
        return backbone

    def _numbers(self, output_stride: int) -> dict[str, Any]:
        """Returns timm's arguments: networks that cannot be dilated refuse a stride.

        Raises:
            InputError: The network gives no features, or not as a decoder needs them.
        """
        timm = _timm()
        offered: Any = timm.get_pretrained_cfg(self.name)
        reason = ""
        with torch.device("meta"):
            if offered is not None and offered.fixed_input_size:
                reason = "it reads images of one size only"
            elif (plain := _tried(self.name, {})) is None:
                reason = "it gives no features"
            elif isinstance(plain, timm.models.FeatureHookNet):
                reason = "a copy of it would not hand out its features"
            elif plain.feature_info.reduction()[-1] != output_stride:
                dilated = {"output_stride": output_stride}
                return dilated if _tried(self.name, dilated) is not None else {}
        if reason:
            raise InputError(f"`{WHERE}`: {self.title} cannot be a backbone: {reason}.")
        return {}

    def download(self) -> dict[str, Tensor]:
        try:
            return _timm().create_model(self.name, pretrained=True).state_dict()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"`{WEIGHTS}` is imagenet, and timm cannot fetch what it has for {self.name}"
                f" ({_first_line(error)}): set `{WEIGHTS}` to the path of a file, or to `none` to"
                " train from scratch."
            ) from None

    def translated(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        if is_efficientnet_pytorch(stored):
            return of_efficientnet_pytorch(stored, self._keys())
        return stored

    def names(self, backbone: Backbone) -> dict[str, str]:
        assert isinstance(backbone, _Timm)
        kept = {}
        for key in self._keys():
            # in some networks that give features, `stages.0` is called `stages_0`
            for name in (key, key.replace(".", "_", 1)):
                if name in backbone.names:
                    kept[key] = backbone.names[name]
        return kept

    def unused(self, backbone: Backbone) -> Iterable[str]:
        return set(self._keys()) - set(self.names(backbone))

    def _keys(self) -> list[str]:
        """Lists the keys of the whole network."""
        with torch.device("meta"):
            return list(_timm().create_model(self.name).state_dict())


class _Timm(Backbone):
    """A network of timm that gives features.

    Attributes:
        names: The key of each of timm's weights in the backbone.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - timm's
        super().__init__()
        self.strides = tuple(network.feature_info.reduction())
        self.channels = tuple(network.feature_info.channels())
        theirs = list(network.state_dict())
        _separate_activations(network)
        self.network = network
        self.names = dict(zip(theirs, self.state_dict(), strict=True))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        with _whole_padding() if torch.compiler.is_exporting() else contextlib.nullcontext():
            return tuple(self.network(images))


@contextlib.contextmanager
def _whole_padding() -> Iterator[None]:
    """Has timm count `same` padding in whole numbers: a program for every size has no `ceil`."""
    from timm.layers import padding

    def count(x: int, kernel_size: int, stride: int, dilation: int) -> int | torch.SymInt:
        padded = (kernel_size - 1) * dilation - (x - 1) % stride
        return padded if (kernel_size - 1) * dilation >= stride - 1 else torch.sym_max(padded, 0)

    with mock.patch.object(padding, "get_same_padding", count):
        yield


def _separate_activations(network: nn.Module) -> None:
    """Makes plain normalisations, each followed by its activation, of timm's that activate as well.

    Who folds, synchronises or reads a `BatchNorm2d` takes it for nothing but a normalisation.
    """
    from timm.layers.norm_act import BatchNormAct2d

    for name, module in list(network.named_modules()):
        if isinstance(module, BatchNormAct2d):
            network.set_submodule(name, _separated(module))


def _separated(norm: Any) -> nn.Sequential:  # noqa: ANN401 - timm's, whose attributes are untyped
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, device="meta")
    for key, value in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
        setattr(plain, key, value)
    return nn.Sequential(plain, norm.drop, norm.act)


def _network(name: str, numbers: dict[str, Any]) -> Any:  # noqa: ANN401 - timm's
    """Builds a network that gives features from stride `FINEST` on.

    Raises:
        Exception: The network gives none, or knows none of the numbers.
    """
    with torch.device("meta"):
        every = _timm().create_model(name, features_only=True, **numbers).feature_info
    strides = zip(every.out_indices, every.reduction(), strict=True)
    places = tuple(place for place, stride in strides if stride >= FINEST)
    return _timm().create_model(name, features_only=True, out_indices=places, **numbers)


def _tried(name: str, numbers: dict[str, Any]) -> Any:  # noqa: ANN401 - timm's
    """Builds a network as `_network` does, or returns None if timm refuses."""
    refusals = (TypeError, ValueError, RuntimeError, AssertionError, LookupError, AttributeError)
    with contextlib.suppress(*refusals):
        return _network(name, numbers)
    return None


def _timm() -> Any:  # noqa: ANN401 - a module that may be absent
    try:
        import timm
    except ModuleNotFoundError:
        raise InputError(
            f"`{WHERE}.part` is timm, and timm is not installed: `pip install timm`, which is the"
            " extra `timm` of cssegcore as well."
        ) from None
    return timm


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
