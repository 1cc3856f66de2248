"""What stands out in a photograph: the maps behind the unknown class."""

from typing import Literal

Origin = Literal["auto", "published", "computed"]
"""Where maps come from: the dataset's own where it has them (`auto`), and nowhere else
(`published`), or computed in any case."""
