"""Flags in words: counts as counts, shares as percentages, each with the fields that raised it."""

from __future__ import annotations

from marrowscope.report.flag_lines import flag_lines
from marrowscope.report.marks import FieldPage
from marrowscope.report.words import load_words
from marrowscope.runs.schemas import RaisedFlag

WORDS = load_words()


def page(number: int, *flags: str) -> FieldPage:
    return FieldPage(
        number=number, name="f", path="f", sha256="", um_per_px=0.15, width_px=1, height_px=1, failed=None, kept=(),
        rejected=(), flags=flags,
    )  # fmt: skip


def raised(flag: str, value: float | None, limit: float | None) -> RaisedFlag:
    return RaisedFlag(flag=flag, value=value, limit=limit, n_fields=None)


def test_a_count_is_printed_as_one_and_a_share_in_percent() -> None:
    few, rejected = flag_lines([raised("few_cells", 1040.0, 2000.0), raised("many_rejected", 0.3, 0.15)], (), WORDS)
    assert "1,040" in few.measured
    assert "2,000" in few.measured
    assert "30.0%" in rejected.measured


def test_a_flag_of_fields_names_the_fields_that_raised_it() -> None:
    fields = (page(1), page(2, "blurred"), page(3, "exposure", "blurred"))
    blurred, failed = flag_lines([raised("blurred_fields", 0.5, 0.2), raised("failed_fields", 0.1, 0.0)], fields, WORDS)
    assert (blurred.fields, failed.fields) == ((2, 3), ())


def test_a_flag_of_another_version_is_told_by_its_key() -> None:
    (line,) = flag_lines([raised("too_many_smudges", None, None)], (page(1, "blurred"),), WORDS)
    assert (line.name, line.measured, line.fields) == ("too many smudges", "", ())
