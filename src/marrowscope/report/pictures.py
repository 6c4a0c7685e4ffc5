"""Pixels for the report: fields re-encoded as WebP and cells as JPEG data URIs.

Re-encoding from pixels drops all metadata of the file (EXIF with names, places, serial numbers). The fields of a
patient share a pixel budget, so that a browser can open the page however many fields there are: never coarser than
``COARSEST_UM_PER_PX`` if the scale is known, never finer than the image.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from marrowscope import geometry
from marrowscope.cells.crop import CropSpec
from marrowscope.imaging import encode_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.report.field_pixels import FieldPixels, PictureProblem
    from marrowscope.report.marks import FieldPage

COARSEST_UM_PER_PX = 0.25
PATIENT_PIXELS = 9_000_000
"""Total pixels of all fields of a patient: about 1 MB at the quality below, and a third of a second to encode."""

_UNSCALED_LONG_SIDE_PX = 1280
_FIELD_QUALITY, _CELL_QUALITY = 78, 88
CELL_SPEC = CropSpec(side_um=28.8, size_px=112)
"""Side of a gallery picture: the 28.8 um that the classifier sees, the same for every cell so that sizes compare."""

_UNSCALED_SIDE_PX = 192
_LINEAR_FROM = 0.49
_WEBP_METHOD = 2
"""Twice as fast as the encoder's default of 4 and 5% larger; 0 and 1 are half as large again."""


@dataclass(frozen=True, slots=True)
class FieldPicture:
    """A field's picture and its cells in the requested order, or the ``problem`` that explains why there is none."""

    uri: str | None
    cell_uris: tuple[str, ...] = ()
    problem: PictureProblem | None = None


def field_picture(
    field: FieldPage, pixels: FieldPixels, contours: Sequence[ContourArray], *, shrink_to: float = 1.0
) -> FieldPicture:
    """Read a field, cut ``contours`` from it, and encode it with its sides times ``shrink_to``.

    The picture is left out, with the reason, if the file is gone, unreadable or changed since it was predicted.
    """
    image = pixels.read(Path(field.path), field.sha256, field.region)
    if isinstance(image, str):
        return FieldPicture(None, problem=image)
    cells = tuple(cell_uri(image, contour, field.um_per_px) for contour in contours)
    return FieldPicture(as_uri(shrink(image, shrink_to), _FIELD_QUALITY), cells)


def shrink_factors(fields: Sequence[FieldPage]) -> dict[int, float]:
    """Compute for each field, by number, the factor for its sides (0-1) that keeps the patient's pixel budget.

    All fields are brought to the same scale, which the total area in um2 determines. Fields without a scale get a
    longer side of ``_UNSCALED_LONG_SIDE_PX``.
    """
    area_um2 = sum(field.width_px * field.height_px * field.um_per_px**2 for field in fields if field.um_per_px)
    um_per_px = min(math.sqrt(area_um2 / PATIENT_PIXELS), COARSEST_UM_PER_PX)
    return {
        field.number: min(1.0, field.um_per_px / um_per_px)
        if field.um_per_px and um_per_px > 0
        else min(1.0, _UNSCALED_LONG_SIDE_PX / max(field.width_px, field.height_px, 1))
        for field in fields
    }


def cell_uri(
    image: ImageArray, contour_xy: ContourArray, um_per_px: float | None, side_um: float = CELL_SPEC.side_um
) -> str:
    """Cut one cell at a fixed physical side (without a scale, a fixed pixel side) and return it as a data URI."""
    side_px = max(1, round(side_um / um_per_px)) if um_per_px else _UNSCALED_SIDE_PX
    patch = cv2.getRectSubPix(image, (side_px, side_px), geometry.centroid(contour_xy))
    interpolation = cv2.INTER_AREA if side_px >= CELL_SPEC.size_px else cv2.INTER_LINEAR
    crop = cv2.resize(patch, (CELL_SPEC.size_px, CELL_SPEC.size_px), interpolation=interpolation)
    # JPEG, since it takes a tenth of the time of WebP at this size, and a page has hundreds of pictures.
    return _data_uri("jpeg", encode_image(np.asarray(crop, dtype=np.uint8), ".jpg", _CELL_QUALITY))


def shrink(image: ImageArray, factor: float) -> ImageArray:
    """Shrink both sides by ``factor`` (0-1); 1 leaves the image as it is.

    Down to one half, each pixel is interpolated from its four neighbors, which takes a fifth of the area filter's time.
    """
    if factor >= 1:
        return image
    interpolation = cv2.INTER_LINEAR if factor >= _LINEAR_FROM else cv2.INTER_AREA
    size = (max(1, math.ceil(image.shape[1] * factor)), max(1, math.ceil(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)


def as_uri(image: ImageArray, quality: int) -> str:
    """Encode RGB uint8 as a WebP data URI."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", quality=quality, method=_WEBP_METHOD)
    return _data_uri("webp", stream.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
