"""Threads of PyTorch's operations on a CPU, and threads that decode images.

No torch here: its OpenMP library reads the environment once, when it is loaded.
"""

import os

SPIN_COUNT = "10000"
"""Turns that an idle thread of libgomp spins before it sleeps; `bench.spinning` compares values."""


def limit_spinning() -> None:
    """Makes idle OpenMP threads sleep soon, so that busy processes on the same cores get them.

    libgomp's threads spin about 300,000 turns by default. Beside another busy process they hold
    cores that the thread they wait for needs, and a training runs many times slower. Sets
    `GOMP_SPINCOUNT` unless the environment sets it or `OMP_WAIT_POLICY`. Call it before torch is
    imported. Results do not depend on it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_threads(processes: int = 0) -> int:
    """Returns the number of threads that read and decode images in a process of this machine.

    Two a core, as they wait for disks, and 16 at most, as each holds an image.

    Args:
        processes: Processes that share the cores; 0 for as many as torchrun started.
    """
    share = processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(16, 2 * cores() // share))
