"""The cell in the center of a picture, with segmenters whose answer is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from marrowscope import geometry
from marrowscope.cells.center import find_center_cell
from marrowscope.cells.quality import QualityRules
from marrowscope.records import ContourArray, Detection, ImageArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.segment.segmenter import Segmenter

SIDE, UM_PER_PX = 200, 0.12
PAD = 100
"""12 um on each side, in pixels."""
PICTURE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def circle(x: float, y: float, radius: float) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


class Answers:
    """A segmenter that answers by the width of what it sees, and keeps what it saw."""

    def __init__(self, answer: Callable[[int], list[ContourArray]]) -> None:
        self.answer = answer
        self.seen: list[ImageArray] = []

    def detect(self, image: ImageArray, _um_per_px: float) -> list[Detection]:
        """Answer as ``Segmenter.detect``."""
        self.seen.append(image)
        return [Detection(contour, (0, 0, 1, 1), 0.9) for contour in self.answer(image.shape[1])]


def find(answers: Answers) -> tuple[ContourArray | None, str]:
    found = find_center_cell(PICTURE, UM_PER_PX, cast("Segmenter", answers), QualityRules())
    return found.contour_xy, found.reason


def test_the_cell_over_the_center_is_taken_and_lies_in_the_pictures_pixels() -> None:
    cell, neighbor = circle(PAD + 96, PAD + 104, 40), circle(PAD + 20, PAD + 30, 30)
    answers = Answers(lambda _width: [neighbor, cell])
    contour, reason = find(answers)
    assert reason == ""
    assert contour is not None
    assert geometry.centroid(contour) == pytest.approx((96, 104), abs=0.01)
    (seen,) = answers.seen  # one look is enough
    assert seen.shape == (SIDE + 2 * PAD, SIDE + 2 * PAD, 3)
    assert np.array_equal(seen[PAD:-PAD, PAD:-PAD], PICTURE)
    assert np.array_equal(seen[PAD - 1], seen[PAD + 1])  # mirrored about the first row


def test_what_reaches_beyond_the_picture_is_cut_there_and_touches_the_edge() -> None:
    contour, reason = find(Answers(lambda width: [circle(PAD + 30, PAD + 99, 80)] if width > SIDE else []))
    assert reason == "edge"
    assert contour is not None
    assert geometry.bounding_box(contour)[0] == -0.5


def test_the_bare_picture_is_tried_where_its_surroundings_hide_the_cell() -> None:
    contour, reason = find(Answers(lambda width: [] if width > SIDE else [circle(100, 100, 40)]))
    assert (reason, contour is None) == ("", False)


def test_no_cell_over_the_center_is_not_found() -> None:
    assert find(Answers(lambda _width: [circle(10, 10, 5)])) == (None, "not_found")
    assert find(Answers(lambda _width: [])) == (None, "not_found")


@pytest.mark.parametrize(("radius", "reason"), [(10, "too_small"), (40, "")])
def test_the_rules_of_prediction_hold(radius: float, reason: str) -> None:
    assert find(Answers(lambda width: [circle((width - 1) / 2, (width - 1) / 2, radius)]))[1] == reason


def test_a_picture_smaller_than_its_surroundings() -> None:
    tiny = np.zeros((40, 40, 3), dtype=np.uint8)
    answers = Answers(lambda width: [circle((width - 1) / 2, (width - 1) / 2, 25)])
    found = find_center_cell(tiny, 0.3, cast("Segmenter", answers), QualityRules(max_area_um2=9000))
    assert answers.seen[0].shape == (40 + 2 * 39, 40 + 2 * 39, 3)
    assert found.reason == "edge"
