"""Interface of a loss term, and its inputs."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.ranges import non_negative
from cssegcore.core.tensors import Tensors
from cssegcore.core.types import IGNORE, Scores
from cssegcore.models.outputs import Classifiers, Outputs
from cssegcore.runtime.draws import Draws

Average = Literal["all", "labelled"]
"""Divisor of a sum over pixels: the number of all pixels, as in the field's released code, or of
labelled pixels only, as in the papers."""


@dataclasses.dataclass(frozen=True)
class LossInputs:
    """One batch after its forward passes.

    Attributes:
        new: Outputs of the network in training.
        old: Outputs of the old model; absent in a step that starts afresh and where no term
            asks for it.
        labels: Network outputs to train on, pseudo-labels included, 255 where there is no label.
        annotated: Network outputs as annotated for this step, without pseudo-labels.
        num_old: Outputs k of the old model, background included; 1 where there is none, which
            turns every unbiased loss into its plain form.
        statistics: State of the accumulators that a loss reads, by part, this batch included.
        teacher_logits: Logits of each generated image by its teacher, for the old outputs, at full
            size; -inf for outputs that the teacher does not know.
        classifiers: The weights of all outputs, with gradient, if a loss reads them.
        old_classifiers: The old model's weights of its outputs, if there is an old model.
        draws: Random numbers of this iteration.
    """

    new: Outputs
    old: Outputs | None
    labels: Int[Tensor, "b h w"]
    annotated: Int[Tensor, "b h w"]
    num_old: int
    statistics: Mapping[str, Tensors] = dataclasses.field(default_factory=dict)
    teacher_logits: Float[Tensor, "b k h w"] | None = None
    classifiers: Classifiers | None = None
    old_classifiers: Classifiers | None = None
    draws: Draws = dataclasses.field(default_factory=lambda: Draws((0,)))

    @property
    def logits(self) -> Float[Tensor, "b c h w"]:
        """Full-size scores of the network in training."""
        return self.new.logits

    @property
    def old_outputs(self) -> Outputs:
        """Outputs of the old model, for terms with `needs_old`."""
        assert self.old is not None, "the objective runs the old model for terms that need it"
        return self.old

    @property
    def head_weights(self) -> Classifiers:
        """The network's classifiers, for terms with `reads_classifiers`."""
        assert self.classifiers is not None, "the objective gives them to terms that read them"
        return self.classifiers

    @property
    def old_head_weights(self) -> Classifiers:
        """The old model's classifiers, for terms with `reads_classifiers` and `needs_old`."""
        assert self.old_classifiers is not None, "the objective gives them to terms that read them"
        return self.old_classifiers


@dataclasses.dataclass(frozen=True)
class PenaltyInputs:
    """Inputs of a penalty on weights.

    Attributes:
        now: The weights in training, by name.
        old: Weights of the old model; weights that are new in this step are not in it.
        importance: Importance of each weight by the penalty's statistic (`Penalty.importance`).
    """

    now: Tensors
    old: Tensors
    importance: Tensors


@dataclasses.dataclass(frozen=True)
class Term:
    """A term of the objective, already averaged; `Objective` multiplies it by `weight`.

    Class attributes say what a term needs, so that a senseless recipe is refused at once:

    needs_old: the old model's forward pass (of a penalty: its weights).
    needs_class_tokens: what class tokens became (`Features.classes`), which few networks have.
    needs_stages: the backbone's maps stage by stage, which transformers have not.
    needs_teachers: the logits of each generated image by its teacher.
    statistic: the part of the slot `statistics` that it reads, "" for none.
    scores: how it reads logits; None if it does not.
    reads_old_as: how it reads the old model's logits beside that, or what its statistic makes of
        them; None if it does not.
    is_supervised: whether it teaches the classes that are annotated.
    expects_background_at_0: whether output 0 must mean "no class seen so far", not the unknown
        class.
    acts_on_features: whether it moves features and no classifier.
    needs_pseudo_labels: whether it is another, simpler term where there are none.
    needs_new_classes: whether it makes no sense in a step that adds no class.
    reads_annotated: whether a loss is a mean over the annotated labels, not over those with
        pseudo-labels.
    reads_old_labels: whether the label of an old class tells it other things than background does.
    reads_classifiers: whether it computes with the weights of the heads, which must be single 1x1
        convolutions.
    needs_linear_scores: whether it scores features by those weights itself, which class tokens do
        not allow.
    void_is_no: whether pixels labelled 255 teach as well, that they are none of its classes.
    trains_auxiliary: whether it teaches an auxiliary output 0.
    """

    weight: float = dataclasses.field(default=1.0, kw_only=True)

    needs_old: ClassVar[bool] = False
    needs_class_tokens: ClassVar[bool] = False
    needs_stages: ClassVar[bool] = False
    needs_teachers: ClassVar[bool] = False
    statistic: ClassVar[str] = ""
    scores: ClassVar[Scores | None] = None
    reads_old_as: ClassVar[Scores | None] = None
    is_supervised: ClassVar[bool] = False
    expects_background_at_0: ClassVar[bool] = False
    acts_on_features: ClassVar[bool] = False
    needs_pseudo_labels: ClassVar[bool] = False
    needs_new_classes: ClassVar[bool] = False
    reads_annotated: ClassVar[bool] = False
    reads_old_labels: ClassVar[bool] = False
    reads_classifiers: ClassVar[bool] = False
    needs_linear_scores: ClassVar[bool] = False
    void_is_no: ClassVar[bool] = False
    trains_auxiliary: ClassVar[bool] = False

    def __post_init__(self) -> None:
        non_negative(weight=self.weight)

    @property
    def reads_background(self) -> bool:
        """Whether it takes output 0, which a model may lack, for a score of the background."""
        return self.scores is not None


class Loss(Term, abc.ABC):
    """A term over a batch."""

    @abc.abstractmethod
    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        """Computes the unweighted term."""

    @property
    def reads_lowres(self) -> bool:
        """Whether the term is a mean over `Outputs.logits_lowres`, by labels of that size."""
        return False

    def normalizer(self, labels: Int[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """Returns the divisor of the term's mean. Micro-batches are weighted by it.

        By default the number of pixels, which weights micro-batches by their images. For a term
        over the batch as a whole, such as a distance of class means, their mean is a substitute.

        Args:
            labels: The labels that the term reads (`reads_annotated`), at the size of its logits
                (`reads_lowres`).
        """
        return torch.full((), labels.numel(), dtype=torch.float64, device=labels.device)


@dataclasses.dataclass(frozen=True)
class Averaged(Loss):
    """A mean over pixels that may leave out unlabelled ones."""

    average: Average = "all"

    def normalizer(self, labels: Int[Tensor, "b h w"]) -> Float[Tensor, ""]:
        if self.average == "all":
            return super().normalizer(labels)
        return (labels != IGNORE).sum(dtype=torch.float64)


class Penalty(Term, abc.ABC):
    """A term over the weights alone; its gradient is added after `statistics` saw the others'."""

    needs_old: ClassVar[bool] = True

    def importance(self, saved: Tensors) -> Tensors:
        """Computes `PenaltyInputs.importance` once per training; by default it is `saved`.

        Args:
            saved: Result of `statistic` at the end of the previous step; empty without one.
        """
        return saved

    @abc.abstractmethod
    def __call__(self, weights: PenaltyInputs) -> Float[Tensor, ""]:
        """Computes the unweighted term."""
