"""The numbers that all optimizers share, and the state of one during a training."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.nn import Parameter

from cssegcore.core.ranges import at_least, non_negative
from cssegcore.core.types import UpdateFactors

Groups = Mapping[UpdateFactors, Sequence[Parameter]]
"""The weights in training, grouped by the factors of their learning rate and weight decay."""


class Updater(abc.ABC):
    """An optimizer during one training: the weights that it updates, and its state."""

    @abc.abstractmethod
    def zero_grad(self) -> None:
        """Sets all gradients to None."""

    @abc.abstractmethod
    def step(self, lr: Callable[[float], float]) -> None:
        """Updates every weight that has a gradient.

        Args:
            lr: Returns the learning rate of a group from its factor `UpdateFactors.lr`.
        """

    @property
    @abc.abstractmethod
    def state(self) -> Any:  # noqa: ANN401 - plain containers of tensors, each optimizer's own
        """Everything that changes during training, for resuming; not copied."""

    @state.setter
    @abc.abstractmethod
    def state(self, state: Any) -> None: ...  # noqa: ANN401


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
    """Batch size, polynomial decay of the learning rate per iteration, and precision.

    Attributes:
        batch_size: Images an iteration, over all processes.
        weight_decay: Decay of every weight, norms and biases too, as the field does.
        power: lr at iteration i of n is `lr * (1 - i/n) ** power`.
        clip: Largest gradient norm; 0 clips nothing.
        amp: Whether CUDA runs convolutions in bfloat16; losses stay in float32.
        warmup: Share of the iterations over which the lr rises to that from a thousandth of it.
        floor: Least learning rate (SSUL on VOC: 1e-6).
        backbone_lr: Factor of the backbone's lr (SSUL's base step: 0.1).
        accumulate: Micro-batches that a process cuts its share of a batch into, to run one after
            the other in less memory; batch norm sees one at a time.
        compile: Whether PyTorch compiles the networks' extractors when they first run: on a GPU
            all, on a CPU the frozen ones. That takes seconds or minutes in each step;
            docs/performance.md has the gain. With several processes on GPUs it breaks off at every
            normalisation, and gains less.
    """

    batch_size: int
    weight_decay: float
    power: float
    clip: float
    amp: bool
    warmup: float = 0.0
    floor: float = 0.0
    backbone_lr: float = 1.0
    accumulate: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size)
        if not 1 <= self.accumulate <= self.batch_size:
            raise ValueError(
                f"`accumulate` must lie in [1, `batch_size`] = [1, {self.batch_size}], got"
                f" {self.accumulate}"
            )
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"`warmup` is a share of the iterations in [0, 1], got {self.warmup}")
        non_negative(weight_decay=self.weight_decay, power=self.power, clip=self.clip)
        non_negative(floor=self.floor, backbone_lr=self.backbone_lr)

    def lr(self, base: float, iteration: int, iterations: int) -> float:
        """Returns the learning rate of one iteration, counted from 0."""
        rate = base * (1 - iteration / iterations) ** self.power
        rising = int(self.warmup * iterations)
        if iteration < rising:
            done = iteration / rising
            rate *= 0.001 * (1 - done) + done
        return max(rate, self.floor) if base else 0.0  # what is not to learn does not

    @abc.abstractmethod
    def start(self, groups: Groups) -> Updater:
        """Starts to update the weights of `groups`."""


def group_weights(
    weights: Mapping[str, Parameter], factors: Mapping[str, UpdateFactors], backbone_lr: float
) -> Groups:
    """Groups weights by the factors of their updates.

    Args:
        weights: The weights in training by name.
        factors: Factors by the weight's name; 1 for weights that are not named.
        backbone_lr: A further factor of the backbone's learning rates.
    """
    groups: dict[UpdateFactors, list[Parameter]] = {}
    for name, weight in weights.items():
        own = factors.get(name, UpdateFactors())
        if name.startswith("extractor.backbone."):
            own = own._replace(lr=own.lr * backbone_lr)
        groups.setdefault(own, []).append(weight)
    return groups
