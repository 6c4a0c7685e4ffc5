"""How steep an image is at each pixel, equal to the bit wherever its values lie in memory."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def slope(values: Floats, scale: float = 1.0) -> Floats:
    """Return the length (h, w) of the gradient of ``values`` (h, w), by Sobel's 3 x 3 kernels times ``scale``.

    1/8 gives the change from one pixel to the next. Without OpenCV's ``magnitude``, whose last bit depends on whether
    its result happens to begin at a multiple of 32 bytes: a table would not be equal when a field is predicted again.
    """
    across = np.asarray(cv2.Sobel(values, cv2.CV_32F, 1, 0, scale=scale), dtype=np.float32)
    down = np.asarray(cv2.Sobel(values, cv2.CV_32F, 0, 1, scale=scale), dtype=np.float32)
    across *= across
    down *= down
    across += down
    return np.sqrt(across, out=across)
