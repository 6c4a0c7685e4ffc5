"""One field from its file: pixels as large as the networks need them, hash, scale; or why there are none.

A photograph much finer than the networks see it is decoded at a half, a quarter or an eighth of its sides: the
libraries do that in less than half the time, and everything after it has fewer pixels to look at. Contours are found in
the reduced picture and kept in the pixels of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.images import metadata_scale
from marrowscope.errors import ImageError, ScaleError
from marrowscope.imaging import REDUCTIONS, decode_image, read_header, sha256_bytes

if TYPE_CHECKING:
    from marrowscope.cohort.inputs import InputImage
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.slides import SlideCache

_SCALE_ROUNDING = 1.001
"""0.15 um per px in a table and 0.3 in a bundle are a factor of two, whatever their last digits."""


@dataclass(frozen=True, slots=True)
class ReadField:
    """A field as read.

    ``digest`` is the file's SHA-256, "" where it cannot even be opened; ``um_per_px`` the scale of the file, None where
    nothing was read; ``image`` RGB uint8, of which ``reduce`` x ``reduce`` pixels of the file make one, or an error.
    """

    item: InputImage
    digest: str
    um_per_px: float | None
    image: ImageArray | ImageError
    width_px: int | None = None
    height_px: int | None = None
    reduce: int = 1

    def to_file(self, contour_xy: ContourArray) -> ContourArray:
        """Move a contour (n, 2) from the pixels of ``image`` to the file's, and into its bounds."""
        if self.reduce == 1 or self.width_px is None or self.height_px is None:
            return contour_xy
        inside = (contour_xy + 0.5) * self.reduce - 0.5
        return np.clip(inside, -0.5, [self.width_px - 0.5, self.height_px - 0.5])


def read_field(
    item: InputImage, slides: SlideCache, *, um_per_px: float | None, coarsest_um_per_px: float = 0.0
) -> ReadField:
    """Read ``item``; whatever is wrong with its file is the result's ``image``.

    ``um_per_px`` is the scale of images that state none. A photograph is reduced as far as its pixels stay no wider
    than ``coarsest_um_per_px``; 0 never reduces. Raises ScaleError where no source states a scale.
    """
    if item.problem is not None:
        return ReadField(item, item.sha256, None, ImageError(item.problem))
    try:
        if item.region is not None:
            with slides.slide(item.path) as slide:
                image = slide.read(item.region)
            height, width = image.shape[:2]
            return ReadField(item, item.sha256, scale_of(item, None, um_per_px), image, width, height)
        data = item.path.read_bytes()
    except ImageError as error:
        return ReadField(item, item.sha256, None, error)
    except OSError as error:
        message = f"{item.path}: cannot be read ({error.strerror}); check the file's permissions"
        return ReadField(item, item.sha256, None, ImageError(message))
    digest, where = sha256_bytes(data), str(item.path)
    try:
        header = read_header(data, where)
        scale = scale_of(item, metadata_scale(data), um_per_px)
        reduce = max(n for n in REDUCTIONS if n == 1 or scale * n <= coarsest_um_per_px * _SCALE_ROUNDING)
        image = decode_image(data, where, reduce=reduce)
    except ImageError as error:
        return ReadField(item, digest, None, error)
    return ReadField(item, digest, scale, image, header.width_px, header.height_px, reduce)


def scale_of(item: InputImage, metadata_um_per_px: float | None, default_um_per_px: float | None) -> float:
    """Scale of an image: its own metadata, else patients.csv, else the default.

    Raises ScaleError where none of them states one.
    """
    scale = metadata_um_per_px or item.um_per_px or default_um_per_px
    if scale is None:
        message = (
            f"{item.path}: found no scale, expected micrometres per pixel; add a um_per_px column to patients.csv or "
            "set --um-per-px"
        )
        raise ScaleError(message)
    return scale
