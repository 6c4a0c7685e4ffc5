"""Colors and names of the categories. Color is never the only cue: each contour and bar also has its code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from marrowscope.cohort.label_colors import CATEGORY_COLORS, LINEAGE_COLORS, category_color, lineage_color

if TYPE_CHECKING:
    from marrowscope.vocabulary import Vocabulary

__all__ = ["CATEGORY_COLORS", "LINEAGE_COLORS", "OTHER", "category_color", "category_names", "lineage_color"]

OTHER = "Other"
_MANY_CODES = 2
_REMARK = re.compile(r" \([^)]*\)")
"""``polychromatic (intermediate) erythroblast`` is printed as ``polychromatic erythroblast``."""


def category_names(vocabulary: Vocabulary) -> dict[str, str]:
    """Name each category by its own code's name, or by the lineage if it merges more than two codes."""
    names: dict[str, str] = {}
    for category in vocabulary.categories:
        codes = [code for code in vocabulary.codes.values() if code.category == category]
        if category == OTHER:
            names[category] = "other cells"
        elif len(codes) > _MANY_CODES:
            names[category] = f"{codes[0].lineage} cells"
        else:
            own = [code.name for code in codes if code.code == category]
            names[category] = _REMARK.sub("", (own or [codes[0].name])[0])
    return names
