"""No replay: a step sees its own images."""

import dataclasses
from pathlib import Path
from typing import final

from cssegcore.files import write_json
from cssegcore.replay._base import Replay


@final
@dataclasses.dataclass(frozen=True)
class Nothing(Replay):
    """Keeps and makes nothing."""

    def remember(self, out: Path) -> None:
        write_json(out / "manifest.json", {"images": []})

    def synthesize(self, out: Path) -> None:
        write_json(out / "manifest.json", {"images": []})
