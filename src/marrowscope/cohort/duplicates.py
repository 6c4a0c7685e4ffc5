"""Copies of an image under another hash: a fingerprint a field, and the pairs that show one photograph.

Steps: the field in gray, 64 x 64 px by area, whatever its size and shape; its discrete cosine transform; the signs of
the 16 x 16 lowest frequencies. Signs know neither brightness nor contrast, and low frequencies know neither JPEG nor
the number of pixels. A mirrored or rotated image has the same coefficients transposed and with known signs turned, so
all eight ways to lay a photograph are compared without a second look at it.

``refuse_leaks`` holds a division of the patients against the images: the same file, or the same photograph, on two
sides is refused by name and never moved in silence.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl

from marrowscope.errors import CohortError, ImageError
from marrowscope.imaging import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import Field, ImageArray

_N_FREQUENCIES = 16
_N_BITS = _N_FREQUENCIES**2 - 1
"""Bits that say something: the mean of the image is left out, its bit is 0."""
MAX_DISTANCE = 64
"""Largest number of differing bits, of 255, that counts as one photograph.

Measured on 1,661 real and 480 simulated fields of different patients (2.3 million pairs, each in eight orientations):
no pair below 78. Their own copies: at most 7 after JPEG of quality 60, 2 at half the size, 28 brightened, 48 with 3 %
cut away around the center; docs/cohort.md has the table.
"""
FEATURELESS = "0" * (_N_FREQUENCIES**2 // 4)
"""Fingerprint of an image of one color, which is no copy of anything."""
_GRID_PX = 64
_MIN_CONTRAST = 0.5
_RGB_NDIM = 3
_SHOWN = 5


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

    ``image`` is RGB uint8 (h, w, 3). Images with a standard deviation below half a gray level are FEATURELESS.
    Raises ImageError for another shape or type.
    """
    if image.ndim != _RGB_NDIM or image.shape[2] != _RGB_NDIM or image.dtype != np.uint8 or not image.size:
        message = f"found an image of shape {image.shape} and type {image.dtype}, expected RGB uint8 (h, w, 3)"
        raise ImageError(message)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grid = cv2.resize(gray, (_GRID_PX, _GRID_PX), interpolation=cv2.INTER_AREA)
    if grid.std() < _MIN_CONTRAST:
        return FEATURELESS
    positive = cv2.dct(grid)[:_N_FREQUENCIES, :_N_FREQUENCIES] > 0
    positive[0, 0] = False
    return np.packbits(positive).tobytes().hex()


def near_duplicates(fingerprints: pl.DataFrame, max_distance: int = MAX_DISTANCE) -> list[NearDuplicate]:
    """List the pairs of images whose fingerprints differ by at most ``max_distance`` bits, however mirrored or turned.

    ``fingerprints`` has columns patient_id, image_sha256 and image_dhash, any number of rows an image; rows without a
    fingerprint, or with that of an image of one color, are in no pair. Sorted; empty where there is none.
    """
    table = (
        fingerprints.select("patient_id", "image_sha256", "image_dhash")
        .filter(fingerprints["image_dhash"].is_not_null() & (fingerprints["image_dhash"] != FEATURELESS))
        .unique()
        .sort("patient_id", "image_sha256", "image_dhash")
    )
    names = list(zip(table["patient_id"].to_list(), table["image_sha256"].to_list(), strict=True))
    bits = _unpack(table["image_dhash"].to_list())
    words = np.ascontiguousarray(_words(bits).T)
    nearest: dict[tuple[int, int], int] = {}
    for laid in _orientations(bits):
        for row, turned in enumerate(_words(laid)):
            distances = np.zeros(len(bits) - row - 1, dtype=np.uint8)  # at most _N_BITS: the first bit is always 0
            for column, word in zip(words[:, row + 1 :], turned, strict=True):
                distances += np.bitwise_count(column ^ word)
            for place in np.flatnonzero(distances <= max_distance):
                pair = row, row + 1 + int(place)
                nearest[pair] = min(nearest.get(pair, _N_BITS), int(distances[place]))
    return sorted(NearDuplicate(*names[a], *names[b], distance) for (a, b), distance in nearest.items())


class SeenPhotographs:
    """The fingerprints of the images so far, for a run that asks of each next one whether it was there before."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._words = np.zeros((64, _N_BITS // 64 + 1), dtype=np.uint64)

    def find(self, fingerprint: str, max_distance: int = MAX_DISTANCE) -> tuple[str, int] | None:
        """Give the name of the nearest earlier image, however mirrored or turned, and how many bits differ.

        None where none is within ``max_distance``, and for an image without a fingerprint or of one color.
        """
        if fingerprint in {"", FEATURELESS} or not self._names:
            return None
        laid = np.concatenate([_words(bits) for bits in _orientations(_unpack([fingerprint]))])
        seen = self._words[: len(self._names)]
        distances = np.bitwise_count(seen[None] ^ laid[:, None]).sum(axis=2, dtype=np.int64).min(axis=0)
        nearest = int(distances.argmin())
        return (self._names[nearest], int(distances[nearest])) if distances[nearest] <= max_distance else None

    def add(self, name: str, fingerprint: str) -> None:
        """Keep an image; one without a fingerprint, or of one color, is nobody's copy."""
        if fingerprint in {"", FEATURELESS}:
            return
        if len(self._names) == len(self._words):
            self._words = np.concatenate([self._words, np.zeros_like(self._words)])
        self._words[len(self._names)] = _words(_unpack([fingerprint]))[0]
        self._names.append(name)


