"""What ImageJ and OME write into a TIFF's description: the scale, and whether the page is one channel of several.

Both keep the colors of one picture as separate gray pages where a microscope's program exports channels. The first
page alone would be a gray picture of the red channel. Sources: ImageJ's ij.io.FileOpener, the OME schema 2016-06.
"""

from __future__ import annotations

import html
import re

_UM_PER_UNIT = {
    "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3,
    "pm": 1e-6, "å": 1e-4, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "dm": 1e5, "m": 1e6,
    "meter": 1e6, "inch": 25_400.0, "in": 25_400.0,
}  # fmt: skip
_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b([^>]*)>")
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_MAX_CHARACTERS = 2**20
"""A description is looked at up to here: OME writes the picture's sizes at its beginning."""


def um_per_unit(unit: str) -> float | None:
    """Micrometers in a unit of length as programs spell it; None for pixels and unknown words."""
    spelled = unit.strip().replace("\\u00b5", "u").replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u")
    return _UM_PER_UNIT.get(spelled.removesuffix(".").lower())


def imagej_values(description: str) -> dict[str, str]:
    """Return the lines key=value of an ImageJ description; nothing for another program's."""
    if not description.startswith("ImageJ="):
        return {}
    lines = (line.partition("=") for line in description[:_MAX_CHARACTERS].splitlines())
    return {key.strip(): value.strip() for key, between, value in lines if between}


def ome_pixels(description: str) -> dict[str, str]:
    """Return the attributes of the first picture's Pixels in an OME description; nothing for another program's."""
    start = description[:_MAX_CHARACTERS]
    found = _OME_PIXELS.search(start) if "<OME" in start or ":OME" in start else None
    if found is None:
        return {}
    return {name: html.unescape(one or other) for name, one, other in _ATTRIBUTE.findall(found[1])}


def described_scales(description: str, per_unit: tuple[float, float]) -> tuple[float, float] | None:
    """Micrometers per pixel across and down by OME's PhysicalSize, or by ImageJ's unit and the pixels ``per_unit``.

    Down is that across where it is not stated. None where the description states no unit of length. Raises ValueError
    for what is no number.
    """
    pixels = ome_pixels(description)
    if "PhysicalSizeX" in pixels:
        units = [um_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XY"]
        across, down = float(pixels["PhysicalSizeX"]), float(pixels.get("PhysicalSizeY", "nan"))
        if not units[0]:
            return None
        return units[0] * across, units[1] * down if units[1] and down > 0 else units[0] * across
    unit = um_per_unit(imagej_values(description).get("unit", ""))
    return (unit / per_unit[0], unit / (per_unit[1] or per_unit[0])) if unit and per_unit[0] else None


def n_channels(description: str) -> int:
    """Channels of the picture as ImageJ or OME state them; 0 where neither does."""
    stated = imagej_values(description).get("channels") or ome_pixels(description).get("SizeC") or ""
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 9 else 0  # noqa: PLR2004 - digits


def n_planes(description: str) -> int:
    """Planes that ImageJ keeps behind the first directory; 1 where it states none."""
    stated = imagej_values(description).get("images", "")
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 9 else 1  # noqa: PLR2004 - digits
