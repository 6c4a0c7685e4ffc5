"""A patient's scores of depth from tables made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from marrowscope.patient.depth import DepthScores, measure_depth
from marrowscope.patient.depth.depth_scores import SCORE_NAMES
from marrowscope.runs.parquet import conform
from marrowscope.runs.schemas import CELLS, FIELDS


def fields(*rows: dict[str, Any], **columns: list[Any]) -> pl.DataFrame:
    """Give fields with these measures, read unless they say otherwise; ``columns`` come on top of the schema."""
    stated = [
        {"field_id": f"P/{i}", "patient_id": "P", "status": "ok", "n_cells": 3} | row for i, row in enumerate(rows)
    ]
    table = conform(pl.DataFrame(stated, schema_overrides=FIELDS, infer_schema_length=None), "fields")
    return table.with_columns(pl.Series(name, values) for name, values in columns.items())


def cells(*rows: dict[str, Any], **columns: list[Any]) -> pl.DataFrame:
    stated = [{"cell_id": str(i), "patient_id": "P", "is_countable": True} | row for i, row in enumerate(rows)]
    table = conform(pl.DataFrame(stated, schema_overrides=CELLS, infer_schema_length=None), "cells")
    return table.with_columns(pl.Series(name, values) for name, values in columns.items())


def test_scores_of_fields_are_medians_over_those_that_were_read() -> None:
    table = fields(
        {"background": 0.8, "sharpness": 1.0, "stain_distance": 1.0},
        {"background": 0.9, "sharpness": 1.2, "stain_distance": 9.0, "n_cells": 0},
        {"background": 0.6, "sharpness": float("nan"), "stain_distance": 3.0},
        {"background": 0.1, "sharpness": 0.1, "stain_distance": 99.0, "status": "failed"},
    )
    found = measure_depth(table, cells())
    assert (found.background, found.sharpness) == (0.8, 1.1)
    assert found.stain == 2.0  # a field without a cell has no nuclei whose color counts


def test_scores_of_cells_are_shares_and_means() -> None:
    kept = cells(
        {"p_cblc": 0.1, "contradiction": False, "p_category": [0.9, 0.1], "member_spread": 0.1},
        {"p_cblc": 0.2, "contradiction": True, "p_category": [0.5, 0.5], "member_spread": 0.3},
        {"p_cblc": 0.8, "contradiction": False, "p_category": [0.3, 0.7], "member_spread": 0.2},
        {"p_cblc": 0.9, "contradiction": False, "p_category": [0.1, 0.9], "member_spread": 0.9, "is_countable": False},
    )
    found = measure_depth(fields({}), kept)
    assert (found.contradictions, found.middling) == (0.25, 0.5)
    assert found.uncertainty == pytest.approx((0.1 + 0.5 + 0.3 + 0.1) / 4)
    assert found.member_spread == pytest.approx(0.2)
    assert found.sampling_variance["contradictions"] == pytest.approx((1 - 0.3) / (4 * 4))  # 1.5 of 5
    spread = (0.1**2 + 0.5**2 + 0.3**2 + 0.1**2 + 0.5) / 5 - 0.3**2
    assert found.sampling_variance["uncertainty"] == pytest.approx(spread / (4 * 4 * 0.3))
    assert found.sampling_variance.keys() == {"contradictions", "middling", "uncertainty", "member_spread"}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_share_of_all_of_few_cells_is_not_known_without_error(n: int) -> None:
    odd = {"p_cblc": 0.5, "contradiction": True, "p_category": [0.5, 0.5]}
    found = measure_depth(fields({}), cells(*[odd] * n))
    assert (found.contradictions, found.middling) == (1.0, 1.0)
    assert found.sampling_variance["middling"] == pytest.approx(0.5 / (4 * n * (n + 1)))


def test_a_share_of_none_has_no_sampling_variance() -> None:
    found = measure_depth(fields({}), cells({"p_cblc": 0.1, "contradiction": False, "p_category": [1.0, 0.0]}))
    assert (found.contradictions, found.middling, dict(found.sampling_variance)) == (0.0, 0.0, {})


def test_what_cannot_be_measured_is_none() -> None:
    for table, kept in ((fields(), cells()), (fields({"status": "failed"}), cells())):
        assert measure_depth(table, kept) == DepthScores()
    assert list(DepthScores().by_name()) == list(SCORE_NAMES)


def test_embedding_distances_are_taken_where_a_run_has_them() -> None:
    kept = cells({}, {}, {}, embedding_distance=[1.0, 2.0, 9.0])
    assert measure_depth(fields({}), kept).embedding_distance == 2.0


@pytest.mark.parametrize(("n", "known"), [(14, False), (15, True)])
def test_the_scale_that_fits_follows_from_enough_erythrocytes(n: int, *, known: bool) -> None:
    rows = ({"um_per_px": 0.1}, {"um_per_px": 0.1})
    table = fields(*rows, erythrocyte_diameter_um=[3.75, 3.75], n_erythrocytes=[n, 5])
    found = measure_depth(table, cells())
    if known:
        assert found.erythrocyte_diameter_um == pytest.approx(3.75)
        assert found.fitting_um_per_px == pytest.approx(0.2)
    else:
        assert (found.erythrocyte_diameter_um, found.fitting_um_per_px) == (None, None)
