"""The file of first weights counts as code: a training of other weights is another training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cssegcore.core.errors import InputError

if TYPE_CHECKING:
    from cssegcore.models.backbones import BackboneKind

KEY = "model.backbone.weights"


def note_weights(tables: dict[str, dict[str, str]], backbone: "BackboneKind", *names: str) -> None:
    """Writes the file's digest into the code tables of these trainings, if a file is named.

    Raises:
        InputError: It cannot be read.
    """
    for name in names:
        tables[name] |= _digest(backbone)


def check_noted(code: Path, recipe: object) -> None:
    """Refuses a file that was replaced under its path since `check` looked at it.

    DVC knows the path alone, and would keep a model of these weights under the name of the others.
    A training that reads no first weights needs no file.

    Args:
        code: The training's code table.
        recipe: The section `model.backbone`.

    Raises:
        InputError: It was.
    """
    from cssegcore.models.backbones import backbone_kind

    noted = json.loads(code.read_bytes()).get(KEY)
    if not noted:
        return
    backbone = backbone_kind(recipe)
    if noted != (found := _digest(backbone)[KEY]):
        raise InputError(
            f"`{KEY}`: the SHA-256 of {backbone.weights} is {found[:16]}…, and was {noted[:16]}…"
            " when the parameters were checked: run `dvc repro -f check`, then go on."
        )


def _digest(backbone: "BackboneKind") -> dict[str, str]:
    from cssegcore.models.backbones._pretrained import file_digest

    if backbone.weights in ("none", "imagenet"):
        return {}
    return {KEY: file_digest(Path(backbone.weights))}
