"""The clock of the measurements, the machine's name, and what its device can do at best."""

import argparse
import dataclasses
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F

from cssegcore.runtime.device import choose_device

SIDE = {"cuda": 8192, "cpu": 2048}
"""Of the square matrices whose product is timed."""
COPIED = {"cuda": 2**30, "cpu": 2**28}
"""Bytes of a copy: more than any cache holds."""
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Clock:
    """Tells the time once a device has done all its work.

    Attributes:
        device: Which.
        processor: Whether seconds are those that processors spent on this process and not the
            wall's. On a machine that does other work ratios of them still mean something.
    """

    device: torch.device
    processor: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Clock":
        """Returns the clock that the command line asks for, on the device that there is."""
        device = choose_device()
        if given.processor and device.type != "cpu":
            raise SystemExit("--processor tells nothing of a GPU: leave it out.")
        if given.processor:
            torch.set_num_threads(1)  # threads that wait for others count as busy
        return cls(device, given.processor)

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        """Adds the option."""
        said = "processor seconds of one thread, not the wall's: for ratios on a busy machine"
        parser.add_argument("--processor", action="store_true", help=said)

    def now(self) -> float:
        """Returns seconds since whenever."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.processor else time.perf_counter()

    def seconds(self, work: Callable[[], object]) -> float:
        """Returns how long `work` takes."""
        start = self.now()
        work()
        return self.now() - start

    def turns(
        self, works: Mapping[str, Callable[[], object]], turns: int
    ) -> dict[str, list[float]]:
        """Times works in turn, so that what else the machine does falls on all; warms up first."""
        taken: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(turns + 1):
            for name, work in works.items():
                seconds = self.seconds(work)
                taken[name] += [seconds] if turn else []
        return taken

    @property
    def machine(self) -> str:
        """Says what ran, and what its seconds are."""
        name, threads = platform.machine(), f", {torch.get_num_threads()} threads"
        if self.device.type == "cuda":
            name, threads = torch.cuda.get_device_name(self.device), ""
        unit = ", processor seconds" if self.processor else ""
        return f"{name}{threads}, torch {torch.__version__}{unit}"


def quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Returns the lower quartile, the median and the upper quartile."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return low, middle, high


def arithmetic_rate(clock: Clock, dtype: torch.dtype) -> float:
    """Measures the most floating-point operations a second that the device reaches.

    The fastest of several runs of a large product of square matrices and of a large 3x3
    convolution, whose libraries may need fewer operations than are counted (Winograd). On CUDA
    those of float32 run in TF32.
    """
    side, device = SIDE[clock.device.type], clock.device
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    images = torch.rand(8, 256, side // 64, side // 64, device=device).to(dtype)
    images = images.to(memory_format=torch.channels_last)
    kernel = torch.rand(256, 256, 3, 3, device=device).to(dtype)
    kernel = kernel.to(memory_format=torch.channels_last)
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as float32 convolutions have by default
    product = 2 * side**3 / _fastest(clock, lambda: left @ right)
    count = 2 * images.numel() * 256 * 9
    convolution = count / _fastest(clock, lambda: F.conv2d(images, kernel, padding=1))
    torch.set_float32_matmul_precision(before)
    return max(product, convolution)


def copy_rate(clock: Clock) -> float:
    """Measures bytes a second, read and written, of a large copy."""
    size = COPIED[clock.device.type]
    source = torch.ones(size, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return 2 * size / _fastest(clock, lambda: target.copy_(source))


def _fastest(clock: Clock, work: Callable[[], object]) -> float:
    """Other work on the machine only ever slows a run, so the fastest is nearest to the limit."""
    return min(clock.turns({"": work}, REPEATS)[""])
