"""The scale of an image: what its own metadata state, else what its cohort says, else a default."""

from __future__ import annotations

import struct

from marrowscope.errors import ScaleError
from marrowscope.imaging import png, tiff
from marrowscope.imaging.tiff_description import described_scale

PLAUSIBLE_UM_PER_PX = (0.01, 2.0)
"""Scales of a microscope; outside, a number is none (cameras write 72 or 300 dots per inch)."""

_UM_PER_TIFF_UNIT = {2: 25_400.0, 3: 10_000.0}
_UM_PER_M = 1e6


def choose_scale(where: object, *sources_um_per_px: float | None) -> float:
    """Return the first scale that is stated: an image's own, that of patients.csv, the default.

    Raises ScaleError naming ``where`` where none is.
    """
    scale = next((found for found in sources_um_per_px if found), None)
    if scale is None:
        message = (
            f"{where}: found no scale, expected micrometers per pixel; add a um_per_px column to patients.csv or "
            "set --um-per-px (`marrowscope scale` estimates it from the erythrocytes)"
        )
        raise ScaleError(message)
    return scale


def metadata_scale(data: bytes) -> float | None:
    """Micrometers per pixel from a TIFF (OME, ImageJ with its unit, resolution tag) or from the pHYs chunk of a PNG.

    None where there is none or it is no microscope's (cameras write 72 or 300 dots per inch).
    """
    try:
        if data[:4] in tiff.STARTS:
            scale = _tiff_scale(data)
        elif data.startswith(png.START):
            per_meter = png.pixels_per_meter(data)
            scale = _UM_PER_M / per_meter if per_meter else None
        else:
            return None
    except (struct.error, IndexError, KeyError, ZeroDivisionError, OverflowError, ValueError):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    return scale if scale is not None and low <= scale <= high else None


def _tiff_scale(data: bytes) -> float | None:
    """Read the scale that OME or ImageJ describe, else x resolution and its unit, from the first directory."""
    tags = tiff.read_tags(data, {tiff.X_RESOLUTION, tiff.RESOLUTION_UNIT})
    (per_unit, *_), (unit, *_) = tags.get(tiff.X_RESOLUTION, (0.0,)), tags.get(tiff.RESOLUTION_UNIT, (2,))
    described = described_scale(tiff.read_description(data), per_unit)
    if described is not None:
        return described
    return _UM_PER_TIFF_UNIT[int(unit)] / per_unit if per_unit and unit in _UM_PER_TIFF_UNIT else None
