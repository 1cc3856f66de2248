"""The incremental segmenter: an extractor and a head for each group of outputs, concatenated."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cssegcore.core.normalization import Normalization
from cssegcore.core.types import BackgroundOutput, Scores
from cssegcore.models._base import FeatureExtractor, apply_heads
from cssegcore.models.fuse_batchnorm import fuse_batchnorm
from cssegcore.models.heads import Head, HeadKind
from cssegcore.models.outputs import Classifiers, Outputs

UnknownScores = Scores | None
"""Whether output 0 is the unknown class, and how its score is read when it joins background's."""


@final
class Segmenter(nn.Module):
    """FeatureExtractor -> heads -> logits at the photograph's size.

    As in MiB (Cermelli et al., CVPR 2020): logits are upsampled bilinearly (corners not aligned)
    inside the network, so that every loss acts on full-size logits.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        kind: HeadKind,
        outputs: Sequence[int],
        unknown: UnknownScores = None,
        background: BackgroundOutput = "argmax",
    ) -> None:
        """Builds a head for each step.

        Args:
            extractor: Backbone and decoder.
            kind: Kind of the heads, if the extractor has none of its own.
            outputs: Number of classes of each step, the background counted in the first.
            unknown: Function to the unknown class's score; None if there is no such class. If there
                is one, it and the background have heads of their own, the first two.
            background: Meaning of output 0. An auxiliary one is a head of its own, the first.
        """
        super().__init__()
        self.extractor = extractor
        assert unknown is None or background == "argmax", "refused when parameters are checked"
        self.unknown: UnknownScores = unknown
        self.background: BackgroundOutput = background
        self._kind = kind = extractor.head_kind or kind
        self._kept_eval: list[nn.Module] = []
        self._still: list[
            FeatureExtractor
        ] = []  # in a list, so that its weights are not the network's
        self._constant = self._is_compiled = False
        first, *later = outputs
        groups = [first] if unknown is None else [1, 1, first - 1]
        if background != "argmax":
            groups = [first - 1] if background == "rejected" else [1, first - 1]
        self.heads = nn.ModuleList(kind.build(extractor.channels, n) for n in [*groups, *later])
        self.auxiliary = nn.ModuleList(
            nn.ModuleList(kind.build(depth, n) for n in [*groups, *later])
            for depth in extractor.auxiliary_channels
        )

    def grow(self, outputs: int) -> None:
        """Adds the head of a new step, with fresh weights, and its auxiliary heads."""
        device = next(self.parameters()).device
        self.heads.append(self._kind.build(self.extractor.channels, outputs).to(device))
        for depth, heads in zip(self.extractor.auxiliary_channels, self.auxiliary, strict=True):
            assert isinstance(heads, nn.ModuleList)
            heads.append(self._kind.build(depth, outputs).to(device))

    @property
    def normalization(self) -> Normalization:
        """The normalisation of the photographs that the network reads."""
        return self.extractor.normalization

    @property
    def groups(self) -> list[Head]:
        """The heads in order: [unknown, background,] the classes of each step.

        Without an unknown class the first step's head scores the background too; unless that has
        no weights, or an auxiliary output is the first head.
        """
        return [head for head in self.heads if isinstance(head, Head)]

    @property
    def outputs(self) -> int:
        """Number of outputs, the unknown class and a constant background included."""
        return sum(head.outputs for head in self.groups) + (self.background == "rejected")

    @property
    def classes(self) -> int:
        """Number of classes it tells apart, the background included."""
        return self.outputs - (self.unknown is not None)

    @property
    def batchnorm_is_fused(self) -> bool:
        """Whether a copy of the extractor runs, which does not change."""
        return bool(self._still)

    @property
    def _running(self) -> FeatureExtractor:
        return self._still[0] if self._still else self.extractor

    def keep_eval(self, modules: Iterable[nn.Module]) -> None:
        """Keeps modules in evaluation mode, also when `train()` is called later."""
        self._kept_eval += modules
        self.train(self.training)

    def fuse_batchnorm(self) -> None:
        """Uses a copy of the extractor with batch norm fused.

        The extractor's weights and device must not change afterwards. Normalisations of the copy
        are in evaluation mode, its other modules in training mode.
        """
        still = fuse_batchnorm(self.extractor)
        for module in still.modules():
            module.training = not isinstance(module, _BatchNorm)
        self._still = [still]

    def compile_extractor(self, *, constant: bool = False) -> None:
        """Compiles the extractor at its first run; the fused copy, if there is one.

        Args:
            constant: Whether its weights become constants of the compiled code. They must not
                change any more, and no gradient passes through it.
        """
        self._running.compile()
        self._constant, self._is_compiled = constant, True

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        for module in self._kept_eval:
            module.eval()
        return self

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Sets evaluation mode without gradients inside this context; restores the modes after it.

        Compiled extractors run uncompiled: every size of photographs would be compiled anew.
        """
        modes = {module: module.training for module in (*self.modules(), *self._running.modules())}
        try:
            for module in modes:
                module.training = False
            with torch.no_grad(), _as_written() if self._is_compiled else contextlib.nullcontext():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Outputs:
        """Computes logits, in float32 also under autocast: losses need the digits."""
        with _constants() if self._constant else contextlib.nullcontext():
            features = self._running(images)
        size = images.shape[-2:]
        features, logits_lowres = self._running.score(features, self.groups, self.background)
        auxiliary = [  # an extractor gives nothing to read in evaluation
            self.extractor.enlarge(apply_heads(list(more.children()), seen, self.background), size)
            for more, seen in zip(self.auxiliary, features.auxiliary, strict=False)
        ]
        return Outputs(
            self.extractor.enlarge(logits_lowres, size), logits_lowres, features, tuple(auxiliary)
        )

    def classify(self, logits: Float[Tensor, "b c h w"]) -> Int[Tensor, "b h w"]:
        """Returns the class of each pixel: 0 background, 1.. in learning order."""
        return classify(logits, self.unknown, self.background)

    def decisive(self, logits: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Returns the scores that decisions compare; see `decisive_logits`."""
        return decisive_logits(logits, self.background)

    def classifiers(self) -> Classifiers:
        """Returns the weights of all outputs in one matrix, through which gradients pass.

        Its heads must be single 1x1 convolutions (`HeadKind.is_linear`) or class tokens.
        """
        weight = torch.cat([head.weight.flatten(1) for head in self.groups])
        bias = torch.cat([head.bias for head in self.groups])
        if self.background == "rejected":
            weight, bias = F.pad(weight, (0, 0, 1, 0)), F.pad(bias, (1, 0))
        return Classifiers(weight, bias)


def _as_written() -> contextlib.AbstractContextManager[object]:
    return torch.compiler.set_stance("force_eager")


@contextlib.contextmanager
def _constants() -> Iterator[None]:
    """Inside this context torch.compile treats weights as constants.

    This works without gradients only. Every call must run inside it: the compiler then checks
    whether a later network has the same weights.
    """
    import torch._inductor.config as compiler

    with torch.no_grad(), compiler.patch(freezing=True):
        yield


def decisive_logits(
    logits: Float[Tensor, "b c h w"], background: BackgroundOutput
) -> Float[Tensor, "b c h w"]:
    """Puts the constant 0 in the place of an auxiliary output, which no decision may see."""
    if background != "auxiliary":
        return logits
    return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, 1:]], 1)


def classify(
    logits: Float[Tensor, "b c h w"],
    unknown: UnknownScores,
    background: BackgroundOutput = "argmax",
) -> Int[Tensor, "b h w"]:
    """Turns logits into classes; the unknown class's score is added to the background's.

    As in SSUL (Cha et al., NeurIPS 2021): the sum may exceed 1, and no threshold is applied.

    Args:
        logits: Scores of [unknown,] background, classes.
        unknown: Function to the unknown class's score; None if there is no such class.
        background: Meaning of output 0, without an unknown class. Of equal scores the first wins: a
            class whose sigmoid is 0.5 is not chosen.
    """
    if unknown is None:
        return decisive_logits(logits, background).argmax(1)
    return class_scores(logits, unknown).argmax(1)


def class_scores(
    logits: Float[Tensor, "b c h w"],
    unknown: UnknownScores,
    background: BackgroundOutput = "argmax",
) -> Float[Tensor, "b classes h w"]:
    """Turns logits into scores of the classes: softmax, or the unknown class's function.

    The unknown class's score is added to the background's, and so may exceed 1 of sigmoids.
    Without a background output, scores are sigmoids, and the background's is what the surest class
    leaves of 1.
    """
    if background != "argmax":
        each = logits[:, 1:].sigmoid()
        return torch.cat([1 - each.amax(1, keepdim=True), each], 1)
    scores = logits.sigmoid() if unknown == "sigmoid" else logits.softmax(1)
    if unknown is None:
        return scores
    return torch.cat([scores[:, :1] + scores[:, 1:2], scores[:, 2:]], 1)
