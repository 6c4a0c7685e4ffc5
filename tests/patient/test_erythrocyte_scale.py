"""A patient's erythrocytes against the stated scale."""

from __future__ import annotations

import polars as pl
import pytest

from marrowscope.patient.erythrocyte_scale import ErythrocyteScale, erythrocyte_scale_check
from marrowscope.runs.parquet import conform


def fields(*rows: tuple[float | None, int | None, float | None]) -> pl.DataFrame:
    """Make rows of the fields table of (diameter, number, scale)."""
    schema = {"erythrocyte_diameter_um": pl.Float64(), "n_erythrocytes": pl.Int64(), "um_per_px": pl.Float64()}
    return conform(pl.DataFrame(list(rows), schema=schema, orient="row"), "fields")


def test_fields_count_by_their_erythrocytes() -> None:
    found = erythrocyte_scale_check(fields((7.0, 30, 0.1), (8.0, 5, 0.1), (9.0, 5, 0.1), (None, 2, 0.1)))
    assert found == ErythrocyteScale(7.0, 40, fits=True, fitting_um_per_px=None)
    assert found.row() == {"erythrocyte_diameter_um": 7.0, "n_erythrocytes": 40}


@pytest.mark.parametrize(("stated", "fits"), [(0.05, False), (0.1, True), (0.12, True), (0.2, False), (0.3, False)])
def test_a_wrong_scale_is_named_with_the_one_that_fits(stated: float, fits: bool) -> None:  # noqa: FBT001
    in_px = 75.0
    found = erythrocyte_scale_check(fields(*[(in_px * stated, 10, stated)] * 3))
    assert found.fits is fits
    assert found.fitting_um_per_px == (None if fits else pytest.approx(0.1))


@pytest.mark.parametrize(("diameter", "fits"), [(5.49, False), (5.5, True), (9.5, True), (9.51, False)])
def test_the_limits_belong_to_what_is_plausible(diameter: float, fits: bool) -> None:  # noqa: FBT001
    assert erythrocyte_scale_check(fields((diameter, 20, 0.1))).fits is fits


@pytest.mark.parametrize(
    "rows", [[], [(7.5, 19, 0.1)], [(None, 2, 0.1)] * 30, [(None, None, None)] * 3], ids=["none", "few", "null", "old"]
)
def test_without_enough_erythrocytes_nothing_is_said(rows: list[tuple[float | None, int | None, float | None]]) -> None:
    found = erythrocyte_scale_check(fields(*rows))
    assert (found.diameter_um, found.fits, found.fitting_um_per_px) == (None, None, None)
    assert found.n < 20
