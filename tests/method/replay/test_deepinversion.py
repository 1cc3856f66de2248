import math
import subprocess
import sys

import pytest
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.replay import Replay
from tests.helpers.tiny_training import QUICK


def part(inversion=None, **numbers):
    usual = {"per_class": 2, "agreement": 0, "confidence": 0, "extra": 0}
    recipe = {"part": "deepinversion", **usual, **numbers, "inversion": QUICK | (inversion or {})}
    return build_part("cssegcore.method.replay", Replay, recipe, "method.replay")


class TestDeepInversion:
    def test_a_recipe_pays_for_no_torch(self):
        code = "import sys, cssegcore.method.replay.deepinversion; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_images_are_made_and_no_photograph_is_kept(self):
        made = part()
        assert (made.selects_exemplars, made.generates, made.scores) == (False, True, "softmax")
        assert made.size == 0

    def test_the_settings_are_its_own_numbers(self):
        numbers = {"per_class": 3, "confidence": 0.4, "agreement": 0.3, "extra": 2}
        how = part(**numbers, student="a", verifier="b").settings
        expected = {**numbers, "student": "a", "verifier": "b"}
        assert {name: getattr(how, name) for name in expected} == expected
        assert how.inversion.phases == ((1, 2),)

    @pytest.mark.parametrize(
        ("size", "phases", "least"), [(15, [[1, 1]], 16), (16, [[17, 1], [1, 1]], 17)]
    )
    def test_crops_too_small_to_draw_are_refused(self, size, phases, least):
        how = part({"phases": phases})
        with pytest.raises(InputError, match=rf"`augmentation\.size` is {size}, .* of {least} pix"):
            how.check(lambda: nn.BatchNorm2d(3), size)
        how.check(lambda: nn.BatchNorm2d(3), least)

    def test_a_network_without_running_statistics_is_refused(self):
        for extractor in (nn.GroupNorm(1, 3), nn.BatchNorm2d(3, track_running_stats=False)):
            with pytest.raises(InputError, match="cannot be inverted"):
                part().check(lambda extractor=extractor: extractor, 16)

    def test_other_replays_build_no_network_to_be_checked(self):
        def never():
            raise AssertionError("a network was built")

        for recipe in ({"part": "none"}, {"part": "exemplars", "size": 4}):
            build_part("cssegcore.method.replay", Replay, recipe, "x").check(never, 1)

    def test_a_folder_without_a_list_holds_no_images(self, tmp_path):
        assert part().read(tmp_path) is None
        (tmp_path / "list.json").write_text("{}")
        assert (
            build_part("cssegcore.method.replay", Replay, {"part": "none"}, "x").read(tmp_path)
            is None
        )

    @pytest.mark.parametrize(
        ("labels", "recipe"),
        [
            ("hard", {"part": "ce", "average": "labelled"}),
            ("soft", {"part": "teacher_kd"}),
            ("logits", {"part": "teacher_mse"}),
        ],
    )
    def test_terms(self, labels, recipe):
        assert part(labels=labels, weight=3).terms == {"replayed": {**recipe, "weight": 3.0}}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"per_class": 0}, "`per_class` must be >= 1, got 0"),
            ({"share": 0}, r"`share` must lie in \(0, 1\), got 0"),
            ({"share": 1}, r"`share` must lie in \(0, 1\), got 1"),
            ({"weight": -1}, "`weight` must be a finite number >= 0, got -1"),
            ({"weight": math.inf}, "`weight` must be a finite number >= 0, got inf"),
            ({"confidence": 1.5}, r"`confidence` must lie in \[0, 1\], got 1\.5"),
            ({"agreement": -0.5}, r"`agreement` must lie in \[0, 1\], got -0\.5"),
            ({"extra": -1}, "`extra` must be >= 0, got -1"),
            ({"labels": "mean"}, r"labels` must be one of hard, soft, logits"),
            (
                {"inversion": {"weights": {"competition": 0.2}}},
                r"`inversion\.weights\.competition` is 0\.2, and there is nobody .* `student`",
            ),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=rf"`method\.replay.*{message}"):
            part(**wrong)
