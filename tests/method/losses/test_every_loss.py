"""What holds for every loss and penalty; one that is added is checked without a line here."""

import dataclasses
import math

import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part, part_names
from cssegcore.core.types import BACKGROUND
from cssegcore.method.losses import Loss
from cssegcore.method.losses._base import Term
from cssegcore.method.method import SLOTS
from tests.helpers.loss_tester import OLD, Case, LossTester, every_term

TERMS = every_term()
LOSSES = [name for name, term in TERMS.items() if isinstance(term, Loss)]
SUPERVISED = [name for name in LOSSES if TERMS[name].is_supervised and not TERMS[name].void_is_no]
OF_THE_WHOLE_BATCH = {
    "attraction": "a mean over classes",
    "old_features": "a mean over what the old model sees",
    "prototype_matching": "means of classes",
    "replayed_bce": "a share of background that the old model decides",
    "repulsion": "distances of the means of classes",
    "separation": "directions of the means of classes",
    "sparsification": "maxima of classes",
    "weighted_feature_mse": "places of new classes, which labels alone do not tell, do not count",
    "teacher_mse": "teachers that know fewer outputs count less",
}
"""Losses that the mean over pieces of a batch only stands for, and why."""
HALF_THE_SLOPE = {"orthogonal"}
"""Losses whose gradient is stopped at what they compare with, which tests of their own check."""


@pytest.mark.parametrize("name", TERMS)
class TestEveryTerm:
    def test_gradients_fit_the_values(self, name):
        if name in HALF_THE_SLOPE:
            pytest.skip("its gradient is not that of its value, by design")
        LossTester(TERMS[name]).check_gradients()

    def test_values_and_gradients_are_finite(self, name):
        LossTester(TERMS[name]).check_extremes()

    def test_no_wait_for_the_device(self, name):
        if getattr(TERMS[name], "gather", "") == "released":
            pytest.skip("SDR's released order of features is there for its numbers, and waits")
        LossTester(TERMS[name]).check_no_wait()


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_halves_are_computed_in_float32(self, name):
        LossTester(TERMS[name]).check_halves()

    def test_pieces_make_the_whole(self, name):
        part = name.split(",")[0]
        found = LossTester(TERMS[name]).pieces_make_the_whole()
        assert found == (part not in OF_THE_WHOLE_BATCH)

    def test_what_old_labels_tell_is_what_it_says(self, name):
        batch, term = Case(TERMS[name]).batch, TERMS[name]
        is_old = (batch.labels > BACKGROUND) & (batch.labels < OLD)
        hidden = torch.where(is_old, BACKGROUND, batch.labels)
        told, untold = (
            dataclasses.replace(batch, labels=labels, annotated=labels)
            for labels in (batch.labels, hidden)
        )
        assert torch.equal(term(told), term(untold)) != term.reads_old_labels


@pytest.mark.parametrize("name", SUPERVISED)
def test_what_stands_under_void_does_not_matter(name):
    LossTester(TERMS[name]).check_void()


@pytest.mark.parametrize("part", part_names(SLOTS["losses"]))
@pytest.mark.parametrize("weight", [-1, math.inf, math.nan])
def test_a_weight_that_is_no_number_is_refused(part, weight):
    with pytest.raises(InputError, match=rf"`x`: `weight`.*got {float(weight)}"):
        build_part(SLOTS["losses"], Term, {"part": part, "weight": weight}, "x")
