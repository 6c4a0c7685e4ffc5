"""Colors and names of the categories.

One hue per lineage, darker for less mature cells: granulocytic blue (eosinophils cyan), monocytic gold, erythroid
vermilion, lymphoid green, the rest gray. The hues are from Okabe and Ito's set for color-blind readers
(jfly.uni-koeln.de/color). Color is never the only cue: each contour and bar also has its code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marrowscope.vocabulary import Vocabulary

OTHER = "Other"
LINEAGE_COLORS = {
    "granulocytic": "#0b5c9e",
    "monocytic": "#a67c00",
    "erythroid": "#c2451e",
    "lymphoid": "#00806a",
    "other": "#6b7178",
}
CATEGORY_COLORS = {
    "N": "#08306b",
    "N1": "#0b4f96",
    "N2": "#1b6ab0",
    "N3": "#3583c4",
    "N4": "#5599d3",
    "N5": "#74aede",
    "E": "#16a3b8",
    "M": "#6b5000",
    "M1": "#a67c00",
    "M2": "#cf9f17",
    "R": "#7a1f0a",
    "R1": "#b03a17",
    "R2": "#db6238",
    "R3": "#e8845f",
    "L": "#00806a",
    "Other": "#6b7178",
}
_MANY_CODES = 2
_REMARK = re.compile(r" \([^)]*\)")
"""``polychromatic (intermediate) erythroblast`` is printed as ``polychromatic erythroblast``."""


def category_color(category: str, lineage: str = "other") -> str:
    """Return the color of a category; a laboratory's own category takes the color of its lineage."""
    return CATEGORY_COLORS.get(category) or lineage_color(lineage)


def lineage_color(lineage: str) -> str:
    """Return the color of a lineage; gray if it is not one of the five."""
    return LINEAGE_COLORS.get(lineage, LINEAGE_COLORS["other"])


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
