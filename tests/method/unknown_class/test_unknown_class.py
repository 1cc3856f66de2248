import numpy as np
import pytest

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.unknown_class import Unknown


def rule(**recipe):
    return build_part("cssegcore.method.unknown_class", Unknown, recipe, "x")


class TestUnknown:
    LABELS = np.array([[0, 0, 1, 3, 255, 255]], np.uint8)
    SALIENT = np.array([[False, True, True, False, True, False]])

    @pytest.mark.parametrize(
        ("part", "expected"),
        [
            ("salient", [1, 0, 2, 4, 255, 255]),
            ("everything", [0, 0, 2, 4, 255, 255]),
            ("none", [0, 0, 1, 3, 255, 255]),
        ],
    )
    def test_by_hand(self, part, expected):
        chosen = rule(part=part)
        salient = self.SALIENT if chosen.by_saliency else None
        got = chosen.relabel(self.LABELS, salient)
        assert got.tolist() == [expected]
        assert got.dtype == np.uint8
        assert self.LABELS.tolist() == [[0, 0, 1, 3, 255, 255]]

    @pytest.mark.parametrize("part", ["salient", "everything"])
    @pytest.mark.parametrize("stands_out", [None, False, True])
    def test_against_a_plain_loop(self, part, stands_out):
        rng = np.random.default_rng(0)
        labels = rng.choice(np.array([0, 0, 1, 2, 100, 253, 255], np.uint8), (7, 9))
        salient = rng.random((7, 9)) < 0.5
        if stands_out is not None:
            salient[:] = stands_out
        got = rule(part=part).relabel(labels, salient if part == "salient" else None)
        for at in np.ndindex(labels.shape):
            unknown = labels[at] == 0 and (part == "everything" or salient[at])
            void = labels[at] == 255
            assert got[at] == (255 if void else 0 if unknown else int(labels[at]) + 1)

    def test_what_they_say_of_themselves(self):
        said = {
            p: (rule(part=p).present, rule(part=p).by_saliency) for p in ("salient", "everything")
        }
        assert said == {"salient": (True, True), "everything": (True, False)}
        assert rule(part="salient").maps == "auto"
        with pytest.raises(InputError, match=r"`x\.maps` must be one of auto, published, computed"):
            rule(part="salient", maps="none")
