import sys

import pytest

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part, part_module, part_names
from cssegcore.data.augmentation import CropRule
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from cssegcore.method.freeze import Freeze

SLOT = "cssegcore.data.augmentation"
LAYOUTS = "cssegcore.data.layouts"


def make(recipe):
    return build_part(SLOT, CropRule, recipe, "augmentation")


def test_a_part_is_found_by_its_module_s_name_and_gets_the_other_keys():
    assert make({"part": "random_resized_crop", "size": 24}) == RandomResizedCrop(size=24)
    assert part_module(SLOT, {"part": "random_resized_crop", "size": 24}, "") == (
        f"{SLOT}.random_resized_crop"
    )


def test_modules_with_an_underscore_are_no_parts():
    assert part_names(LAYOUTS) == ["ade", "camvid", "cityscapes", "folder", "voc"]
    assert part_names(SLOT) == [
        "color_jitter",
        "gaussian_blur",
        "random_resized_crop",
        "rotation",
        "scale_and_crop",
        "scale_values",
    ]


def test_an_unknown_part_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(InputError) as refused:
        part_module(LAYOUTS, {"part": "cam_vid"}, "dataset.layout")
    assert str(refused.value) == (
        "`dataset.layout.part`: there is no part 'cam_vid' in cssegcore.data.layouts."
        " Did you mean `camvid`? Known: ade, camvid, cityscapes, folder, voc."
    )


@pytest.mark.parametrize("recipe", [None, "voc", [], {}, {"size": 3}, {"part": 3}, {"part": None}])
def test_a_recipe_without_a_part_is_refused(recipe):
    with pytest.raises(InputError, match=r"^`augmentation` must be a mapping with a key `part`, g"):
        make(recipe)


def test_an_unknown_number_is_named_with_its_whole_key():
    with pytest.raises(InputError, match=r"^`augmentation.sise` is not .* Did you mean `size`\?"):
        make({"part": "random_resized_crop", "sise": 24})


def test_keys_that_another_part_left_are_named_with_that_part_and_the_way_out():
    left = {"part": "old_heads", "decay": "all", "newest_lr": 10}
    with pytest.raises(InputError) as refused:
        build_part("cssegcore.method.freeze", Freeze, left, "method.freeze")
    assert str(refused.value) == (
        "`method.freeze.decay` is not a key of `method.freeze` with `part: old_heads`, but of"
        " 'norms': take out what was meant for that (`-S '~method.freeze.decay' -S"
        " '~method.freeze.newest_lr'`)."
    )
    with pytest.raises(InputError, match=r"^`f.dekay` is not a key of `f`\. Known: none\."):
        build_part("cssegcore.method.freeze", Freeze, {"part": "none", "dekay": "all"}, "f")


def test_a_number_that_the_part_refuses_is_named():
    with pytest.raises(InputError, match=r"^`augmentation`: `flip` must lie in \[0, 1\], got 2.0"):
        make({"part": "random_resized_crop", "flip": 2})


@pytest.mark.parametrize(
    "name",
    ["_base", "../os", "os", "..os", ".voc", "voc.py", "a.b", "", "voc.dataclasses", "../batches"],
)
def test_a_parameters_file_imports_nothing_from_outside_the_slot(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "cssegcore.data.batches", None)  # to import it would raise
    with pytest.raises(InputError, match="there is no part"):
        build_part(LAYOUTS, object, {"part": name}, "dataset.layout")
