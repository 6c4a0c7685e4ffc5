"""Likeness of cells against a calculation by hand, and what the station says of one cell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.review.measured_cells import MEASURES, MeasuredCells, distances, read_measures
from tests.review.stations import Browser, new_client

if TYPE_CHECKING:
    from marrowscope.review.station import Station


def cells(p: list[list[float]], areas: list[float | None]) -> MeasuredCells:
    measures = np.full((len(p), len(MEASURES)), np.nan)
    measures[:, 0] = [math.nan if area is None else area for area in areas]
    n = len(p)
    return MeasuredCells(
        tuple(map(str, range(n))), np.array(p), measures, np.full(n, np.nan), np.zeros(n, dtype=np.bool_)
    )


def test_the_distance_is_hellingers_plus_that_of_the_shared_measures() -> None:
    p = [[0.5, 0.5], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]
    found = distances(cells(p, [100, 110, 100, None, 130]), 0)
    sd = 1.4826 * 5  # of 100, 110, 100, 130 the median is 105, and its absolute differences are 5, 5, 5 and 25
    apart = [0, 10 / sd / 6, 0, 1, 30 / sd / 6]
    hellinger = [0, 0, math.sqrt(((1 - math.sqrt(0.5)) ** 2 + 0.5) / 2), 0, 0]
    assert found == pytest.approx([one + other for one, other in zip(hellinger, apart, strict=True)])


def test_measures_that_do_not_vary_or_are_not_there_say_nothing() -> None:
    found = distances(cells([[0.2, 0.8]] * 3, [None, None, None]), 1)
    assert found == pytest.approx([1, 1, 1])
    assert distances(cells([[0.2, 0.8]] * 3, [5, 5, 5]), 1) == pytest.approx([0, 0, 0])


def test_a_very_far_measure_counts_as_six_standard_deviations() -> None:
    found = distances(cells([[1.0, 0.0]] * 4, [100, 101, 102, 9000]), 0)
    assert found[3] == pytest.approx(1)


def test_the_station_ranks_cells_and_names_the_likeliest_categories(station: Station, browser: Browser) -> None:
    measured = read_measures(station.cells.run_of("P1").folder, "P1")
    assert len(measured.cell_ids) == len(station.patient("P1").frozen)
    cell = measured.cell_ids[3]
    said = browser.json(f"/api/patients/P1/cells/{cell}/similar")
    assert said["by"] == "probabilities_and_morphology"
    assert said["cell_ids"][0] == cell
    assert sorted(said["cell_ids"]) == sorted(measured.cell_ids)
    rank = [distances(measured, 3)[measured.cell_ids.index(name)] for name in said["cell_ids"][1:]]
    assert rank == sorted(rank)
    facts = browser.json(f"/api/patients/P1/cells/{cell}/measures")
    assert facts["categories"][0]["category"] == station.state("P1").cells[cell].model_category
    assert facts["morphology"]["area_um2"] == 100.0
    assert facts["member_spread"] is None


def test_a_cell_that_the_run_does_not_have_is_named(station: Station, browser: Browser) -> None:
    response = browser.get("/api/patients/P1/cells/none/similar")
    assert response.status_code == 404
    assert "'none'" in response.json()["error"]
    assert new_client(station).get("/api/patients/P1/cells/none/measures").status_code == 401
