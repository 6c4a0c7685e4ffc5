"""The color of each label, the same in the report and in the files for other programs.

One hue per lineage, darker for less mature cells: granulocytic blue (eosinophils cyan), monocytic gold, erythroid
vermilion, lymphoid green, the rest gray. The hues are from Okabe and Ito's set for color-blind readers
(jfly.uni-koeln.de/color).
"""

from __future__ import annotations

from functools import cache

from marrowscope.vocabulary import load_vocabulary

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


def category_color(category: str, lineage: str = "other") -> str:
    """Return the color of a category; a laboratory's own category takes the color of its lineage."""
    return CATEGORY_COLORS.get(category) or lineage_color(lineage)


def lineage_color(lineage: str) -> str:
    """Return the color of a lineage; gray if it is not one of the five."""
    return LINEAGE_COLORS.get(lineage, LINEAGE_COLORS["other"])


@cache
def label_color(label: str) -> str:
    """Return the color of a label in a file: that of its code's category; gray for a label of another scheme."""
    name = label.removesuffix("?")
    code = load_vocabulary().codes.get(name)
    return category_color(name) if code is None else category_color(code.category, code.lineage)


@cache
def label_rgb(label: str) -> tuple[int, int, int]:
    """Return the color of a label as red, green and blue from 0 to 255."""
    red, green, blue = bytes.fromhex(label_color(label)[1:])
    return red, green, blue
