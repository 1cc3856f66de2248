"""The colours that figures and page share, for a light and a dark screen."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Theme:
    """Colours as `#rrggbb`.

    `good` also fills the cells of the heat maps; `series` are told apart by the colour-blind too.
    """

    page: str
    surface: str
    ink: str
    muted: str
    line: str
    good: str
    bad: str
    series: tuple[str, ...]


LIGHT: Final = Theme(
    page="#f5f6f8",
    surface="#ffffff",
    ink="#18202c",
    muted="#667085",
    line="#e3e7ed",
    good="#12908a",
    bad="#d5485a",
    series=("#18202c", "#2868d8", "#e0761a", "#12908a", "#b0479b", "#8a8f29"),
)

DARK: Final = Theme(
    page="#0e1216",
    surface="#161b22",
    ink="#e8ebf0",
    muted="#97a1b2",
    line="#2a323d",
    good="#27b5aa",
    bad="#ff7183",
    series=("#e8ebf0", "#74a9ff", "#ffa552", "#3ccfc2", "#e08bd0", "#cfd25c"),
)

STRONGEST: Final = 0.62
"""How much of a heat map's colour a full cell gets, so that ink stays legible on it."""
