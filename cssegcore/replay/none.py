"""No replay: a step sees its own images."""

import dataclasses
from pathlib import Path
from typing import final

from cssegcore.files import write_json
from cssegcore.replay._base import Replay, Task


@final
@dataclasses.dataclass(frozen=True)
class Nothing(Replay):
    """Keeps and makes nothing."""

    share = 0.0
    size = 0
    shifted = True

    def remember(self, out: Path, task: Task) -> None:
        del task
        write_json(out / "manifest.json", {"images": []})

    def synthesize(self, out: Path) -> None:
        write_json(out / "manifest.json", {"images": []})
