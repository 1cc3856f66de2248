"""NeST: a new class starts as a mixture of the old classifiers that is trained beforehand.

Xie et al., Early Preparation Pays Off: New Classifier Pre-tuning for Class Incremental Semantic
Segmentation, ECCV 2024, https://arxiv.org/abs/2407.14142; zhengyuan-xie/ECCV24_NeST.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.core.ranges import at_least, positive
from cssegcore.core.types import BACKGROUND
from cssegcore.method._class_features import nearest_labels
from cssegcore.method.classifier_init._base import ClassifierInit
from cssegcore.method.classifier_init._tuning import Tuning
from cssegcore.models.heads import FeatureHead, Head
from cssegcore.models.outputs import Outputs
from cssegcore.runtime.distributed import all_reduce_sum

SIDE = 128
"""Height and width, in pixels, at which importance is measured."""


def importance_sums(
    features: Float[Tensor, "b d hs ws"],
    old_logits: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    weight: Float[Tensor, "n d"],
    num_new: int,
) -> tuple[Float[Tensor, "k n d"], Int[Tensor, " k"]]:
    """Sums the importance of channel d for old output c over the pixels of each new class.

    A pixel counts q_c · [f_d w_cd > 0]: the old model's probability of c, where the channel raises
    its score. Labels are sampled, features and logits resized bilinearly, to `SIDE`².

    Deviation: none in value. Since [f_d w_cd > 0] needs the signs alone, the sums are two products
    of matrices, where the released code holds pixels · n · d numbers at once.

    Args:
        features: Features that the classifiers read.
        old_logits: Scores of the n old outputs, background included.
        labels: Network outputs; new classes from n on.
        weight: Rows of the old classifiers.
        num_new: Number of new classes, k.

    Returns:
        The sums, float64, and the number of pixels of each class.
    """
    size, num_old = (SIDE, SIDE), len(weight)
    labels_lowres = nearest_labels(labels, size)
    shares = F.interpolate(old_logits.float(), size, mode="bilinear").softmax(1).transpose(0, 1)
    seen = F.interpolate(features.float(), size, mode="bilinear").transpose(0, 1)
    sums, counts = [], []
    for output in range(num_old, num_old + num_new):
        there = labels_lowres == output
        own, channels = shares[:, there], seen[:, there]
        raised = own @ (channels > 0).float().T
        lowered = own @ (channels < 0).float().T
        sums.append(torch.where(weight > 0, raised, torch.where(weight < 0, lowered, 0.0)).double())
        counts.append(there.sum())
    return torch.stack(sums), torch.stack(counts)


def mixed_rows(
    channels: Float[Tensor, "k n d"], mix: Float[Tensor, "k n"], weight: Float[Tensor, "n d"]
) -> Float[Tensor, "k d"]:
    """Computes the rows of new classifiers: the sum over old outputs c of u_kc · (M_kc ∘ w_c)."""
    return torch.einsum("kn,knd,nd->kd", mix, channels, weight)


@final
@dataclasses.dataclass(frozen=True)
class Pretuned(ClassifierInit):
    """Trains the new classifiers as mixtures of the old ones, with all other weights still.

    Unbiased cross-entropy on the step's own images with their annotation, the step's optimizer with
    a state of its own. Running statistics of normalisations move, as in the released code. Then the
    method's own training begins, unchanged.

    Attributes:
        epochs: Passes over the step's images.
        lr: Learning rate at the first iteration; VOC 0.001, ADE20K 0.5.
    """

    epochs: int = 5
    lr: float = 0.001

    needs_linear_heads: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs)
        positive(lr=self.lr)

    def __call__(self, heads: Sequence[Head]) -> None:
        del heads  # the new one is overwritten, the others stay

    def tuning(self, heads: Sequence[Head]) -> "Mixture":
        return Mixture(heads)


@final
class Mixture(Tuning):
    """Channels and shares of the old classifiers in each new one, and in the background's.

    Deviations: a new bias starts as the background's; in the released code, as that of a network
    that is not trained yet, which is loaded afterwards without it. A class of which no view shows a
    pixel starts as the mean of all old classifiers; there, as NaN.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        """Starts with every channel as it is and all old classifiers alike.

        Args:
            heads: Heads of all steps, the new one last.

        Raises:
            InputError: A head is more than one 1x1 convolution.
        """
        super().__init__()
        self._heads: list[FeatureHead] = []  # in a list: their weights are not this module's
        for head in heads:
            if isinstance(head, FeatureHead) and set(head.parameters()) == {head.weight, head.bias}:
                self._heads.append(head)
            else:
                raise InputError(
                    "`method.classifier_init: pretuned` mixes the rows of linear classifiers, and"
                    " this network's heads have other weights: set `method.base.head` to linear, or"
                    " `method.classifier_init` to background or none."
                )
        new, old = self._new.weight, self.old_rows()
        k, (n, d) = len(new), old.shape
        self.channels = Parameter(old.new_ones(k, n, d))
        self.mix = Parameter(old.new_full((k, n), 1 / n))
        self.bias = Parameter(self._first_bias[BACKGROUND].detach().repeat(k))
        self.background_channels = Parameter(old.new_ones(d))
        self.background_mix = Parameter(old.new_ones(()))
        self._sums = torch.zeros(k, n, d, dtype=torch.float64, device=old.device)
        self._counts = torch.zeros(k, dtype=torch.int64, device=old.device)

    @property
    def _new(self) -> torch.nn.Conv2d:
        return self._heads[-1].classifier

    @property
    def _first_bias(self) -> Tensor:
        return self._heads[0].bias

    def old_rows(self) -> Float[Tensor, "n d"]:
        """Returns the rows of all old classifiers, without gradient."""
        rows = [head.weight.detach().flatten(1) for head in self._heads[:-1]]
        return torch.cat(rows)

    @torch.no_grad()
    def look(self, outputs: Outputs, labels: Int[Tensor, "b h w"]) -> None:
        rows = self.old_rows()
        old_logits, features = outputs.logits[:, : len(rows)], outputs.features.decoder_out
        sums, counts = importance_sums(features, old_logits, labels, rows, len(self.mix))
        self._sums += sums
        self._counts += counts

    def importance(self) -> Float[Tensor, "k n d"]:
        """Returns the mean over the pixels of each class that all processes saw; 1 without any."""
        sums, counts = all_reduce_sum(self._sums), all_reduce_sum(self._counts)[:, None, None]
        return torch.where(counts > 0, sums / counts.clamp(min=1), 1.0).to(self.channels.dtype)

    @torch.no_grad()
    def start(self) -> None:
        importance = self.importance()
        self.channels.copy_(importance)
        self.mix.copy_(importance.sum(2).softmax(1))

    def rows(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, " d"]]:
        """Returns the rows of the new classifiers and of the background's, as they are tuned."""
        old = self.old_rows()
        background = self.background_mix * (self.background_channels * old[BACKGROUND])
        return mixed_rows(self.channels, self.mix, old), background

    def replaced(self) -> dict[Parameter, Tensor]:
        new, background = self.rows()
        first, added = self._heads[0].weight, self._new
        assert isinstance(first, Parameter)
        assert isinstance(added.weight, Parameter)
        assert isinstance(added.bias, Parameter)
        kept = first.detach().flatten(1)[BACKGROUND + 1 :]
        return {
            first: torch.cat([background[None], kept]).view_as(first),
            added.weight: new.view_as(added.weight),
            added.bias: self.bias,
        }

    @torch.no_grad()
    def install(self) -> None:
        """Writes the rows, brought to the norms of the old ones.

        The background's row gets its old norm; the new rows' mean norm becomes that of all
        old rows; and the norm of the new biases, as one vector, that of all old biases (sic: the
        two vectors are of different length).
        """
        (new, background), old_norm = self.rows(), self.old_rows()[BACKGROUND].norm()
        first = self._heads[0].weight
        first[BACKGROUND] = (background * _ratio(old_norm, background.norm()))[:, None, None]
        old_biases = torch.cat([head.bias for head in self._heads[:-1]])
        gain = _ratio(self.old_rows().norm(dim=1).mean(), new.norm(dim=1).mean())
        self._new.weight.copy_((gain * new).view_as(self._new.weight))
        assert self._new.bias is not None
        self._new.bias.copy_(self.bias * _ratio(old_biases.norm(), self.bias.norm()))


def _ratio(wanted: Float[Tensor, ""], had: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Returns the factor that scales norm `had` to `wanted`; 1 if `had` is 0."""
    return torch.where(had > 0, wanted / had, 1.0)
