"""Copies of an image under another hash: one fingerprint per field, and the pairs that show the same photograph.

Steps: the field in gray, area-averaged to 64 x 64 px whatever its size and shape; its discrete cosine transform; the
signs of the 16 x 16 lowest frequencies. Signs do not depend on brightness or contrast, and low frequencies hardly
depend on JPEG compression or image size. A mirrored or rotated image has the same coefficients, transposed and with
known sign changes, so all eight orientations are compared without reading the image again.

``refuse_leaks`` checks a division of the patients against the images: if the same file or the same photograph is on
two sides, it is refused by name and never moved silently.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl

from marrowscope.errors import CohortError, ImageError
from marrowscope.imaging import read_image
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import Field, ImageArray

_N_FREQUENCIES = 16
_N_BITS = _N_FREQUENCIES**2 - 1
"""Informative bits: the image mean is left out, and its bit is always 0."""
MAX_DISTANCE = 64
"""Largest number of differing bits, out of 255, at which two images count as the same photograph.

Measured on 1,661 real and 480 simulated fields of different patients (2.3 million pairs, each in eight orientations):
no pair differed in fewer than 78 bits. Copies of the same field: at most 7 bits after JPEG at quality 60, 2 at half
size, 28 when brightened, 48 with 3% cropped around the center; docs/cohort.md has the table.
"""
FEATURELESS = "0" * (_N_FREQUENCIES**2 // 4)
"""Fingerprint of an image of a single color, which never counts as a copy."""
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{_N_FREQUENCIES**2 // 4}}}")
_GRID_PX = 64
_MIN_CONTRAST = 0.5
_RGB_NDIM = 3
_N_PARITIES = 4
_FLIPPED = np.uint8(2 * _N_FREQUENCIES**2 // _N_PARITIES)
"""Bits of the two words that mirroring flips."""
_AT_ONCE = 8192
"""So many fingerprints, with what is computed of them, fit into the cache of a core."""
_SHOWN = 5
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True, order=True)
class NearDuplicate:
    """Two images, ordered by patient and hash, and the number of bits in which their fingerprints differ."""

    patient_a: str
    image_a: str
    patient_b: str
    image_b: str
    distance: int


def is_fingerprint(text: str) -> bool:
    """Say whether a stored text is a fingerprint, or the empty one of an image that has none."""
    return not text or _FINGERPRINT.fullmatch(text) is not None


def image_fingerprint(image: ImageArray) -> str:
    """Compute 64 hexadecimal digits that survive JPEG, resizing, brightness changes and slight cropping of ``image``.

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
    """List the pairs of images whose fingerprints differ by at most ``max_distance`` bits, in any orientation.

    ``fingerprints`` has columns patient_id, image_sha256 and image_dhash, with any number of rows per image; rows
    without a fingerprint, or with that of a single-color image, are in no pair. Sorted; empty if there are none.
    """
    table = (
        fingerprints.select("patient_id", "image_sha256", "image_dhash")
        .filter(fingerprints["image_dhash"].is_not_null() & (fingerprints["image_dhash"] != FEATURELESS))
        .unique()
        .sort("patient_id", "image_sha256", "image_dhash")
    )
    if wrong := next((text for text in table["image_dhash"] if text and not is_fingerprint(text)), ""):
        message = (
            f"found image_dhash {wrong[:_MAX_SHOWN]!r}, expected "
            f"{count_of(len(FEATURELESS), 'hexadecimal digit')}; make the crop set again with `marrowscope prepare`"
        )
        raise CohortError(message)
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
    """The fingerprints of the images so far, for a run that asks of each next one whether it was there before.

    Each is compared with all earlier ones. The bits are kept in four words, one for each parity of the frequencies down
    and across: a mirrored image has in each word all bits flipped or none, so that two comparisons, of the image and of
    its transpose, give the distances in all eight orientations. No index by parts of the fingerprint would save any: at
    a quarter of the bits, and with all images that share a part looked at, it selects most of them.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._words = np.zeros((_N_PARITIES, _AT_ONCE), dtype=np.uint64)

    def find(self, fingerprint: str, max_distance: int = MAX_DISTANCE) -> tuple[str, int] | None:
        """Return the name of the nearest earlier image, however mirrored or turned, and how many bits differ.

        The first of those that are equally near. None where none is within ``max_distance``, and for an image without a
        fingerprint or of one color.
        """
        if fingerprint in {"", FEATURELESS} or not self._names:
            return None
        bits = _unpack([fingerprint])
        laid = (_parity_words(bits)[:, 0], _parity_words(bits.transpose(0, 2, 1))[:, 0])
        place, nearest = 0, _N_BITS + 1
        for start in range(0, len(self._names), _AT_ONCE):
            distances = _least_distances(self._words[:, start : min(start + _AT_ONCE, len(self._names))], laid)
            first = int(distances.argmin())
            if distances[first] < nearest:
                place, nearest = start + first, int(distances[first])
        return (self._names[place], nearest) if nearest <= max_distance else None

    def add(self, name: str, fingerprint: str) -> None:
        """Keep an image; one without a fingerprint, or of one color, is nobody's copy."""
        if fingerprint in {"", FEATURELESS}:
            return
        if len(self._names) == self._words.shape[1]:
            self._words = np.concatenate([self._words, np.zeros_like(self._words)], axis=1)
        self._words[:, len(self._names)] = _parity_words(_unpack([fingerprint]))[:, 0]
        self._names.append(name)


