"""Whom a domain withholds, counted on patients made by hand."""

from __future__ import annotations

import polars as pl
import pytest

from benchmarks.out_of_depth import Known, Share, known_row, labeled_ratios, left_out_rows, summarize
from marrowscope.patient.depth import DepthScores
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.vocabulary import load_vocabulary


def patient(background: float, truth: float | None = 0.5, limits: tuple[float, float] | None = (0.4, 0.6)) -> Known:
    return Known("P", "G", DepthScores(background=background), limits, truth)


def test_clopper_pearson_limits_are_those_of_the_tables() -> None:
    assert Share(0, 24).limits == pytest.approx((0.0, 0.1425), abs=1e-4)
    assert Share(28, 30).limits == pytest.approx((0.7793, 0.9918), abs=1e-4)
    assert Share(6, 6).limits == pytest.approx((0.5407, 1.0), abs=1e-4)
    assert str(Share(0, 0)) == "-"


def test_a_group_is_summarized_by_who_is_withheld_and_whose_interval_is_wrong() -> None:
    judged = [
        (patient(0.9), None),
        (patient(0.9, truth=0.7), None),  # printed and wrong
        (patient(0.9, truth=0.3), "depth_stain"),  # a wrong interval that was spared
        (patient(0.9), "depth_stain"),  # a right one that was lost
        (patient(0.9, truth=None), "depth_background"),
        (patient(0.9, limits=None), None),
    ]
    row = summarize("G", judged)
    assert row.withheld == Share(3, 6)
    assert row.withheld_of_outside == Share(1, 2)
    assert row.kept_of_inside == Share(1, 2)
    assert row.covered_of_printed == Share(1, 2)
    assert row.winkler_printed == pytest.approx((0.2 + 0.2 + 40 * 0.1) / 2)
    assert row.winkler_all == pytest.approx((4 * 0.2 + 2 * 40 * 0.1) / 4)
    assert row.reasons == {"depth_background": 1, "depth_stain": 2}


def test_a_left_out_group_is_judged_by_the_others_alone() -> None:
    near = [patient(0.88 + 0.002 * i) for i in range(20)]
    groups = {"near": near, "far": [patient(0.2)] * 20}
    apart = left_out_rows(groups, list(groups))
    assert [row.withheld.x for row in apart] == [20, 20, 40]
    assert known_row(groups).withheld.x == 0  # known, both are within


def test_the_ratio_of_labeled_cells_counts_missed_ones_and_its_limits_do_not() -> None:
    cells = pl.DataFrame(
        {
            "patient_id": ["P"] * 5 + ["missed"],
            "code": ["N", "N", "L2", "L2", "A", "N"],  # A does not count
            "counted": [True, False, True, True, True, False],
            "called_cblc": [True, True, True, False, False, False],
        }
    )
    found = labeled_ratios(cells, load_vocabulary())
    limits = wilson_interval(2, 4)
    assert found == {"P": (0.5, (limits.lower, limits.upper))}
