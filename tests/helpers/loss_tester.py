"""Checks that every part of the slot `losses` must pass, whatever it computes.

A new loss is found and checked without a line here; only its formula needs a test of its own.
"""

import dataclasses
import itertools
import typing

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.registry import build_part, part_names
from cssegcore.core.types import IGNORE
from cssegcore.method.losses import Loss, LossInputs, Penalty, PenaltyInputs
from cssegcore.method.losses._base import Term
from cssegcore.method.method import SLOTS
from cssegcore.method.statistics import Statistic, StatisticContext
from cssegcore.models.outputs import Classifiers, Features, Outputs
from cssegcore.training.loss_scaling import PieceLabels
from tests.helpers.sync_detector import Watch

OLD, ALL, IMAGES, SIZE = 3, 6, 3, 8
"""Outputs of the old model and of the new one, images in a batch, and pixels along its sides."""
HALVES = (torch.bfloat16, torch.float16)


def every_term() -> dict[str, Term]:
    """Returns every part of the slot, and every value of each choice that it offers."""
    found = {}
    for part in part_names(SLOTS["losses"]):
        found[part] = term = build_part(SLOTS["losses"], Term, {"part": part}, part)
        for name, kind in typing.get_type_hints(type(term)).items():
            choices = (False, True) if kind is bool else typing.get_args(kind)
            if kind is not bool and typing.get_origin(kind) is not typing.Literal:
                continue
            for choice in set(choices) - {getattr(term, name)}:
                changed = dataclasses.replace(term, **{name: choice})
                found[f"{part}, {name} {choice}"] = changed
    return dict(sorted(found.items()))


