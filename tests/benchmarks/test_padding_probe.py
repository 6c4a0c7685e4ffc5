"""The measures of the padding probe see what they are meant to see."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks.padding_probe import RING_PX, ring_measures, separable  # the optional package first

RNG = np.random.default_rng(0)
MIRROR = -1
"""Position of the mirror's correlation among the measures of the last side."""


def test_a_mirrored_ring_is_seen_and_the_middle_of_the_crop_is_not() -> None:
    crop = RNG.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    other = crop.copy()
    other[RING_PX:-RING_PX, RING_PX:-RING_PX] = 0
    assert np.array_equal(ring_measures(crop), ring_measures(other))
    mirrored = crop[np.abs(np.arange(96) - 8)][:, np.abs(np.arange(96) - 8)]
    assert ring_measures(crop).reshape(4, -1)[0, MIRROR] < 0.5
    assert ring_measures(mirrored).reshape(4, -1)[0, MIRROR] == pytest.approx(1.0)


def test_equal_crops_cannot_be_told_apart_and_others_can() -> None:
    measures = RNG.normal(size=(40, 6))
    assert separable(measures, measures)[0] == pytest.approx(0.5, abs=0.15)
    assert separable(measures, measures + 5)[0] > 0.99
