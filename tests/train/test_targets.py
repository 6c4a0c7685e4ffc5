from __future__ import annotations

import numpy as np
import polars as pl

from marrowscope.train.targets import MORPHOLOGY_TARGETS, measured_values, standardize


def test_the_columns_that_are_there_are_taken_and_nulls_are_missing() -> None:
    cells = pl.DataFrame({"area_um2": [10.0, None], "circularity": [1, 0], "other": [1.0, 2.0]})
    found = measured_values(cells)
    assert list(found) == ["area_um2", "circularity"]
    np.testing.assert_array_equal(found["area_um2"], [10.0, np.nan])
    assert found["circularity"].dtype == np.float64
    assert set(found) < set(MORPHOLOGY_TARGETS)


def test_the_statistics_are_those_of_the_training_rows_alone() -> None:
    values = {"area_um2": np.array([1.0, 3.0, np.nan, 500.0])}
    targets, table = standardize(values, np.array([0, 1, 2]))
    assert (targets[0].mean, targets[0].std) == (2.0, 1.0)
    np.testing.assert_array_equal(table[:, 0], np.array([-1, 1, np.nan, 5], dtype=np.float32))  # 498 is cut to 5
    moved = {"area_um2": np.array([1.0, 3.0, np.nan, -7.0])}
    assert standardize(moved, np.array([0, 1, 2]))[0] == targets


def test_what_training_never_saw_vary_is_missing_throughout() -> None:
    values = {
        "area_um2": np.array([2.0, 2.0, 9.0]),
        "circularity": np.array([np.nan, np.nan, 0.5]),
        "solidity": np.array([0.0, 1.0, 0.5]),
    }
    targets, table = standardize(values, np.array([0, 1]))
    assert [target.name for target in targets] == list(values)
    assert np.isnan(table[:, :2]).all()
    np.testing.assert_array_equal(table[:, 2], [-1, 1, 0])


def test_without_a_measurement_there_is_no_target() -> None:
    targets, table = standardize({}, np.array([0]))
    assert targets == ()
    assert table.shape == (0, 0)
