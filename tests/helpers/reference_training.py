"""Plain references for trainings: what a loop over weights computes by hand."""

import numpy as np
import torch

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.batches import training_batches
from tests.helpers.tiny_training import CPU


class PlainSgd:
    """SGD with Nesterov momentum 0.9 and weight decay, spelled out."""

    def __init__(self, network, decay=1e-4):
        self.weights = dict(network.named_parameters())
        self.decay = decay
        self.velocity = {name: torch.zeros_like(p) for name, p in self.weights.items()}

    @torch.no_grad()
    def step(self, gradients, lr):
        """Moves the weights; `lr` is a number or one a name."""
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
            gradient = gradient + self.decay * weight
            self.velocity[name].mul_(0.9).add_(gradient)
            rate = lr[name] if isinstance(lr, dict) else lr
            weight -= rate * (gradient + 0.9 * self.velocity[name])


def poly(iteration, iterations, lr=0.1, power=0.9):
    """The learning rate of an iteration."""
    return lr * (1 - iteration / iterations) ** power


def batches(trainer, epochs, size=2):
    """Yields the batches of a training, number by number, as its seed draws them."""

    data = trainer.data
    for epoch in range(epochs):
        rng = np.random.default_rng([data.seed, data.index, epoch])
        yield from training_batches(
            data.images, trainer.augmentation, size, rng, CPU, IMAGENET, data.replayed
        )


def assert_same_weights(got, wanted, atol=1e-4):
    """Both networks have the same weights, up to rounding."""
    for mine, theirs in zip(got.parameters(), wanted.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=atol)
