"""Saliency maps: the salient pixels of photographs, from which the unknown class is derived."""

from typing import Literal

Origin = Literal["auto", "published", "computed"]
"""Source of the maps: published with the dataset (`published`), computed here (`computed`), or
published if the dataset has a folder of maps and computed otherwise (`auto`)."""
