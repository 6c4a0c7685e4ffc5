"""Neighbors that follow, ignore or contradict a cell: the same cells in all three, and nothing changed by default."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.machine import processor_features
from marrowscope.simulate import SimulatedField, SimulationConfig, load_parameters
from marrowscope.simulate.neighbors import arrange
from marrowscope.simulate.writer import plan_patient, simulate_field
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.simulate.neighbors import Neighbors

CODES = load_vocabulary().codes
CONFIG = SimulationConfig(
    patients=2, centers=2, fields=1, seed=3, diagnoses=("AML_M2", "AML_M4"), cells_per_field=(30, 44)
)
# Of the simulator before it knew of neighbors, with these versions, which decide the last bit of a pixel.
DEFAULT_VERSIONS = ("5.0.0", "2.4.6")
DEFAULT_FIELD_SHA256 = "0796b85905027a1edb39dad06fe9372d83fb96ab12313d71c67df2f2844d2a16"


@lru_cache
def field_of(neighbors: Neighbors) -> SimulatedField:
    config = CONFIG.model_copy(update={"neighbors": neighbors})
    return simulate_field(config, plan_patient(config, 0, load_parameters()), 1, load_parameters())


def agreement(field: SimulatedField) -> float:
    """Share of cells less than 8 um from a cell whose composite blast-like state is the cell's own."""
    centers = np.array([cell.contour_xy.mean(axis=0) for cell in field.cells])
    radii = np.array([cell.diameter_um / 2 for cell in field.cells])
    state = np.array([CODES[cell.code].cblc for cell in field.cells])
    distance = np.hypot(*(centers[:, None] - centers[None]).transpose(2, 0, 1)) * field.um_per_px
    near = distance - radii[:, None] - radii[None] < 8.0
    np.fill_diagonal(near, val=False)
    return float((state[:, None] == state[None])[near].mean())


def test_the_default_draws_what_it_always_drew() -> None:
    if (cv2.__version__, np.__version__) != DEFAULT_VERSIONS:
        pytest.skip(f"the hash was taken with OpenCV and numpy {DEFAULT_VERSIONS}")
    if "avx512f" not in processor_features():
        pytest.skip("the hash was taken on a processor with AVX-512")
    config = SimulationConfig(
        patients=3,
        centers=2,
        fields=2,
        seed=5,
        cells_per_field=(4, 7),
        width_px=520,
        height_px=400,
        diagnoses=("control", "AML_M2", "APL"),
    )
    image = simulate_field(config, plan_patient(config, 0, load_parameters()), 1, load_parameters()).image
    assert hashlib.sha256(image.tobytes()).hexdigest() == DEFAULT_FIELD_SHA256


def test_the_three_ways_hold_the_same_cells() -> None:
    fields = [field_of(way) for way in ("independent", "correlated", "reversed")]
    assert len(fields[0].cells) >= 30
    for cells in zip(*(field.cells for field in fields), strict=True):
        assert len({cell.code for cell in cells}) == 1
        assert max(cell.diameter_um for cell in cells) == pytest.approx(min(cell.diameter_um for cell in cells))
        assert max(cell.nc for cell in cells) - min(cell.nc for cell in cells) < 0.02
        assert not any(cell.cut_by_edge for cell in cells)
        assert min(cell.visible_fraction for cell in cells) > 0.9


def inner_colors(field: SimulatedField) -> NDArray[np.float64]:
    """Mean color (n, 3) of the inner half of each cell, in the order of drawing."""
    means = []
    for cell in field.cells:
        middle = cell.contour_xy.mean(axis=0)
        mask = np.zeros(field.image.shape[:2], dtype=np.uint8)
        cv2.fillPoly(mask, [np.round(middle + 0.7 * (cell.contour_xy - middle)).astype(np.int32)], 1)
        means.append(field.image[mask > 0].mean(axis=0))
    return np.array(means)


def test_a_cell_looks_the_same_wherever_it_lies() -> None:
    apart = np.abs(inner_colors(field_of("independent")) - inner_colors(field_of("reversed"))).max(axis=1)
    assert np.median(apart) < 3
    assert apart.max() < 12


def test_neighbors_follow_ignore_or_contradict_the_cell() -> None:
    correlated, independent, opposed = (agreement(field_of(way)) for way in ("correlated", "independent", "reversed"))
    assert correlated > 0.9
    assert 0.35 < independent < 0.75
    assert opposed < independent - 0.2


@pytest.mark.parametrize("way", ["independent", "correlated", "reversed"])
@pytest.mark.parametrize("n_cblc", [0, 1, 3, 6, 9, 12])
def test_every_arrangement_is_a_permutation(way: Neighbors, n_cblc: int) -> None:
    cblc = np.arange(12) < n_cblc
    order = arrange(np.random.default_rng(n_cblc), cblc, way)
    assert sorted(order) == list(range(12))
    changes = int(np.sum(np.diff(cblc[order].astype(int)) != 0))
    if way == "correlated":
        assert changes == (1 if 0 < n_cblc < 12 else 0)
    if way == "reversed":
        rarer = min(n_cblc, 12 - n_cblc)
        assert changes >= 2 * rarer - 1


def test_an_empty_field_and_cells_that_do_not_fit_are_no_fault() -> None:
    config = CONFIG.model_copy(update={"neighbors": "reversed", "cells_per_field": (80, 80), "width_px": 500})
    crowded = simulate_field(config, plan_patient(config, 0, load_parameters()), 1, load_parameters())
    assert 4 <= len(crowded.cells) < 80
    empty = CONFIG.model_copy(update={"neighbors": "correlated", "cells_per_field": (0, 0)})
    assert simulate_field(empty, plan_patient(empty, 0, load_parameters()), 1, load_parameters()).cells == ()