def _least_distances(words: NDArray[np.uint64], laid: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint8]:
    """Return the bits (n,) in which images ``words`` (4, n) differ from another one, in the nearest orientation.

    ``laid`` are the words (4,) of the other image and of its transpose. Sums are at most 255, so that what they pass in
    between may run over.
    """
    least = np.full(words.shape[1], _N_BITS, dtype=np.uint8)
    for other in laid:
        even, across, down, both = np.bitwise_count(words ^ other[:, None])
        plain, turned = across + down, across - down
        np.minimum(least, even + plain + both, out=least)
        np.minimum(least, even - plain + both + _FLIPPED, out=least)
        np.minimum(least, even + turned - both + _FLIPPED, out=least)
        np.minimum(least, even - turned - both + _FLIPPED, out=least)
    return least


def fingerprint_fields(
    fields: Sequence[Field], *, n_threads: int = 4, progress: Callable[[int, int], None] | None = None
) -> pl.DataFrame:
    """Return patient_id, field_id, image_sha256 and image_dhash of every field, in order; images are read in full.

    ``progress`` gets (images read, total images). Raises ImageError for an image that cannot be read.
    """
    prints: list[str] = []
    with ThreadPoolExecutor(max_workers=n_threads) as pool:  # decoding releases the interpreter lock
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
    """Raise CohortError naming every image that is on two sides, as an identical file or a near-duplicate.

    ``images`` has columns patient_id and image_sha256, with any number of rows per image; with image_dhash,
    near-duplicates are found too; with field_id, images are named by it. ``side_of`` is the side of every patient,
    ``label_of`` the side's name in the message (by default the side itself), and ``action`` the advice in the message.
    """
    call = _caller(images, label_of or side_of)
    leaks = [*_shared_files(images, side_of, call), *_shared_photographs(images, side_of, call)]
    if leaks:
        message = (
            f"the split leaks: found {count_of(len(leaks), 'image')} on two sides ({some(leaks, '; ')}), expected "
            "each on "
            f"one; {action}"
        )
        raise CohortError(message)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Join the first few names and add how many more there are."""
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")


def _shared_files(images: pl.DataFrame, side_of: Mapping[str, str], call: Callable[[str, str], str]) -> list[str]:
    """Describe each file shared by patients on two sides."""
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
    """Describe each pair of files that show the same photograph and are on two sides."""
    if "image_dhash" not in images.columns:
        return []
    return [
        f"near-duplicates {pair.image_a[:12]} and {pair.image_b[:12]} ({pair.distance} of {_N_BITS} bits differ) of "
        f"patients {call(pair.patient_a, pair.image_a)} and {call(pair.patient_b, pair.image_b)}"
        for pair in near_duplicates(images)
        if pair.image_a != pair.image_b and side_of[pair.patient_a] != side_of[pair.patient_b]
    ]


def _caller(images: pl.DataFrame, label_of: Mapping[str, str]) -> Callable[[str, str], str]:
    """Return a function from patient and hash to ``p1 (train)``, or ``p1 (train, field p1/f1)`` with a field_id."""
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


def _parity_words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack bits (n, 16, 16) to words (4, n): even frequencies, odd ones across, odd ones down, odd ones both ways."""
    parts = [bits[:, down::2, across::2] for down in (0, 1) for across in (0, 1)]
    return np.stack([np.packbits(part.reshape(len(bits), -1), axis=1).view(np.uint64)[:, 0] for part in parts])


def _orientations(bits: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the bits of the eight mirrored and rotated copies of every image.

    Mirroring multiplies the coefficient of frequency k by (-1)^k along its axis; transposing swaps the axes.
    """
    odd = np.arange(_N_FREQUENCIES) % 2 == 1
    for across in (False, True):
        for down in (False, True):
            turned = bits ^ (odd & across) ^ (odd & down)[:, None]
            yield turned
            yield turned.transpose(0, 2, 1)