def fingerprint_fields(
    fields: Sequence[Field], *, n_threads: int = 4, progress: Callable[[int, int], None] | None = None
) -> pl.DataFrame:
    """Give patient_id, field_id, image_sha256 and image_dhash of every field, in order; the images are read in full.

    ``progress`` gets (images read, images in all). Raises ImageError for an image that cannot be read.
    """
    prints: list[str] = []
    with ThreadPoolExecutor(max_workers=n_threads) as pool:  # decoding leaves the interpreter lock
        for fingerprint in pool.map(lambda field: image_fingerprint(read_image(field.path)), fields):
            prints.append(fingerprint)
            if progress:
                progress(len(prints), len(fields))
    columns = {
        "patient_id": [field.patient_id for field in fields],
        "field_id": [field.field_id for field in fields],
        "image_sha256": [field.sha256 for field in fields],
        "image_dhash": prints,
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String()))


def refuse_leaks(
    images: pl.DataFrame, side_of: Mapping[str, str], action: str, label_of: Mapping[str, str] | None = None
) -> None:
    """Raise CohortError with the names of every image that stands on two sides, as a file or as a near-duplicate.

    ``images`` has columns patient_id and image_sha256, any number of rows an image; with image_dhash near-duplicates
    are found too, with field_id images are called by it. ``side_of`` gives the side of every patient and ``label_of``
    what the message calls it (the side itself by default); ``action`` is what the message says to do.
    """
    call = _caller(images, label_of or side_of)
    leaks = [*_shared_files(images, side_of, call), *_shared_photographs(images, side_of, call)]
    if leaks:
        message = (
            f"the split leaks: {len(leaks)} images stand on two sides ({some(leaks, '; ')}), expected each on one; "
            f"{action}"
        )
        raise CohortError(message)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Join the first few names, and say how many more there are."""
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")


def _shared_files(images: pl.DataFrame, side_of: Mapping[str, str], call: Callable[[str, str], str]) -> list[str]:
    """Name the files that patients of two sides have in common."""
    shared = (
        images.select("patient_id", "image_sha256")
        .unique()
        .group_by("image_sha256")
        .agg(pl.col("patient_id").sort())
        .filter(pl.col("patient_id").list.len() > 1)
        .sort("image_sha256")
    )
    return [
        f"image {sha256[:12]} of patients " + " and ".join(call(patient, sha256) for patient in owners)
        for sha256, owners in shared.iter_rows()
        if len({side_of[patient] for patient in owners}) > 1
    ]


def _shared_photographs(images: pl.DataFrame, side_of: Mapping[str, str], call: Callable[[str, str], str]) -> list[str]:
    """Name the pairs of files that show one photograph and stand on two sides."""
    if "image_dhash" not in images.columns:
        return []
    return [
        f"near-duplicates {pair.image_a[:12]} and {pair.image_b[:12]} ({pair.distance} of {_N_BITS} bits differ) of "
        f"patients {call(pair.patient_a, pair.image_a)} and {call(pair.patient_b, pair.image_b)}"
        for pair in near_duplicates(images)
        if pair.image_a != pair.image_b and side_of[pair.patient_a] != side_of[pair.patient_b]
    ]


def _caller(images: pl.DataFrame, label_of: Mapping[str, str]) -> Callable[[str, str], str]:
    """Give a function from patient and hash to ``p1 (train)``, or ``p1 (train, field p1/f1)`` where it has a name."""
    if "field_id" not in images.columns:
        return lambda patient, _: f"{patient} ({label_of[patient]})"
    named = images.select("patient_id", "image_sha256", "field_id").unique(keep="first", maintain_order=True)
    field_of = {(patient, sha256): name for patient, sha256, name in named.iter_rows()}
    return lambda patient, sha256: f"{patient} ({label_of[patient]}, field {field_of[patient, sha256]})"


def _unpack(fingerprints: list[str]) -> NDArray[np.bool_]:
    """Bits (n, frequency down, frequency across) of hexadecimal fingerprints."""
    packed = np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=np.uint8)
    return np.unpackbits(packed).reshape(-1, _N_FREQUENCIES, _N_FREQUENCIES).astype(np.bool_)


def _words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack bits (n, 16, 16) to (n, 4) words."""
    return np.packbits(bits.reshape(len(bits), _N_FREQUENCIES**2), axis=1).view(np.uint64)


def _orientations(bits: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Give the bits of the eight mirrored and rotated copies of every image.

    Mirroring multiplies the coefficient of frequency k by (-1)^k along its axis; transposing swaps the axes.
    """
    odd = np.arange(_N_FREQUENCIES) % 2 == 1
    for across in (False, True):
        for down in (False, True):
            turned = bits ^ (odd & across) ^ (odd & down)[:, None]
            yield turned
            yield turned.transpose(0, 2, 1)
