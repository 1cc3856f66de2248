import json

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.augmentation.color_jitter import ColorJitter
from cssegcore.data.augmentation.gaussian_blur import GaussianBlur
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from tests.helpers import tiny_dataset as scenes

CROP = {"part": "random_resized_crop", "size": 24}
JITTER = {"part": "color_jitter", "brightness": 0.4}


def test_a_crop_alone_is_a_section():
    views = Augmentation.of(CROP)
    assert views == Augmentation(RandomResizedCrop(size=24), ())
    assert (views.size, views.pads) == (24, False)
    assert Augmentation.of({"part": "scale_and_crop"}).pads


def test_transforms_are_built_in_their_order():
    blur = {"part": "gaussian_blur", "sigma": [1, 2], "probability": 0.5}
    assert Augmentation.of(CROP | {"transforms": [JITTER, blur]}).transforms == (
        ColorJitter(brightness=0.4),
        GaussianBlur(sigma=(1.0, 2.0), probability=0.5),
    )


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"transforms": [{"part": "jitter"}]}, r"transforms\[0\].part`: there is no part 'jitter'"),
        ({"transforms": [JITTER, "blur"]}, r"transforms\[1\]` must be a mapping with a key `part`"),
        ({"transforms": JITTER}, r"transforms` must be a list of mappings, got \{"),
        (
            {"transforms": [JITTER | {"bright": 1}]},
            r"transforms\[0\].bright` is not .* `brightness",
        ),
        ({"transforms": [JITTER | {"hue": 2}]}, r"transforms\[0\]`: `hue` must lie in \[0, 0\.5\]"),
        ({"transforms": [CROP]}, r"transforms\[0\].part`: 'random_resized_crop' is no Transform"),
        (JITTER, r"`augmentation.part`: 'color_jitter' is no CropRule"),
        ({"transform": [JITTER]}, r"`augmentation.transform` is not a key"),
    ],
)
def test_what_does_not_fit_is_named_with_its_key(section, words):
    with pytest.raises(InputError, match=words):
        Augmentation.of(CROP | section)


def test_the_command_line_adds_transforms_to_any_section():
    added = "+augmentation.transforms=[{part: color_jitter, brightness: 0.4}]"
    for chosen in ("shapes", "ssul"):
        plain, composed = (
            scenes.composed(f"augmentation={chosen}", *more)["augmentation"]
            for more in ((), (added,))
        )
        assert composed == plain | {"transforms": [JITTER]}


def test_a_training_depends_on_the_code_of_its_transforms(project):
    project.set("augmentation.transforms", [JITTER])
    assert project.run("check").status == 0
    module = "cssegcore.data.augmentation.color_jitter"
    for name, depends in {"method": True, "method.base": True, "evaluate": False}.items():
        table = json.loads((project.folder / f"work/code/{name}.json").read_text())
        assert (module in table) == depends
