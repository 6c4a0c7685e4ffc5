"""The bytes of an image file to RGB uint8, upright, whole or at a half, a quarter or an eighth of its sides.

OpenCV decodes whatever it is known to read rightly, which is all that cameras usually write. Pillow decodes TIFF
pictures that are compressed or have opacity, where OpenCV is wrong or silent, and every BMP and WebP a second time.
What the formats leave open is decided
once, for a bright-field microscope:

- transparent pixels show the glass, which is white: opacity is blended over white;
- 16-bit samples run from 0 to 65535, or to 4095 where no sample is above that: a 12-bit camera, whose picture would
  be all but black (the bit depths that PNG and TIFF can state describe the camera or the content, not the scale); where
  no sample is above 1023 or 16383, of 10 or 14 bits, the scale is not known, and the picture is refused;
- gray stands in all three channels; CMYK is converted without its color profile;
- of several pages the first is the picture.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.imaging.header import MAX_PIXELS, read_header
from marrowscope.imaging.one_image import is_out_of_memory, one_image
from marrowscope.imaging.pieces import check_pieces
from marrowscope.imaging.refusals import SAVE_PLAIN, RefusedError, damaged
from marrowscope.imaging.twice import check_twice
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from marrowscope.imaging.header import ImageHeader
    from marrowscope.records import ImageArray

# IMREAD_REDUCED_COLOR_n means BGR; without the color bit, which contradicts the RGB bit, it gives RGB.
_REDUCED_FLAGS = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
REDUCTIONS = tuple(_REDUCED_FLAGS)
_MAX_8, _MAX_12, _MAX_16 = 255, 4095, 65535
_UNKNOWN = {10: range(1, 1024), 14: range(4096, 16384)}
_DEEP = 16
_WITH_ALPHA = 4
_COLOR_DIMENSIONS = 3
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}


def decode_image(data: bytes, where: str, *, reduce: int = 1, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """Decode the bytes of an image file to RGB uint8 (height, width, 3), EXIF orientation applied.

    With ``reduce`` 2, 4 or 8 the sides are ceil(side / reduce) and every pixel is the mean of a square of
    ``reduce`` x ``reduce`` pixels, the last row and column repeated where the sides are no multiple: the center of
    reduced pixel i lies at i * reduce + (reduce - 1) / 2 in the full picture. A JPEG is reduced while it is decoded,
    which is faster and differs by a few gray levels from the mean.

    Raises ImageError naming ``where`` when the bytes give no picture (``read_header`` says when).
    """
    if reduce not in _REDUCED_FLAGS:
        message = f"reduce is {reduce}, expected one of {REDUCTIONS}"
        raise ValueError(message)
    header = read_header(data, where, max_pixels=max_pixels)
    with one_image(where):
        try:
            image = _decode_pixels(data, header, reduce)
            if header.kind in {"BMP", "WebP"}:
                check_twice(data, header.kind, image)
        except RefusedError as refusal:
            raise refusal.at(where) from refusal.__cause__
        if header.kind != "TIFF":  # both decoders turn a TIFF themselves
            image = _TURNS.get(header.orientation, np.asarray)(image)
    whole = header.height_px, header.width_px
    reduced = -(-whole[0] // reduce), -(-whole[1] // reduce)
    if image.shape[:2] == whole and reduce > 1:
        image = _shrink(image, reduce)
    if image.shape[:2] != reduced:
        raise damaged(header.kind).at(where)
    return np.ascontiguousarray(image)


def _decode_pixels(data: bytes, header: ImageHeader, reduce: int) -> NDArray[np.uint8]:
    """Decode as stored, by the decoder that is right for it; only a JPEG may come reduced."""
    if header.kind == "TIFF":
        check_pieces(data)
    if header.bits >= _DEEP:
        return _decode_deep(data, header)
    if header.kind == "TIFF" and (header.packed or header.has_alpha):
        return _decode_by_pillow(data)
    if header.has_alpha:
        return _over_white(_imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, _n_bytes(header)))
    at_once = reduce if _shrinks_at_once(header, reduce) else 1
    flags = cv2.IMREAD_COLOR_RGB | _REDUCED_FLAGS[at_once] | cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(_imdecode(data, flags, _n_bytes(header)), dtype=np.uint8)


def _shrinks_at_once(header: ImageHeader, reduce: int) -> bool:
    """Say whether libjpeg can shrink it to the documented grid, which a turn shifts when the sides are no multiple."""
    if header.kind != "JPEG" or reduce == 1:
        return False
    is_multiple = header.stored_width_px % reduce == header.stored_height_px % reduce == 0
    return header.orientation == 1 or is_multiple


def _n_bytes(header: ImageHeader) -> int:
    """Return the memory of a decoded picture with opacity."""
    return header.width_px * header.height_px * _WITH_ALPHA * (header.bits // 8)


def _imdecode(data: bytes, flags: int, n_bytes: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if decoded is None:
        np.empty(2 * n_bytes, dtype=np.uint8)  # OpenCV is silent about memory too: raises MemoryError where it is short
        found, expected = f"{count_of(len(data), 'byte')} that do not decode", "a complete image"
        raise RefusedError(found, expected)
    return decoded  # type: ignore[return-value]  # uint8 or uint16: the header lets nothing else pass


def _decode_deep(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    """Scale 16-bit samples to 8 bits."""
    if header.packed:
        _decode_by_pillow(data)  # OpenCV keeps the 16 bits but is silent about damage; Pillow raises
    deep = _imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, _n_bytes(header))
    colors = deep[..., :3] if deep.ndim == _COLOR_DIMENSIONS else deep
    top = _top(int(colors.max()))
    scaled = np.asarray(cv2.convertScaleAbs(colors, alpha=_MAX_8 / top), dtype=np.uint8)
    if header.white_is_zero:
        scaled = np.bitwise_not(scaled)
    if deep.ndim == _COLOR_DIMENSIONS and deep.shape[2] == _WITH_ALPHA:
        alpha = np.asarray(cv2.convertScaleAbs(deep[..., 3], alpha=_MAX_8 / _MAX_16), dtype=np.uint8)
        scaled = np.dstack([scaled, alpha])
    return _over_white(scaled)


def _top(brightest: int) -> int:
    """Return the value of full brightness by the brightest sample.

    Between those of 12 and of 14 bits, and below 10 bits, nobody can know it: a camera of 14 or 10 bits, or too little
    light. Raises RefusedError.
    """
    n_bits = next((bits for bits, range_ in _UNKNOWN.items() if brightest in range_), None)
    if n_bits is not None:
        found = f"16-bit samples of {brightest} at most, as {count_of(n_bits, 'bit')} or too little light give them"
        raise RefusedError(found, "samples up to 65535, or up to 4095 for a camera of 12 bits", SAVE_PLAIN)
    return _MAX_12 if brightest <= _MAX_12 else _MAX_16


def _over_white(decoded: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Gray (h, w), BGR or BGRA (h, w, 3 or 4) uint8 to RGB, opacity blended over white."""
    pixels = np.asarray(decoded, dtype=np.uint8)
    if pixels.ndim != _COLOR_DIMENSIONS:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    if pixels.shape[2] != _WITH_ALPHA:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    alpha = pixels[..., 3]
    rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), dtype=np.uint8)
    if alpha.min() == _MAX_8:
        return rgb
    seen = rgb.astype(np.uint16) * alpha[..., None]
    seen += (_MAX_8 - alpha.astype(np.uint16))[..., None] * np.uint16(_MAX_8) + np.uint16(_MAX_8 // 2)
    return (seen // _MAX_8).astype(np.uint8)


def _decode_by_pillow(data: bytes) -> NDArray[np.uint8]:
    """Decode a TIFF by Pillow, which turns it upright and raises where its data are damaged."""
    from PIL import TiffImagePlugin  # noqa: PLC0415 - only compressed or translucent TIFF pictures need it

    try:
        # The plugin's class, not Image.open: the size has been checked, and open would warn of large images.
        with TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as page:
            page.load()
            if page.mode.startswith("I;16"):
                return np.zeros((0, 0, 3), dtype=np.uint8)  # proven whole; its pixels come from OpenCV
            rgba = np.array(page.convert("RGBA"), dtype=np.uint8)
    except Exception as error:  # a parser on hostile bytes raises many kinds
        if is_out_of_memory(error):
            raise
        raise damaged(kind="TIFF") from error
    return _over_white(np.asarray(rgba[..., [2, 1, 0, 3]], dtype=np.uint8))


def _shrink(image: NDArray[np.uint8], reduce: int) -> NDArray[np.uint8]:
    """Return the mean of every square of ``reduce`` pixels, the last row and column repeated to fill it."""
    height, width = image.shape[:2]
    down, across = -height % reduce, -width % reduce
    if down or across:
        image = np.asarray(cv2.copyMakeBorder(image, 0, down, 0, across, cv2.BORDER_REPLICATE), dtype=np.uint8)
    size = (width + across) // reduce, (height + down) // reduce
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
