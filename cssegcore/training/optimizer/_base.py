"""How weights move: the numbers of SGD and its learning rate over a step."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """SGD with Nesterov momentum and a polynomial decay per iteration.

    Attributes:
        batch_size: Images an iteration, over all processes.
        momentum: Of SGD.
        weight_decay: On every weight, norms and biases too, as the field does.
        power: lr at iteration i of n is `lr * (1 - i/n) ** power`.
        warmup: Share of the iterations over which the lr rises to that from a thousandth of it.
        floor: No lr falls below it (SSUL on VOC: 1e-6).
        backbone_lr: Factor of the backbone's lr (SSUL's base step: 0.1).
        clip: Largest gradient norm; 0 clips nothing.
        amp: Whether CUDA runs convolutions in bfloat16; losses stay in float32.
        compile: Whether PyTorch compiles the networks' extractors when they first run: on a GPU
            all, on a CPU those that stand still. That takes seconds or minutes in each step; what
            it gains is in docs/performance.md. With several processes on GPUs it breaks off at
            every normalisation, and gains less.
        accumulate: Pieces that a process cuts its share of a batch into, to run one after the other
            in less memory; normalisations see a piece at a time.
    """

    batch_size: int
    momentum: float
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
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, got {self.batch_size}")
        if not 1 <= self.accumulate <= self.batch_size:
            raise ValueError(
                f"`accumulate` must lie in [1, `batch_size`] = [1, {self.batch_size}], got"
                f" {self.accumulate}"
            )
        if not 0 < self.momentum < 1:
            raise ValueError(f"`momentum` must lie in (0, 1) for Nesterov, got {self.momentum}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"`warmup` is a share of the iterations in [0, 1], got {self.warmup}")
        for name in ("weight_decay", "power", "clip", "floor", "backbone_lr"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")

    def lr(self, base: float, iteration: int, iterations: int) -> float:
        """Returns the learning rate of one iteration, counted from 0."""
        rate = base * (1 - iteration / iterations) ** self.power
        rising = int(self.warmup * iterations)
        if iteration < rising:
            done = iteration / rising
            rate *= 0.001 * (1 - done) + done
        return max(rate, self.floor)
