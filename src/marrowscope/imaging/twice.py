"""BMP and WebP, decoded by Pillow as well: OpenCV reads files that Pillow refuses, and then shows another picture.

Neither format has a checksum. OpenCV passes over a damaged header, a canvas of another size and a broken chunk; the
picture counts only where both libraries give it. Reading a file takes twice as long so (12 megapixels: WebP 0.6 s for
0.3 s, BMP 0.2 s for 0.1 s).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.imaging.one_image import is_out_of_memory
from marrowscope.imaging.refusals import RefusedError, damaged

if TYPE_CHECKING:
    from marrowscope.records import ImageArray

_TOLERANCE = {"BMP": 8, "WebP": 1}
"""Gray levels: BMP samples of 5 bits are widened to 8 in two ways; opacity over white is rounded in two ways."""
_MAX_8 = 255


def check_twice(data: bytes, kind: str, image: ImageArray) -> None:
    """Compare ``image``, RGB uint8 (h, w, 3) as stored, with Pillow's reading of ``data``. Raises RefusedError."""
    from PIL import BmpImagePlugin, WebPImagePlugin  # noqa: PLC0415 - only these two formats need it

    opener = BmpImagePlugin.BmpImageFile if kind == "BMP" else WebPImagePlugin.WebPImageFile
    try:
        with opener(io.BytesIO(data)) as page:  # the plugin's class: Image.open would warn of large images
            page.load()
            other = np.asarray(page.convert("RGB"))
            if kind == "WebP" and "A" in page.mode:
                alpha = np.asarray(page.getchannel("A"))[..., None].astype(np.uint16)
                other = (other * alpha + (_MAX_8 - alpha) * np.uint16(_MAX_8) + np.uint16(_MAX_8 // 2)) // _MAX_8
    except Exception as error:  # a parser on hostile bytes raises many kinds
        if is_out_of_memory(error):
            raise
        raise damaged(kind) from error
    if other.shape != image.shape:
        raise damaged(kind)
    if int(np.asarray(cv2.absdiff(image, np.ascontiguousarray(other, dtype=np.uint8))).max()) > _TOLERANCE[kind]:
        raise RefusedError(
            found=f"a {kind} that two decoders read differently",
            expected="one picture",
            action="copy or export it again",
        )
