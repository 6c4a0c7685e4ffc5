"""Flags in words: counts as counts, shares as percentages, each with the fields that raised it."""

from __future__ import annotations

from marrowscope.report.depth_words import no_flags, unchecked_names
from marrowscope.report.flag_lines import FlagLine, flag_lines
from marrowscope.report.marks import FieldPage
from marrowscope.report.words import load_words
from marrowscope.runs.schemas import RaisedFlag, patient_row
from tests.fake_runs import EMPTY_PATIENT

WORDS = load_words()


def page(number: int, *flags: str) -> FieldPage:
    return FieldPage(
        number=number, name="f", path="f", sha256="", um_per_px=0.15, width_px=1, height_px=1, failed=None, kept=(),
        rejected=(), flags=flags,
    )  # fmt: skip


def lines(flags: list[RaisedFlag], fields: tuple[FieldPage, ...] = (), **more: object) -> tuple[FlagLine, ...]:
    return flag_lines(
        patient_row(EMPTY_PATIENT | {"flags": [flag.model_dump() for flag in flags]} | more), fields, WORDS
    )


def raised(flag: str, value: float | None, limit: float | None) -> RaisedFlag:
    return RaisedFlag(flag=flag, value=value, limit=limit, n_fields=None)


def test_a_count_is_printed_as_one_and_a_share_in_percent() -> None:
    few, rejected = lines([raised("few_cells", 1040.0, 2000.0), raised("many_rejected", 0.3, 0.15)])
    assert "1,040" in few.measured
    assert "2,000" in few.measured
    assert "30.0%" in rejected.measured


def test_a_value_is_never_printed_as_the_limit_that_it_breaks() -> None:
    near, at = lines([raised("many_rejected", 0.15004, 0.15), raised("few_cells", 99.0, 100.0)])
    assert near.measured == WORDS.text("flags.measured", value="15.004%", limit="15.000%")
    assert at.measured == WORDS.text("flags.measured", value="99", limit="100")


def test_a_flag_of_fields_names_the_fields_that_raised_it() -> None:
    fields = (page(1), page(2, "blurred"), page(3, "exposure", "blurred"))
    blurred, failed = lines([raised("blurred_fields", 0.5, 0.2), raised("failed_fields", 0.1, 0.0)], fields)
    assert (blurred.fields, failed.fields) == ((2, 3), ())


def test_a_flag_of_another_version_is_told_by_its_key() -> None:
    (line,) = lines([raised("too_many_smudges", None, None)], (page(1, "blurred"),))
    assert (line.name, line.measured, line.fields) == ("too many smudges", "", ())


def check(score: str, value: float | None, upper: float | None = 1.0) -> dict[str, object]:
    return {"score": score, "value": value, "usual": None, "lower_limit": None, "upper_limit": upper}


def test_checks_that_were_not_made_are_named() -> None:
    depth = [check("stain", None), check("sharpness", 1.0, None), check("middling", 0.1)]
    (line,) = lines([raised("unchecked", 2.0, 0.0)], depth=depth)
    assert (line.name, line.measured) == ("Checks that could not be made", "stain; sharpness")


def test_no_flag_is_said_without_reserve_only_where_every_check_was_made() -> None:
    words = WORDS.strings
    for depth, made in (
        ([check("stain", 0.5)], True),
        ([check("stain", 0.5), check("middling", None)], False),
        ([check("stain", 0.5, None)], False),
        (None, False),  # an older run, which does not say
    ):
        row = patient_row(EMPTY_PATIENT | {"depth": depth})
        assert no_flags(row, WORDS) == words("flags.none" if made else "flags.none_unchecked")
        assert bool(unchecked_names(row, WORDS)) is (depth is not None and not made)
