"""The colours that figures and page share, for a light and a dark screen."""

from typing import Final

COLOURS: Final = {
    "page": ("#f5f6f8", "#0e1216"),
    "surface": ("#ffffff", "#161b22"),
    "ink": ("#18202c", "#e8ebf0"),
    "muted": ("#667085", "#97a1b2"),
    "line": ("#e3e7ed", "#2a323d"),
    "good": ("#12908a", "#1f9c93"),
    "bad": ("#d5485a", "#f56c7e"),
    "blue": ("#2868d8", "#74a9ff"),
    "orange": ("#e0761a", "#ffa552"),
    "purple": ("#b0479b", "#e08bd0"),
    "olive": ("#8a8f29", "#cfd25c"),
}
"""Each colour on a light and on a dark screen, by the name of the page's variable (`--ink`)."""

SERIES: Final = ("ink", "blue", "orange", "good", "purple", "olive")
"""Colours of lines, which the colour-blind can distinguish too."""

STRONGEST: Final = 0.62
"""Opacity of a heat map's colour in a full cell, so that ink stays legible on it."""

MOST_DRAWN: Final = 60
"""Largest number of classes whose names can be read in a matrix; with more there are tables."""


def light(name: str) -> str:
    """Returns a colour on a light screen, as `#rrggbb`."""
    return COLOURS[name][0]
