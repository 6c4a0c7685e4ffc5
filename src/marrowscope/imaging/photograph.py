"""A photograph to pixels as large as the networks need them: the one way for training and for prediction.

A photograph much finer than the networks see it is decoded at a half, a quarter or an eighth of its sides: the
libraries do that in less than half the time, and everything after it has fewer pixels to look at. Contours are found in
the reduced picture and kept in the pixels of the file.
"""

from __future__ import annotations

from marrowscope.imaging.decode import REDUCTIONS, decode_image
from marrowscope.imaging.files import read_file, sha256_bytes
from marrowscope.imaging.header import read_header
from marrowscope.imaging.scale import choose_scale, metadata_scale
from marrowscope.imaging.simulated import is_simulated
from marrowscope.records import FieldImage

__all__ = ["decode_photograph", "read_file"]

_SCALE_ROUNDING = 1.001
"""0.15 um per px in a table and 0.3 in a bundle are a factor of two, whatever their last digits."""


def decode_photograph(
    data: bytes,
    where: object,
    *,
    stated_um_per_px: float | None = None,
    default_um_per_px: float | None = None,
    coarsest_um_per_px: float = 0.0,
) -> FieldImage:
    """Decode the bytes of a photograph, reduced as far as its pixels stay no wider than ``coarsest_um_per_px``.

    0 never reduces. The scale is that of the file's metadata, else ``stated_um_per_px``, else the default. ``where``
    names the file in messages. Raises ImageError for what gives no picture, ScaleError where no source states a scale.
    """
    header = read_header(data, str(where))
    scale = choose_scale(where, metadata_scale(data), stated_um_per_px, default_um_per_px)
    reduce = max(n for n in REDUCTIONS if n == 1 or scale * n <= coarsest_um_per_px * _SCALE_ROUNDING)
    pixels = decode_image(data, str(where), reduce=reduce)
    return FieldImage(
        pixels,
        scale,
        header.width_px,
        header.height_px,
        sha256_bytes(data),
        reduce,
        is_simulated=is_simulated(data),
    )
