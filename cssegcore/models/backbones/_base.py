"""Interfaces of a backbone and of its recipe."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET, Normalization
from cssegcore.core.registry import build_part, part_module
from cssegcore.models.backbones._pretrained import COUNTER, WEIGHTS, WeightSource, matched
from cssegcore.models.backbones._values import check_values

PACKAGE = "cssegcore.models.backbones"
WHERE = "model.backbone"


class Backbone(nn.Module, abc.ABC):
    """The network below a decoder.

    Attributes:
        strides: Stride of each feature: pixels of the image between two places.
        channels: Number of channels of each feature.
        normalization: Normalization of the images that it was trained with.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    normalization: Normalization = IMAGENET

    @abc.abstractmethod
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Computes the last features of each stage, from stride 4 on, shallow to deep.

        Where a stage ends with a sum and an activation, the feature is the sum, because local POD
        compares sums. No later layer changes a feature in place.
        """

    def activation(self, features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        """Applies the activation that a decoder expects; not in place. By default, none."""
        return features

    def input_norms(self) -> list[nn.BatchNorm2d]:
        """Returns the first normalisation of each path from the image; by default, of one path."""
        return [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)][:1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneKind(abc.ABC):
    """A backbone's numbers, and how to build it; the dataclass of a part.

    Attributes:
        weights: First weights: `none` (from scratch), `imagenet` (the download of the library that
            the network is from; cached), or the path of a file, `.safetensors` or of `torch.save`.
            A file may hold the state dict of the whole network, or of one around it.
        sha256: First hexadecimal digits of the file's digest; "" accepts every file.
        normalization: Mean and deviation of the images that the weights were trained on; None for
            the same as the library's own weights.
        batchnorm_momentum: Momentum of the running statistics.
    """

    UNUSED: ClassVar[tuple[str, ...]] = ()
    """Prefixes of a file's keys that belong to the network's classifier."""

    weights: str = "imagenet"
    sha256: str = ""
    normalization: Normalization | None = None
    batchnorm_momentum: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.batchnorm_momentum <= 1:
            raise ValueError(
                f"`batchnorm_momentum` must lie in (0, 1], got {self.batchnorm_momentum}"
            )
        if self.weights == "imagenet" and not self.has_download:
            raise ValueError(f"`weights` is imagenet, but {self.title} has no download: {self.way}")
        self.source.check_words(self.way)

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """Name of the network in errors: `torchvision's resnet50`."""

    @property
    def has_download(self) -> bool:
        """Whether the network's library offers weights."""
        return True

    @property
    def way(self) -> str:
        """Advice on the value of `weights`, for errors."""
        download = "`imagenet` or " if self.has_download else ""
        return f"give the path of a state dict of {self.title}, {download}`none`"

    @property
    def source(self) -> WeightSource:
        return WeightSource(self.weights, self.sha256)

    @abc.abstractmethod
    def fresh(self, output_stride: int) -> Backbone:
        """Builds the network with random weights, on the default device.

        Args:
            output_stride: Wanted stride of the last features. The network comes as near to it as
                it can.

        Raises:
            InputError: There is no such network.
        """

    def download(self) -> dict[str, Tensor]:
        """Returns the state dict that the network's library offers, fetched if it is not cached.

        Raises:
            InputError: It cannot be fetched.
        """
        raise InputError(f"`{WEIGHTS}` is imagenet, but {self.title} has no download.")

    def translated(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gives foreign weights the keys and values of this network; by default, leaves them.

        Raises:
            ValueError: They are of another network.
        """
        return stored

    def names(self, backbone: Backbone) -> dict[str, str]:
        """Returns the key in the backbone for each key of a file; by default the same key."""
        return {key: key for key in backbone.state_dict()}

    def unused(self, backbone: Backbone) -> Iterable[str]:
        """Returns prefixes of a file's keys that the backbone does not use."""
        return self.UNUSED

    def outline(self, output_stride: int) -> Backbone:
        """Builds the backbone on the device `meta`: strides and channels without memory.

        Draws no random numbers.

        Raises:
            InputError: The last features have another stride than `output_stride`.
        """
        with torch.device("meta"):
            return self._fitting(output_stride)

    def build(self, output_stride: int) -> Backbone:
        """Builds the backbone with its first weights.

        Raises:
            InputError: The stride or the weights do not fit, or the weights cannot be had.
        """
        backbone = self._fitting(output_stride)
        stored = self._stored(backbone)
        if stored is not None:
            backbone.load_state_dict(stored)
        return backbone

    def check(self, output_stride: int) -> None:
        """Makes sure that `build` will succeed, and holds the file's digest against `sha256`.

        Raises:
            InputError: `build` would raise it, the digest differs, or the file is known to be of
                images of another normalisation.
        """
        outline = self.outline(output_stride)
        self.source.check_digest(outline.normalization)
        self._stored(outline)

    def _fitting(self, output_stride: int) -> Backbone:
        backbone = self.fresh(output_stride)
        if backbone.strides[-1] != output_stride:
            raise InputError(
                f"`{WHERE}`: {self.title} cannot end at stride {output_stride}, which the decoder"
                f" needs; its features have strides {', '.join(map(str, backbone.strides))}. Set"
                " `model.output_stride`, if the decoder has one, or choose another backbone."
            )
        if self.normalization is not None:
            backbone.normalization = self.normalization
        for module in backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = self.batchnorm_momentum
        return backbone

    def _stored(self, backbone: Backbone) -> dict[str, Tensor] | None:
        """Returns the first weights by the backbone's keys."""
        if self.weights == "none":
            return None
        names, own = self.names(backbone), backbone.state_dict()
        wanted = {key: own[name].shape for key, name in names.items()}
        floating = {key: own[name].is_floating_point() for key, name in names.items()}

        def fit(stored: dict[str, Tensor]) -> dict[str, Tensor]:
            found = matched(wanted, self.translated(stored), tuple(self.unused(backbone)))
            check_values(found, floating)
            given = {names[key]: value for key, value in found.items()}
            # older files do not count batches
            counts = {k: torch.tensor(0) for k in own if k.endswith(COUNTER)}
            return counts | given

        if self.weights == "imagenet":
            return fit(self.download())
        return self.source.read(fit, f"{self.title}: {self.way}")


def backbone_kind(recipe: object) -> BackboneKind:
    """Builds the part that the section `model.backbone` names.

    Raises:
        InputError: There is no such part, or it refuses a number.
    """
    return build_part(PACKAGE, BackboneKind, _checked(recipe), WHERE)


def backbone_module(recipe: object) -> str:
    """Returns the module path of the part that the section `model.backbone` names.

    Raises:
        InputError: There is no such part.
    """
    return part_module(PACKAGE, _checked(recipe), WHERE)


def _checked(recipe: object) -> object:
    if isinstance(recipe, str):
        raise InputError(
            f"`{WHERE}` is {recipe!r}, but a backbone is a part: write"
            f" `{WHERE}: {{part: resnet, depth: 50}}` or the like. Its weights and style are"
            f" `{WHERE}.weights` and `{WHERE}.style`."
        )
    return recipe
