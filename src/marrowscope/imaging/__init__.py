"""Images at the edge: read, hash, write. Inside the package an image is RGB uint8 (height, width, 3).

Reading goes in two steps. ``read_header`` says from the first bytes what the file is, how large, how it stands and how
its samples are stored, without decoding a pixel; whatever cannot become the right picture is refused there.
``decode_image`` then takes the decoder that is known to give the right picture for such a file.

Invariant: every file gives the picture a viewer shows, or one ImageError whose sentence says what was found. What no
decoder can know is left: JPEG, WebP, BMP and uncompressed TIFF carry no checksum, so pixels that were overwritten with
others of the same form are not noticed.
"""

from marrowscope.imaging.decode import REDUCTIONS, decode_image
from marrowscope.imaging.files import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    SLIDE_SUFFIXES,
    UNREAD,
    encode_image,
    is_image_path,
    is_printable,
    is_slide_path,
    printable,
    read_file,
    read_image,
    sha256_bytes,
    sha256_file,
    unread_fault,
    write_image,
)
from marrowscope.imaging.header import MAX_PIXELS, ImageHeader, read_header
from marrowscope.imaging.one_image import one_image

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "REDUCTIONS",
    "SLIDE_SUFFIXES",
    "UNREAD",
    "ImageHeader",
    "decode_image",
    "encode_image",
    "is_image_path",
    "is_printable",
    "is_slide_path",
    "one_image",
    "printable",
    "read_file",
    "read_header",
    "read_image",
    "sha256_bytes",
    "sha256_file",
    "unread_fault",
    "write_image",
]
