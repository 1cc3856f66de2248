import dataclasses

import numpy as np
from PIL import Image

from cssegcore.inversion import contact_sheet
from tests.helpers.noise_images import VOID, generated


def test_a_sheet_shows_each_class_with_its_name(tmp_path):
    bare = dataclasses.replace(generated(), label_map=np.full((16, 16), VOID, np.uint8))
    sizes = []
    for rows in (
        {"red": [generated()] * 10},
        {"red": [generated()] * 2, "green": [generated()], "none": []},
        {"red": [bare]},
    ):
        contact_sheet.save_contact_sheet(tmp_path / "sheet.png", rows.items())
        with Image.open(tmp_path / "sheet.png") as image:
            sizes.append(image.size)
            assert len(np.unique(np.asarray(image.convert("RGB")))) > 2
    tall, line = contact_sheet.TILE_SIDE + contact_sheet.MARGIN, contact_sheet.TITLE
    wide = contact_sheet.MARGIN + contact_sheet.COLUMNS * tall
    heights = [
        contact_sheet.MARGIN + n * tall + titles * line for n, titles in ((3, 1), (6, 2), (2, 1))
    ]
    assert sizes == [(wide, height) for height in heights]
