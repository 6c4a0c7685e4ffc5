"""The mark of a simulated photograph: written, found, and nothing else takes for it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from marrowscope.imaging import decode_image, encode_image
from marrowscope.imaging.photograph import decode_photograph
from marrowscope.imaging.simulated import is_simulated, mark_simulated
from marrowscope.simulate import SimulationConfig, simulate_cohort

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image() -> np.ndarray:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    return cv2.GaussianBlur(picture, (0, 0), 3)


def test_a_marked_photograph_is_the_same_picture(image: np.ndarray) -> None:
    plain = encode_image(image, ".jpg")
    marked = mark_simulated(plain)
    assert is_simulated(marked)
    assert not is_simulated(plain)
    assert np.array_equal(decode_image(marked, "a.jpg"), decode_image(plain, "a.jpg"))
    assert b"simulated" in Image.open(io.BytesIO(marked)).info["comment"]  # another library reads the comment
    assert decode_photograph(marked, "a.jpg", stated_um_per_px=0.1).is_simulated
    assert not decode_photograph(plain, "a.jpg", stated_um_per_px=0.1).is_simulated


def test_other_comments_and_formats_are_no_mark(image: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", comment=b"marrowscope: simulated")
    assert not is_simulated(stream.getvalue())
    assert not is_simulated(encode_image(image, ".png"))
    assert not is_simulated(b"")
    with pytest.raises(ValueError, match="found no JPEG"):
        mark_simulated(encode_image(image, ".png"))


def test_the_words_in_the_picture_or_behind_it_are_no_mark(image: np.ndarray) -> None:
    """Only a comment segment in front of the picture counts: bytes behind the end are anybody's."""
    plain = encode_image(image, ".jpg")
    assert not is_simulated(plain + mark_simulated(plain)[2:60])


def test_every_cut_of_a_marked_photograph_is_read_without_an_error(image: np.ndarray) -> None:
    marked = mark_simulated(encode_image(image, ".jpg"))
    assert [is_simulated(marked[:end]) for end in range(51)][:49] == [False] * 49
    assert all(isinstance(is_simulated(marked[:end]), bool) for end in range(len(marked)))


def test_simulate_marks_what_it_writes(tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "sim", SimulationConfig(patients=1, centers=1, fields=1, workers=1))
    (photograph,) = (tmp_path / "sim").glob("*/*.jpg")
    assert is_simulated(photograph.read_bytes())
