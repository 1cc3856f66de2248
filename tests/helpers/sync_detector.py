"""Tells whether a program asks a device for numbers, for which a GPU would first have to finish.

It knows them by name: on a CPU, where the tests run, nothing waits.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
"""Operations whose result, or its shape, the host must know."""
COPYING = {torch.tensor, torch.as_tensor, Tensor.new_tensor, Tensor.tolist, Tensor.cpu}
"""Functions that copy from the host or to it, and wait until it is done."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Those that wait where the index is a mask."""


class Watch(TorchDispatchMode):
    """Remembers what waits in a block, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.operations = 0

    def __enter__(self) -> "Watch":
        self._calls = _Calls(self.seen)
        self._calls.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._calls.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name in INDEXING and any(
            isinstance(at, Tensor) and at.dtype == torch.bool for at in args[1]
        )
        self.operations += 1
        if name in WAITING or masks:
            self.seen.append(name)
        return func(*args, **kwargs or {})

    def batches(self, batches: Iterable[Any], _: int) -> Iterator[Any]:
        """Watches an epoch, from the making of its first batch to the end of the last iteration."""
        with self:
            yield from batches


class _Calls(TorchFunctionMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in COPYING:
            self._seen.append(func.__name__)
        return func(*args, **kwargs or {})
