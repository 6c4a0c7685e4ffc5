from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl
import pytest

from marrowscope.cohort.duplicates import (
    FEATURELESS,
    MAX_DISTANCE,
    NearDuplicate,
    image_fingerprint,
    near_duplicates,
)
from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, encode_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.records import ImageArray


def _field(seed: int, height_px: int = 360, width_px: int = 480) -> ImageArray:
    """Draw a pale field with fifty dark discs."""
    random = np.random.default_rng(seed)
    image = np.full((height_px, width_px, 3), 225, dtype=np.uint8)
    for _ in range(50):
        center = int(random.integers(width_px)), int(random.integers(height_px))
        cv2.circle(image, center, int(random.integers(8, 28)), [int(v) for v in random.integers(60, 180, 3)], -1)
    return image


def _distance(a: ImageArray, b: ImageArray) -> int:
    prints = [image_fingerprint(a), image_fingerprint(b)]
    table = pl.DataFrame({"patient_id": ["p", "q"], "image_sha256": ["a", "b"], "image_dhash": prints})
    (pair,) = near_duplicates(table, max_distance=255)
    return pair.distance


COPIES: dict[str, Callable[[ImageArray], ImageArray]] = {
    "JPEG of quality 60": lambda image: decode_image(encode_image(image, ".jpg", 60), "x"),
    "half the size": lambda image: cv2.resize(image, (240, 180), interpolation=cv2.INTER_AREA).astype(np.uint8),
    "brighter": lambda image: np.clip(image * 1.15 + 10, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "3 % cut": lambda image: image[5:-6, 7:-7].copy(),
    "mirrored": lambda image: image[:, ::-1].copy(),
    "upside down": lambda image: image[::-1].copy(),
    "quarter turn": lambda image: np.rot90(image).copy(),
    "three quarter turns, mirrored": lambda image: np.rot90(image, 3)[:, ::-1].copy(),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_near_its_original_and_far_from_other_fields(name: str) -> None:
    copies = [COPIES[name](_field(seed)) for seed in range(4)]
    for seed, copy in enumerate(copies):
        distances = [_distance(_field(other), copy) for other in range(4)]
        assert distances[seed] <= MAX_DISTANCE
        assert min(distances[:seed] + distances[seed + 1 :]) > MAX_DISTANCE


def test_a_fingerprint_is_the_signs_of_the_lowest_cosines() -> None:
    image = _field(0)
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (64, 64), interpolation=3)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(image_fingerprint(image)), dtype=np.uint8)).reshape(16, 16)
    places = (np.arange(64) + 0.5) * np.pi / 64
    assert bits[0, 0] == 0
    for down, across in ((0, 1), (1, 0), (3, 2), (15, 15), (7, 12)):
        coefficient = np.cos(down * places) @ gray @ np.cos(across * places)
        assert bits[down, across] == (coefficient > 0)


def test_images_of_one_color_are_copies_of_nothing() -> None:
    blank = image_fingerprint(np.full((40, 60, 3), 200, dtype=np.uint8))
    assert blank == FEATURELESS
    prints = pl.DataFrame(
        {"patient_id": ["p", "q", "r"], "image_sha256": ["a", "b", "c"], "image_dhash": [blank, blank, None]}
    )
    assert near_duplicates(prints) == []
    assert near_duplicates(prints.clear()) == []


def test_pairs_are_named_once_and_in_order() -> None:
    near, far = image_fingerprint(_field(0)), image_fingerprint(_field(1))
    prints = pl.DataFrame(
        {
            "patient_id": ["q", "p", "q", "p"],
            "image_sha256": ["b", "a", "b", "c"],
            "image_dhash": [near, near, near, far],
        }
    )
    assert near_duplicates(prints) == [NearDuplicate("p", "a", "q", "b", 0)]
    assert near_duplicates(prints.reverse()) == near_duplicates(prints)


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 4), (0, 5, 3)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"found an image of shape .*expected RGB uint8"):
        image_fingerprint(np.zeros(shape, dtype=np.uint8))
