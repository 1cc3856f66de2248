"""Bytes that operations move, counted as PyTorch's `FlopCounterMode` counts arithmetic."""

from collections.abc import Sequence

from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Traffic(TorchDispatchMode):
    """Adds up what each operation of a block reads and writes, backward passes too.

    Every operation is taken to read its inputs from memory and to write its outputs there. So what
    caches spare counts, and temporaries within an operation do not. Crops move nothing.

    Attributes:
        bytes: So far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **kwargs or {})
        if not func.is_view:
            seen = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in seen)
        return result
