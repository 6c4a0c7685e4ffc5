"""Pixels for the report: fields and cells re-encoded as WebP data URIs, contours as SVG paths.

Re-encoding from pixels drops whatever metadata the file had (EXIF with names, places, serial numbers).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.crop import CropSpec, cut_crop
from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, encode_image, sha256_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.records import ContourArray, ImageArray

FIELD_LONG_SIDE_PX = 1280
FIELD_QUALITY = 78
CELL_QUALITY = 86
CELL_SPEC = CropSpec(side_um=28.8, size_px=128)
"""Side of a gallery picture: the 28.8 um the classifier sees, the same for every cell so that sizes compare."""

_UNSCALED_SIDE_PX = 192


@dataclass(frozen=True, slots=True)
class FieldPicture:
    """A field's picture, and its gallery cells in the order asked for; or the ``problem`` that left it without."""

    uri: str | None
    cell_uris: tuple[str, ...] = ()
    problem: str | None = None


def field_picture(
    path: Path, sha256: str, um_per_px: float | None, contours: Sequence[ContourArray], images_root: Path | None = None
) -> FieldPicture:
    """Read a field and cut ``contours`` from it.

    The picture is left out, with the reason, when the file is gone, unreadable, or no longer the one that was
    predicted (its SHA-256 differs): contours are never drawn on another image.
    """
    found = locate_image(path, images_root)
    if found is None:
        return FieldPicture(None, problem=f"The image {path.name} was not found where it was predicted from.")
    try:
        data = found.read_bytes()
        if sha256_bytes(data) != sha256:
            return FieldPicture(None, problem=f"The image {path.name} has changed since it was predicted.")
        image = decode_image(data, path.name)
    except (OSError, ImageError):
        return FieldPicture(None, problem=f"The image {path.name} can no longer be read.")
    cells = tuple(cell_uri(image, contour, um_per_px) for contour in contours)
    return FieldPicture(as_uri(shrink(image, FIELD_LONG_SIDE_PX), FIELD_QUALITY), cells)


def locate_image(path: Path, images_root: Path | None) -> Path | None:
    """Find a field's file: under ``images_root`` (patient folder and name, or the name alone), else at ``path``."""
    candidates = [path]
    if images_root is not None:
        candidates = [images_root / path.parent.name / path.name, images_root / path.name, path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def cell_uri(image: ImageArray, contour_xy: ContourArray, um_per_px: float | None) -> str:
    """Cut one cell at the fixed physical side and give it as a data URI; a fixed pixel side without a scale."""
    if um_per_px:
        crop = cut_crop(image, contour_xy, um_per_px, CELL_SPEC)
    else:
        crop = cut_crop(image, contour_xy, 1.0, CropSpec(side_um=_UNSCALED_SIDE_PX, size_px=CELL_SPEC.size_px))
    return as_uri(crop.image, CELL_QUALITY)


def shrink(image: ImageArray, long_side_px: int) -> ImageArray:
    """Shrink with an area filter until the longer side is ``long_side_px``; a smaller image stays as it is."""
    factor = long_side_px / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def as_uri(image: ImageArray, quality: int) -> str:
    """Encode RGB uint8 as a WebP data URI."""
    return "data:image/webp;base64," + base64.b64encode(encode_image(image, ".webp", quality)).decode("ascii")


def svg_path(contour_xy: ContourArray) -> str:
    """Give a contour as SVG path data in image pixels.

    SVG puts the corner of the top-left pixel at (0, 0), contours its centre: half a pixel is added.
    """
    points = " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in contour_xy)
    return f"M{points}Z" if points else ""
