"""What an image file is, how large and how it is stored, read from its bytes without decoding a pixel.

The content decides, not the name: a PNG called ``.jpg`` is a PNG. What is no image is named by its first bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from marrowscope.imaging import jpeg, png, tiff
from marrowscope.imaging.foreign import name_content
from marrowscope.imaging.one_image import explain
from marrowscope.imaging.refusals import CutShortError, RefusedError, cut_short, damaged, image_error
from marrowscope.imaging.scale import refuse_uneven_pixels
from marrowscope.imaging.tiff_layout import check_layout
from marrowscope.records import Fault
from marrowscope.wording import count_of

MAX_PIXELS = 100_000_000
"""Largest image decoded in one piece: 300 MB as RGB, 0.8 GB while a 16-bit picture with opacity is converted. Cameras
on microscopes have up to 50 megapixels; what is larger is a slide or a file made to fill the memory."""

_SIDEWAYS = 5
_WEBP_EXIF = 8
_KINDS = "JPEG, PNG, TIFF, BMP, WebP"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """One image file as its header describes it.

    ``kind`` is JPEG, PNG, TIFF, BMP or WebP; ``stored_width_px`` and ``stored_height_px`` are the sides of the pixel
    grid in the file, ``orientation`` (1-8, EXIF) how it has to be turned; ``bits`` is 8 or 16 (fewer count as 8);
    ``packed`` says that a TIFF's pixels are compressed in a way OpenCV reads without noticing damage.
    """

    kind: str
    stored_width_px: int
    stored_height_px: int
    orientation: int = 1
    bits: int = 8
    has_alpha: bool = False
    packed: bool = False
    white_is_zero: bool = False

    @property
    def width_px(self) -> int:
        """Width of the upright picture."""
        return self.stored_height_px if self.orientation >= _SIDEWAYS else self.stored_width_px

    @property
    def height_px(self) -> int:
        """Height of the upright picture."""
        return self.stored_width_px if self.orientation >= _SIDEWAYS else self.stored_height_px


def read_header(data: bytes, where: str, *, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Read the header of an image file from its whole content.

    Raises ImageError naming ``where`` for an empty file, a file that is no image, one that ends too early or is
    visibly damaged, one stored in a way that no decoder here reads rightly, and one of more than ``max_pixels``.
    """
    if not data:
        action = "export the image again or remove it"
        raise image_error(Fault("empty_file", where, "an empty file", "an image", action))
    try:
        header = _read(data)
        _refuse_contradictions(data, header, max_pixels)
    except RefusedError as refusal:
        raise refusal.at(where) from None
    except (CutShortError, struct.error, IndexError):
        raise cut_short(where, len(data)) from None
    except Exception as error:
        raise image_error(explain(error, where)) from error
    return header


def _read(data: bytes) -> ImageHeader:
    if data.startswith(jpeg.START):
        return _jpeg(data)
    if data.startswith(png.START):
        return _png(data)
    if data[:4] in tiff.STARTS:
        return _tiff(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    name = name_content(data)
    found = f"no readable image{f' but {name}' if name else ''}"
    raise RefusedError(found, f"one of {_KINDS}")


def _refuse_contradictions(data: bytes, header: ImageHeader, max_pixels: int) -> None:
    """Refuse a picture without pixels, with uneven ones or too many, and a TIFF whose pixels do not fit its header."""
    if min(header.stored_width_px, header.stored_height_px) < 1:
        raise damaged(header.kind)
    _refuse_too_large(header, max_pixels)
    if header.kind == "TIFF":
        check_layout(data, tiff.read_page(data))
    refuse_uneven_pixels(data)


def _refuse_too_large(header: ImageHeader, max_pixels: int) -> None:
    """Refuse more pixels than are decoded in one piece, before one of them is decoded."""
    n_pixels = header.stored_width_px * header.stored_height_px
    if n_pixels > max_pixels:
        raise RefusedError(
            found=f"an image of {header.width_px} x {header.height_px} pixels ({n_pixels / 1e6:.0f} megapixels)",
            expected=f"at most {max_pixels / 1e6:.0f} megapixels in one piece",
            action="cut it into fields or read it as a slide; if it is neither, remove it",
        )


def _jpeg(data: bytes) -> ImageHeader:
    facts = jpeg.read_jpeg(data)
    if facts.bits != 8:  # noqa: PLR2004 - bits
        found = f"a JPEG of {count_of(facts.bits, 'bit')} a sample"
        raise RefusedError(found, "8") if facts.frame else damaged(kind="JPEG")
    if facts.n_channels not in {1, 3, 4}:
        found = f"a JPEG of {count_of(facts.n_channels, 'channel')}"
        raise RefusedError(found, "1 (gray), 3 (color) or 4 (CMYK)")
    return ImageHeader("JPEG", facts.width_px, facts.height_px, facts.orientation)


def _png(data: bytes) -> ImageHeader:
    facts = png.read_png(data)
    return ImageHeader("PNG", facts.width_px, facts.height_px, facts.orientation, max(8, facts.bits), facts.has_alpha)


def _tiff(data: bytes) -> ImageHeader:
    tags = tiff.read_page(data)
    orientation = tags.get(tiff.ORIENTATION, (1,))[0]
    return ImageHeader(
        "TIFF",
        tags[tiff.WIDTH][0],
        tags[tiff.HEIGHT][0],
        orientation if 1 <= orientation <= 8 else 1,  # noqa: PLR2004 - the eight ways to lay a picture
        max(8, tags.get(tiff.BITS, (1,))[0]),
        tiff.has_alpha(tags),
        packed=tags.get(tiff.COMPRESSION, (1,))[0] not in {tiff.UNCOMPRESSED, tiff.JPEG},
        white_is_zero=tags.get(tiff.PHOTOMETRIC, (1,))[0] == tiff.WHITE_IS_ZERO,
    )


def _bmp(data: bytes) -> ImageHeader:
    """Read the bitmap's header; the fourth byte of a 32-bit pixel is padding, as most programs write and read it."""
    pixels_at, size = struct.unpack_from("<II", data, 10)
    if size == 12:  # noqa: PLR2004 - the first version, of 16-bit sides
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if width < 1 or bits not in {1, 4, 8, 16, 24, 32}:
        raise damaged(kind="BMP")
    row = (width * bits + 31) // 32 * 4
    if compression in {0, 3} and pixels_at + row * abs(height) > len(data):
        raise CutShortError
    return ImageHeader("BMP", width, abs(height))


def _webp(data: bytes) -> ImageHeader:
    """Walk the chunks: the picture's own gives size and opacity, the extended header only orientation and animation."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise CutShortError
    found: tuple[int, int] | None = None
    has_alpha, says_exif, orientation, position = False, False, 1, 12
    while position + 8 <= size + 8:
        kind, (length,) = data[position : position + 4], struct.unpack_from("<I", data, position + 4)
        body = position + 8
        if kind == b"ANIM":
            raise RefusedError(found="an animated WebP", expected="a still picture")
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, body + 6)
            found = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L":
            (packed,) = struct.unpack_from("<I", data, body + 1)
            found = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
            has_alpha = bool(packed >> 28 & 1)
        elif kind == b"ALPH":
            has_alpha = True
        elif kind == b"VP8X":
            says_exif = bool(data[body] & _WEBP_EXIF)
        elif kind == b"EXIF":
            orientation = tiff.exif_orientation(data[body : body + length].removeprefix(b"Exif\0\0"))
        position = body + length + length % 2
    if found is None or (orientation != 1 and not says_exif):
        raise damaged(kind="WebP")
    return ImageHeader("WebP", *found, orientation, has_alpha=has_alpha)
