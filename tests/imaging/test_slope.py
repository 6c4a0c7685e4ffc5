"""The slope of an image: its length by hand, and equal bits wherever the values lie in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from marrowscope.imaging.slope import slope

if TYPE_CHECKING:
    from numpy.typing import NDArray


def test_the_slope_of_a_plane_is_the_length_of_its_gradient() -> None:
    row, column = np.mgrid[0:9, 0:12].astype(np.float32)
    found = slope(3 * column + 4 * row, scale=1 / 8)
    assert found[1:-1, 1:-1] == pytest.approx(5)


def test_the_slope_is_equal_to_the_bit_wherever_it_lies() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((19, 33), dtype=np.float32)
    kept: list[NDArray[Any]] = []  # of other sizes, so that each result begins elsewhere
    seen = set()
    for _ in range(200):
        found = slope(values, scale=1 / 8)
        seen.add(found.tobytes())
        kept += [found, np.empty(int(rng.integers(1, 3000)), np.uint8)]
    assert len({array.ctypes.data % 32 for array in kept}) > 1
    assert len(seen) == 1