@dataclasses.dataclass
class Case:
    """A term and all that it may read, drawn at random.

    Attributes:
        term: The term.
        dtype: Of scores and features, or of weights.
        scale: Of the same.
        classes: Labels are drawn among these.
        images: Which of the batch are in it.
    """

    term: Term
    dtype: torch.dtype = torch.float32
    scale: float = 1.0
    classes: tuple[int, ...] = (*range(ALL), IGNORE, IGNORE)
    images: slice = dataclasses.field(default_factory=lambda: slice(None))

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self.leaves: dict[str, Tensor] = {}
        """What training moves."""
        if isinstance(self.term, Penalty):
            self.weights = self._penalty_inputs(self.term)
            return
        labels = self._rng.choice(self.classes, (IMAGES, SIZE, SIZE))
        self.labels = torch.tensor(labels)[self.images]
        new, old = self._outputs(ALL), self._outputs(OLD)
        teachers = self._maps(OLD, SIZE)
        teachers[1:, OLD - 1] = -torch.inf
        hidden = torch.tensor(self._rng.random(labels.shape) < 0.5)[self.images]
        annotated = torch.where(hidden & (self.labels < OLD), 0, self.labels)
        self.leaves = {"logits": new.logits, "logits_lowres": new.logits_lowres}
        self.leaves |= {f"stage {i}": stage for i, stage in enumerate(new.features.stages)}
        self.leaves |= {"last_stage": new.features.last_stage}
        self.leaves |= {"decoder_out": new.features.decoder_out}
        assert new.features.classes is not None
        self.leaves |= {"classes": new.features.classes}
        gathered = self._gathered(annotated) if self.term.statistic else {}
        layers, old_layers = self._classifiers(ALL), self._classifiers(OLD)
        self.leaves |= {"weight": layers.weight, "bias": layers.bias}
        self.batch = LossInputs(
            *(new, old, self.labels, annotated, OLD, gathered),
            teacher_logits=teachers[self.images],
            classifiers=layers,
            old_classifiers=old_layers,
        )
        for leaf in self.leaves.values():
            leaf.requires_grad_()

    def value(self) -> Tensor:
        """Computes the term."""
        if isinstance(self.term, Penalty):
            return self.term(self.weights)
        assert isinstance(self.term, Loss)
        return self.term(self.batch)

    def gradients(self) -> dict[str, Tensor]:
        """Computes the slopes of what the term reads."""
        found = torch.autograd.grad(self.value(), [*self.leaves.values()], allow_unused=True)
        return {k: g for k, g in zip(self.leaves, found, strict=True) if g is not None}

    def _maps(self, channels: int, size: int) -> Tensor:
        drawn = 2 * self._rng.standard_normal((IMAGES, channels, size, size))
        return (self.scale * torch.tensor(drawn)).to(self.dtype)

    def _outputs(self, outputs: int) -> Outputs:
        half = SIZE // 2
        maps = [self._maps(n, size) for n, size in ((outputs, SIZE), (outputs, half), (4, SIZE))]
        deep = self._maps(6, half)
        logits, lowres, shallow, deep = (m[self.images] for m in (*maps, deep))
        active = (deep.abs() + 0.1 * self.scale).to(self.dtype)
        tokens = torch.tensor(self._rng.standard_normal((IMAGES, outputs, 6))).to(self.dtype)
        classes = tokens[self.images]
        return Outputs(
            logits, lowres, Features((shallow, deep), active, active.clone(), classes=classes)
        )

    def _classifiers(self, outputs: int) -> Classifiers:
        """Draws weights of no image, so alike for every piece of a batch."""
        weight, bias = (self._rng.standard_normal(size) for size in ((outputs, 6), (outputs,)))
        return Classifiers(torch.tensor(weight).to(self.dtype), torch.tensor(bias).to(self.dtype))

    def _gathered(self, labels: Tensor) -> dict[str, dict[str, Tensor]]:
        """Has the statistic that the term reads see another batch."""
        statistic = self._statistic()
        if statistic.needs_final_pass:
            return {self.term.statistic: self._handed_on(statistic, labels)}
        accumulator = statistic.start(StatisticContext(0, {}, ALL, 1, 6, None))
        accumulator.update_batch(self._outputs(ALL), labels)
        return {self.term.statistic: accumulator.state}

    def _handed_on(self, statistic: Statistic, labels: Tensor) -> dict[str, Tensor]:
        """Has it look at the end of a base step, and at the start of the step that follows."""
        base = statistic.start(StatisticContext(0, {}, OLD, 1, 6, None, 6))
        base.conclude([(self._outputs(OLD), labels)] * 9)
        handed_on = base.result()
        following = StatisticContext(1, {}, ALL, OLD, 6, handed_on, 6)
        accumulator = statistic.start(following)
        accumulator.prepare([(self._outputs(OLD), labels)])
        return accumulator.state

    def _statistic(self) -> Statistic:
        recipe = {"part": self.term.statistic}
        return build_part(SLOTS["statistics"], Statistic, recipe, "statistics")

    def _penalty_inputs(self, term: Penalty) -> PenaltyInputs:
        """Has the statistic see three iterations of two weights; one is new in the step after."""
        drawn = [torch.tensor(self._rng.standard_normal((4, 3))).to(self.dtype) for _ in range(2)]
        held = {name: Parameter(self.scale * d) for name, d in zip("ab", drawn, strict=True)}
        accumulator = self._statistic().start(StatisticContext(0, held, ALL, 1, 6, None))
        for _ in range(3):
            for weight in held.values():
                weight.grad = self.scale * torch.tensor(self._rng.random((4, 3))).to(self.dtype)
                weight.data.sub_(weight.grad)
            accumulator.update_gradients()
        old = {name: weight.detach() for name, weight in held.items()}
        now = {name: Parameter(weight + self.scale) for name, weight in old.items()}
        self.leaves = {**now, "new": Parameter(torch.ones(2, dtype=self.dtype))}
        return PenaltyInputs(self.leaves, old, term.importance(accumulator.result()))


