from __future__ import annotations

import polars as pl
import pytest

from marrowscope.patient.differential import nucleated_differential
from marrowscope.records import Patient
from marrowscope.report.differential_rows import category_lines, lineage_lines, n_apart, outside_of
from marrowscope.report.words import load_words
from marrowscope.runs.schemas import PatientRow, patient_row
from marrowscope.vocabulary import load_reference_ranges, load_vocabulary
from tests.fake_runs import EMPTY_PATIENT

WORDS = load_words()
ADULT = Patient("P1", "A", "control", specimen="marrow", age_group="adult")
KEPT = pl.DataFrame(
    {
        "field_id": ["f"] * 6,
        "category": ["N", "N", "L", "Other", "Other", "Other"],
        "is_cblc": [True, True, False, False, False, False],
        "is_countable": [True, True, True, True, False, False],
    }
)


def assessed(kept: pl.DataFrame) -> PatientRow:
    """Give a patient's row with the differential of ``kept``."""
    differential = nucleated_differential(ADULT, kept, load_vocabulary(), load_reference_ranges(), 0.04)
    return patient_row(EMPTY_PATIENT | differential)


ROW = assessed(KEPT)


def test_lines_add_up_to_the_nucleated_cells_and_the_rest_stands_apart() -> None:
    lines = category_lines(ROW.differential, {"N": 2}, WORDS)
    assert sum(line.n for line in lines) == ROW.n_nucleated == 4
    assert sum(line.n for line in lineage_lines(ROW.lineages, WORDS)) == 4
    assert n_apart(ROW.differential) == 2
    assert {line.key: line.n_cblc for line in lines if line.n_cblc} == {"N": 2}


def test_bars_and_ranges_share_an_axis_that_ends_at_the_largest() -> None:
    by_key = {line.key: line for line in category_lines(ROW.differential, {}, WORDS)}
    assert by_key["N"].along(by_key["N"].share) == 100
    assert by_key["L"].along(by_key["L"].share) == 50
    assert by_key["R2"].along(by_key["R2"].reference_high) == pytest.approx(29.2 / 0.5, abs=0.01)
    assert by_key["N"].along(None) == 0


def test_a_line_begins_a_group_where_the_lineage_changes() -> None:
    lines = category_lines(ROW.differential, {}, WORDS)
    assert [line.key for line in lines if line.starts_group] == ["N", "M", "R", "L", "Other"]


@pytest.mark.parametrize(
    ("share", "lower", "upper", "expected"),
    [
        (0.30, 0.25, 0.36, "high"),
        (0.22, 0.15, 0.30, "high_maybe"),
        (0.02, 0.01, 0.05, "low"),
        (0.08, 0.05, 0.12, "low_maybe"),
        (0.20, 0.10, 0.30, None),
        (None, None, None, None),
    ],
)
def test_a_share_is_outside_firmly_when_its_whole_interval_is(
    share: float | None, lower: float | None, upper: float | None, expected: str | None
) -> None:
    assert outside_of(share, lower, upper, 0.10, 0.20) == expected
    assert outside_of(share, lower, upper, None, None) is None


def test_an_interval_that_is_printed_as_the_limit_reaches_it() -> None:
    """One monoblast of 134: the interval is printed as 0.0-4.6, the range as 0.0-0.0."""
    assert outside_of(1 / 134, 0.0002, 0.046, 0.0, 0.0) == "high_maybe"
    assert outside_of(3 / 134, 0.0006, 0.06, 0.0, 0.0) == "high"
    assert outside_of(0.0, 0.0, 0.01196, 0.012, 0.05) == "low_maybe"


def test_no_cell_has_no_share_and_no_sign() -> None:
    lines = category_lines(assessed(KEPT.clear()).differential, {}, WORDS)
    assert all(line.share is None and line.sign == "" for line in lines)
