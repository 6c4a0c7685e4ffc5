"""The scale of an image: what its own metadata state, else what its cohort says, else a default."""

from __future__ import annotations

import struct

from marrowscope.errors import ScaleError
from marrowscope.imaging import png, tiff
from marrowscope.imaging.refusals import RefusedError
from marrowscope.imaging.tiff_description import described_scales

PLAUSIBLE_UM_PER_PX = (0.01, 2.0)
"""Scales of a microscope; outside, a number is none (cameras write 72 or 300 dots per inch)."""

_MAX_UNEVEN = 1.05
"""Largest ratio of an image's scales across and down at which its pixels count as square."""
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
    across, _ = _metadata_scales(data) or (None, None)
    return across


def refuse_uneven_pixels(data: bytes) -> None:
    """Raise RefusedError where an image's metadata state pixels that are not square: contours would be distorted."""
    scales = _metadata_scales(data)
    if scales is not None:
        refuse_uneven(*scales)


def refuse_uneven(across: float, down: float) -> None:
    """Raise RefusedError where two scales of a microscope, across and down, are not those of square pixels."""
    low, high = PLAUSIBLE_UM_PER_PX
    if low <= down <= high and not 1 / _MAX_UNEVEN <= down / across <= _MAX_UNEVEN:
        raise RefusedError(
            found=f"pixels of {across:.4g} x {down:.4g} um in the image's metadata",
            expected="square pixels",
            action="correct the wrong scale, or resample the picture to square pixels",
        )


def _metadata_scales(data: bytes) -> tuple[float, float] | None:
    """Return the micrometers per pixel across and down; None where none or no microscope's are stated."""
    try:
        if data[:4] in tiff.STARTS:
            scales = _tiff_scales(data)
        elif data.startswith(png.START):
            per_meter = png.pixels_per_meter(data)
            scales = (_UM_PER_M / per_meter[0], _UM_PER_M / (per_meter[1] or per_meter[0])) if per_meter else None
        else:
            return None
    except (struct.error, IndexError, KeyError, ZeroDivisionError, OverflowError, ValueError):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    return scales if scales is not None and low <= scales[0] <= high else None


def _tiff_scales(data: bytes) -> tuple[float, float] | None:
    """Read the scales that OME or ImageJ describe, else the resolutions and their unit, from the first directory."""
    tags = tiff.read_tags(data, {tiff.X_RESOLUTION, tiff.Y_RESOLUTION, tiff.RESOLUTION_UNIT})
    (across, *_), (unit, *_) = tags.get(tiff.X_RESOLUTION, (0.0,)), tags.get(tiff.RESOLUTION_UNIT, (2,))
    (down, *_) = tags.get(tiff.Y_RESOLUTION, (0.0,))
    described = described_scales(tiff.read_description(data), (across, down))
    if described is not None or not across or unit not in _UM_PER_TIFF_UNIT:
        return described
    um = _UM_PER_TIFF_UNIT[int(unit)]
    return um / across, um / (down or across)
