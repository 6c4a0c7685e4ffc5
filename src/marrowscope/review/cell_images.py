"""Pictures for the review: crops of single cells and whole fields, cut from the run's images and kept in memory.

A crop is cut by ``cells.crop``, the one function that cuts crops, at the side that the report's galleries have. All
cells of a field are cut when the first of them is asked for, since decoding the field takes longer than cutting.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from marrowscope.cells.crop import CropSpec, cut_crops
from marrowscope.imaging import encode_image
from marrowscope.report.field_pixels import FieldPixels
from marrowscope.review.kept_pictures import KeptPictures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.records import ImageArray
    from marrowscope.report.field_pixels import PictureProblem
    from marrowscope.report.shown_rows import ShownField
    from marrowscope.review.patient_state import ReviewedCell

CELL_PICTURE = CropSpec(side_um=28.8, size_px=112)
"""The same side for every cell, so that sizes compare: the 28.8 um that the classifier sees."""

_UNSCALED_SIDE_PX = 192
_CROP_QUALITY, _FIELD_QUALITY = 88, 88
_CROP_METHOD = 0
_MOST_BYTES = 256 * 1024**2
"""Encoded pictures in memory at most; a crop takes about 3 kB, a field some 500 kB."""
_MOST_FIELDS = 6
"""Decoded fields in memory at most; one of 5 megapixels takes 15 MB."""

_MOST_LOOKED_FOR = 200

_CropKey = tuple[str, str, tuple[float, ...]]


class CellImages:
    """Cuts and keeps pictures; usable from several threads."""

    def __init__(self, images_root: Path | None = None) -> None:
        """Read images where the run found them, or below ``images_root`` if they have moved."""
        self.pixels = FieldPixels(images_root)
        self._kept = KeptPictures(_MOST_BYTES)
        self._decoded: OrderedDict[str, ImageArray] = OrderedDict()
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()

    def crop(self, field: ShownField, cell: ReviewedCell, others: Iterable[ReviewedCell]) -> bytes | PictureProblem:
        """Return the crop of ``cell`` as WebP, or why there is none; ``others`` of its field are cut with it."""
        key = _key(cell)
        if (found := self._kept.get(key)) is not None:
            return found
        with self._lock_of(field.field_id):  # those who ask for other cells of the field wait, then find them cut
            if (found := self._kept.get(key)) is not None:
                return found
            image = self._image(field)
            if isinstance(image, str):
                return image
            cells = [cell, *(other for other in others if self._kept.get(_key(other)) is None and other is not cell)]
            self._cut(image, field, cells)
        return self._kept.get(key) or "unreadable"

    def field(self, field: ShownField) -> bytes | PictureProblem:
        """Return a whole field as JPEG, with all its pixels, or why there is none."""
        if (found := self._kept.get(field.field_id)) is not None:
            return found
        with self._lock_of(field.field_id):
            image = self._image(field)
        if isinstance(image, str):
            return image
        data = encode_image(image, ".jpg", _FIELD_QUALITY)
        self._kept.put(field.field_id, data)
        return data

    def pixels_of(self, field: ShownField) -> ImageArray | PictureProblem:
        """Return the pixels of a whole field, RGB uint8 (h, w, 3), which nobody may change, or why there are none."""
        with self._lock_of(field.field_id):
            return self._image(field)

    def missing(self, paths: Sequence[str], most: int = _MOST_LOOKED_FOR) -> tuple[int, int]:
        """Count the photographs that are not found, and those looked for: ``most`` of ``paths``, evenly spread."""
        chosen = paths[:: -(-len(paths) // most)] if paths else paths
        return sum(not self.pixels.is_there(Path(path)) for path in chosen), len(chosen)

    def close(self) -> None:
        """Close the slides."""
        self.pixels.close()

    def _cut(self, image: ImageArray, field: ShownField, cells: Sequence[ReviewedCell]) -> None:
        um_per_px = field.um_per_px or CELL_PICTURE.side_um / _UNSCALED_SIDE_PX
        contours = [np.asarray(cell.contour_xy, dtype=np.float64).reshape(-1, 2) for cell in cells]
        crops, _ = cut_crops(image, contours, um_per_px, CELL_PICTURE, masks=False)
        for cell, crop in zip(reversed(cells), reversed(crops), strict=True):  # the one asked for is kept longest
            stream = io.BytesIO()
            Image.fromarray(crop).save(stream, "WEBP", quality=_CROP_QUALITY, method=_CROP_METHOD)
            self._kept.put(_key(cell), stream.getvalue())

    def _image(self, field: ShownField) -> ImageArray | PictureProblem:
        """Decode a field, or return it from memory; call it with the field's lock."""
        with self._lock:
            if (found := self._decoded.get(field.field_id)) is not None:
                self._decoded.move_to_end(field.field_id)
                return found
        if field.failed is not None or field.sha256 is None:
            return "unreadable"
        image = self.pixels.read(Path(field.path), field.sha256, field.region)
        if not isinstance(image, str):
            with self._lock:
                self._decoded[field.field_id] = image
                if len(self._decoded) > _MOST_FIELDS:
                    self._decoded.popitem(last=False)
        return image

    def _lock_of(self, field_id: str) -> Lock:
        with self._lock:
            return self._locks.setdefault(field_id, Lock())


def _key(cell: ReviewedCell) -> _CropKey:
    return cell.field_id, cell.cell_id, cell.contour_xy
