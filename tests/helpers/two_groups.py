"""Four weights in two groups and their gradients: what the tests of every optimizer share."""

import torch

from cssegcore.core.types import UpdateFactors

WHOLE, SLOW = UpdateFactors(), UpdateFactors(lr=0.25, weight_decay=0.5)


def weights(seed=0):
    """Returns four weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,), (2, 3, 1, 1), (4,)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def groups(made):
    """Puts two weights in each group."""
    return {WHOLE: made[:2], SLOW: made[2:]}


def give_gradients(made, at):
    """Sets the gradients of an iteration; the last weight has none in the first two."""
    generator = torch.Generator().manual_seed(100 + at)
    for place, weight in enumerate(made):
        gradient = torch.randn(weight.shape, generator=generator)
        weight.grad = None if place == 3 and at < 2 else gradient


def lr(at, factor):
    """The learning rate of a group in an iteration."""
    return factor * 0.1 * (1 - at / 10)