@dataclasses.dataclass(frozen=True)
class LossTester:
    """The checks of a term."""

    term: Term

    def check_gradients(self) -> None:
        """Checks that slopes fit the values, in float64."""
        case = Case(self.term, torch.float64)
        found = case.gradients()
        assert any(g.abs().sum() > 0 for g in found.values()), "it moves nothing"
        leaves = [case.leaves[name] for name in found]
        assert torch.autograd.gradcheck(lambda *_: case.value(), leaves, fast_mode=True)

    def check_halves(self) -> None:
        """Checks that halves are widened before anything is computed, and autocast cuts nothing."""
        for dtype in HALVES:
            case, wide = Case(self.term, dtype), Case(self.term, dtype)
            wide.batch = widened(wide.batch)
            value = case.value()
            assert value.dtype == torch.float32, f"{dtype} gives {value.dtype}"
            torch.testing.assert_close(value.double(), wide.value().double(), rtol=1e-5, atol=1e-6)
            assert all(g.isfinite().all() for g in case.gradients().values()), dtype
        case = Case(self.term)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = case.value()
        torch.testing.assert_close(reduced, case.value(), rtol=1e-6, atol=0)

    def check_extremes(self) -> None:
        """Checks that numbers are finite for sure and for flat scores, whatever is labelled."""
        kinds = [(IGNORE,), (0,), (1,), (ALL - 1,), (OLD, ALL - 1), (0, 1, OLD, IGNORE)]
        for classes, scale in itertools.product(kinds, (0.0, 1e-30, 1e-20, 1.0, 1e4)):
            images = slice(1) if scale == 1 else slice(None)
            case = Case(self.term, scale=scale, classes=classes, images=images)
            value, said = case.value(), f"labels {classes}, scores times {scale}"
            assert (value.dtype, value.shape) == (torch.float32, ()), said
            assert value.isfinite(), said
            assert all(g.isfinite().all() for g in case.gradients().values()), said

    def check_no_wait(self) -> None:
        """Checks that neither pass asks the device for a number."""
        case = Case(self.term)
        case.value()  # what is computed once and kept may wait
        with Watch() as watch:
            case.value().backward()
        assert watch.operations > 0
        assert watch.seen == []

    def check_void(self) -> None:
        """Checks of a supervised term that nothing under the label 255 moves it, or is moved."""
        clean, poisoned = Case(self.term), Case(self.term)
        void = (clean.labels == IGNORE)[:, None].expand_as(clean.batch.logits)
        with torch.no_grad():
            poisoned.batch.logits[void] = 1e4
        assert torch.equal(poisoned.value(), clean.value())
        slopes = poisoned.gradients()
        assert "logits" in slopes
        assert (slopes["logits"][void] == 0).all()
        assert (slopes["logits"][~void] != 0).any()
        nothing = Case(self.term, classes=(IGNORE,))
        assert nothing.value() == 0
        assert all((g == 0).all() for g in nothing.gradients().values())

    def pieces_make_the_whole(self) -> bool:
        """Tells whether the term over two pieces, by its `normalizer`, is that of the batch."""
        assert isinstance(self.term, Loss)
        pieces = [Case(self.term, torch.float64, images=s) for s in (slice(1), slice(1, IMAGES))]
        lowres = (SIZE // 2, SIZE // 2)
        seen = [PieceLabels(p.labels, p.batch.annotated, lowres).of(self.term) for p in pieces]
        counts = [self.term.normalizer(labels) for labels in seen]
        values = torch.stack([piece.value() for piece in pieces])
        shares = torch.stack(counts) / torch.stack(counts).sum()
        whole = Case(self.term, torch.float64).value()
        return torch.allclose((shares * values).sum(), whole, rtol=1e-7)


def widened(batch: LossInputs) -> LossInputs:
    """Returns the same numbers in float64."""

    def wide(tensor: Tensor) -> Tensor:
        return tensor.detach().double() if tensor.is_floating_point() else tensor

    def outputs(given: Outputs) -> Outputs:
        features = given.features
        stages, seen = tuple(map(wide, features.stages)), wide(features.last_stage)
        lowres = wide(given.logits_lowres)
        assert features.classes is not None
        classes = wide(features.classes)
        return Outputs(wide(given.logits), lowres, Features(stages, seen, seen, classes=classes))

    def layers(given: Classifiers) -> Classifiers:
        return Classifiers(wide(given.weight), wide(given.bias))

    assert batch.teacher_logits is not None
    return dataclasses.replace(
        batch,
        new=outputs(batch.new),
        old=outputs(batch.old_outputs),
        teacher_logits=wide(batch.teacher_logits),
        classifiers=layers(batch.head_weights),
        old_classifiers=layers(batch.old_head_weights),
    )
