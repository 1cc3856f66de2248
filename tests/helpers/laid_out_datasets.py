"""Datasets as published layouts put them, file by file, and their configuration."""

import yaml
from PIL import Image

from tests.helpers import tiny_dataset as scenes


def put(path, content="L"):
    """Writes an image of 4x3 pixels, or the lines of a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        Image.new(content, (4, 3), 1 if content == "L" else None).save(path)
    else:
        scenes.write_lines(path, content)


def conf(name, root):
    path = scenes.HOME / "conf" / "dataset" / f"{name}.yaml"
    return yaml.safe_load(path.read_text()) | {"root": str(root)}
