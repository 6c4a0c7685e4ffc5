"""Copies of an image under another hash: a fingerprint a field, and the pairs that show one photograph.

Steps: the field in grey, 64 x 64 px by area, whatever its size and shape; its discrete cosine transform; the signs of
the 16 x 16 lowest frequencies. Signs know neither brightness nor contrast, and low frequencies know neither JPEG nor
the number of pixels. A mirrored or rotated image has the same coefficients transposed and with known signs turned, so
all eight ways to lay a photograph are compared without a second look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from numpy.typing import NDArray

    from marrowscope.records import ImageArray

N_FREQUENCIES = 16
N_BITS = N_FREQUENCIES**2 - 1
"""Bits that say something: the mean of the image is left out, its bit is 0."""
MAX_DISTANCE = 64
"""Largest number of differing bits, of 255, that counts as one photograph."""
FEATURELESS = "0" * (N_FREQUENCIES**2 // 4)
"""Fingerprint of an image of one colour, which is no copy of anything."""
_GRID_PX = 64
_MIN_CONTRAST = 0.5
_RGB_NDIM = 3


@dataclass(frozen=True, slots=True, order=True)
class NearDuplicate:
    """Two images, in the order of their patients and hashes, and how many bits of their fingerprints differ."""

    patient_a: str
    image_a: str
    patient_b: str
    image_b: str
    distance: int


def image_fingerprint(image: ImageArray) -> str:
    """Give 64 hexadecimal digits that survive JPEG, another size or brightness, and a slight cut of ``image``.

    ``image`` is RGB uint8 (h, w, 3). Images with a standard deviation below half a grey level are FEATURELESS.
    Raises ImageError for another shape or type.
    """
    if image.ndim != _RGB_NDIM or image.shape[2] != _RGB_NDIM or image.dtype != np.uint8 or not image.size:
        message = f"found an image of shape {image.shape} and type {image.dtype}, expected RGB uint8 (h, w, 3)"
        raise ImageError(message)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grid = cv2.resize(gray, (_GRID_PX, _GRID_PX), interpolation=cv2.INTER_AREA)
    if grid.std() < _MIN_CONTRAST:
        return FEATURELESS
    positive = cv2.dct(grid)[:N_FREQUENCIES, :N_FREQUENCIES] > 0
    positive[0, 0] = False
    return np.packbits(positive).tobytes().hex()


def near_duplicates(fingerprints: pl.DataFrame, max_distance: int = MAX_DISTANCE) -> list[NearDuplicate]:
    """List the pairs of images whose fingerprints differ by at most ``max_distance`` bits, however mirrored or turned.

    ``fingerprints`` has columns patient_id, image_sha256 and image_dhash, any number of rows an image; rows without a
    fingerprint, or with that of an image of one colour, are in no pair. Sorted; empty where there is none.
    """
    table = (
        fingerprints.select("patient_id", "image_sha256", "image_dhash")
        .filter(fingerprints["image_dhash"].is_not_null() & (fingerprints["image_dhash"] != FEATURELESS))
        .unique()
        .sort("patient_id", "image_sha256", "image_dhash")
    )
    names = list(zip(table["patient_id"].to_list(), table["image_sha256"].to_list(), strict=True))
    bits = _unpack(table["image_dhash"].to_list())
    words = _words(bits)
    nearest: dict[tuple[int, int], int] = {}
    for laid in _orientations(bits):
        for row, turned in enumerate(_words(laid)):
            distances = np.bitwise_count(words[row + 1 :] ^ turned).sum(axis=1, dtype=np.int64)
            for place in np.flatnonzero(distances <= max_distance):
                pair = row, row + 1 + int(place)
                nearest[pair] = min(nearest.get(pair, N_BITS), int(distances[place]))
    return sorted(NearDuplicate(*names[a], *names[b], distance) for (a, b), distance in nearest.items())


def _unpack(fingerprints: list[str]) -> NDArray[np.bool_]:
    """Bits (n, frequency down, frequency across) of hexadecimal fingerprints."""
    packed = np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=np.uint8)
    return np.unpackbits(packed).reshape(-1, N_FREQUENCIES, N_FREQUENCIES).astype(np.bool_)


def _words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack bits (n, 16, 16) to (n, 4) words."""
    return np.packbits(bits.reshape(len(bits), N_FREQUENCIES**2), axis=1).view(np.uint64)


def _orientations(bits: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Give the bits of the eight mirrored and rotated copies of every image.

    Mirroring multiplies the coefficient of frequency k by (-1)^k along its axis; transposing swaps the axes.
    """
    odd = np.arange(N_FREQUENCIES) % 2 == 1
    for across in (False, True):
        for down in (False, True):
            turned = bits ^ (odd & across) ^ (odd & down)[:, None]
            yield turned
            yield turned.transpose(0, 2, 1)
