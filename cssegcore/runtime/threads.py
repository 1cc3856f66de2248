"""Threads of PyTorch's operations on a CPU.

No torch here: its OpenMP library reads the environment once, when it is loaded.
"""

import os

SPIN_COUNT = "1000"
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
