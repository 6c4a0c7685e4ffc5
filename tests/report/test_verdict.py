from __future__ import annotations

from typing import Any

import pytest

from marrowscope.report.verdict import call_sentence, shown_ratio, verdict
from marrowscope.report.words import load_words
from marrowscope.runs.schemas import CALL_REASONS, CALLS, CORRECTION_NOTES, patient_row
from tests.fake_runs import ASSESSED, EMPTY_PATIENT

WORDS = load_words()
COUNTED: dict[str, Any] = EMPTY_PATIENT | {
    "n_countable": 1200,
    "n_cblc": 300,
    "n_fields_counted": 20,
    "cblc_ratio": 0.25,
    "cblc_ratio_lower": 0.22,
    "cblc_ratio_upper": 0.28,
    "lymphoid_share": 0.2,
}
FULL = COUNTED | ASSESSED


def test_corrected_ratio_stands_for_the_patient_where_there_is_one() -> None:
    said = verdict(patient_row(FULL), WORDS)
    assert (said.figure, said.is_corrected, said.counted.share) == ("31.0%", True, 0.25)
    assert said.interval == "95% interval <strong>22.0% to 41.0%</strong>"
    assert said.remarks == ()
    assert shown_ratio(patient_row(FULL)).share == 0.31


def test_counted_ratio_stands_alone_with_the_reason_when_nothing_is_corrected() -> None:
    said = verdict(patient_row(COUNTED), WORDS)
    assert (said.figure, said.is_corrected, said.call) == ("25.0%", False, "none")
    assert "no error rates" in said.remarks[0]
    reason = {"correction_note": "rates_too_close", "call": "no_call", "call_reason": "rates_too_close"}
    close = verdict(patient_row(COUNTED | reason), WORDS)
    assert "too close" in close.remarks[0]
    assert "almost as often" in close.details[0]


def test_none_called_says_how_many_there_may_be() -> None:
    row = FULL | {"n_cblc": 0, "corrected_ratio": 0.0, "corrected_lower": 0.0, "corrected_upper": 0.031}
    said = verdict(patient_row(row | {"correction_note": "none_called"}), WORDS)
    assert said.figure == "0%"
    assert said.interval == "<strong>0</strong> of <strong>1,200</strong>, up to <strong>3.1%</strong>"


def test_none_called_is_told_the_same_way_without_a_correction() -> None:
    counted = {"n_cblc": 0, "cblc_ratio": 0.0, "cblc_ratio_lower": 0.0, "cblc_ratio_upper": 0.033}
    said = verdict(patient_row(COUNTED | counted), WORDS)
    assert said.figure == "0%"
    assert said.interval == "<strong>0</strong> of <strong>1,200</strong>, up to <strong>3.3%</strong>"


def test_share_within_the_false_positive_rate_is_said() -> None:
    said = verdict(patient_row(FULL | {"correction_note": "within_false_positive_rate"}), WORDS)
    assert "within the classifier's false-positive rate" in said.remarks[0]


def test_no_countable_cell_has_no_figure() -> None:
    row = COUNTED | {"cblc_ratio": None, "cblc_ratio_lower": None, "cblc_ratio_upper": None, "n_countable": 0}
    said = verdict(patient_row(row), WORDS)
    assert (said.figure, said.interval, said.shown.share) == ("No ratio", None, None)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            "above",
            (
                "Above study threshold 21.0%. Not a diagnosis: regeneration, G-CSF, megaloblastic anemia, MDS, CML, "
                "lymphoblastic leukemia and lymphoma can exceed it. Review the cells."
            ),
        ),
        (
            "below",
            (
                "Below study threshold 21.0%. Does not exclude acute leukemia: lymphoblasts are not meant to be "
                "counted but may be called CBLC, and some AML has few blasts."
            ),
        ),
        ("indeterminate", "Indeterminate: the interval does not separate this patient from 21.0%."),
        ("no_call", "No call: 1,200 cells in 20 fields."),
        ("withheld", "Lymphoid cells 41.4%: blast status not assessed."),
    ],
)
def test_calls_have_their_fixed_wording(call: str, sentence: str) -> None:
    assert call_sentence(patient_row(FULL | {"call": call, "lymphoid_share": 0.414}), WORDS) == sentence


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_call_reason_and_note_of_the_tables_has_words(language: str) -> None:
    words = load_words(language)
    assert all(words.has(f"call.word.{call}") for call in CALLS)
    assert all(words.has(f"call.reason.{reason}") for reason in CALL_REASONS)
    for note in CORRECTION_NOTES:
        corrected = None if note == "rates_too_close" else 0.0
        row = FULL | {"correction_note": note, "corrected_ratio": corrected}
        assert verdict(patient_row(row), words).interval is not None


def test_confidence_is_never_printed_as_certain() -> None:
    assert "&gt;\N{NO-BREAK SPACE}99.9%" in verdict(patient_row(FULL | {"confidence_above": 1.0}), WORDS).details[0]
    assert (
        "&lt;\N{NO-BREAK SPACE}0.1%"
        in verdict(patient_row(FULL | {"confidence_above": 0.0, "call": "below"}), WORDS).details[0]
    )


@pytest.mark.parametrize(
    ("share", "call", "shown"),
    [(0.9497, "indeterminate", "94.97%"), (0.95, "above", "95.0%"), (0.02501, "indeterminate", "2.501%")],
)
def test_confidence_is_never_printed_as_that_of_another_call(share: float, call: str, shown: str) -> None:
    said = verdict(patient_row(FULL | {"confidence_above": share, "call": call}), WORDS)
    assert any(shown in detail for detail in said.details), said.details


def test_no_call_prints_no_confidence() -> None:
    said = verdict(
        patient_row(FULL | {"call": "no_call", "call_reason": "few_fields", "call_depends_on_threshold": False}), WORDS
    )
    assert [str(detail) for detail in said.details] == ["A call needs cells in at least 5 fields."]


@pytest.mark.parametrize("call", ["above", "below", "indeterminate", "no_call"])
def test_lymphoid_marrow_is_named_beside_every_call(call: str) -> None:
    sentence = "Lymphoid cells 30.0%: blast status not assessed."
    assert verdict(patient_row(FULL | {"call": call, "lymphoid_share": 0.3004}), WORDS).details[0] == sentence
    for share in (0.30, None):
        assert sentence not in verdict(patient_row(FULL | {"call": call, "lymphoid_share": share}), WORDS).details
    blood = FULL | {"call": call, "specimen": "blood"}
    healthy, many = (verdict(patient_row(blood | {"lymphoid_share": share}), WORDS).details for share in (0.45, 0.55))
    assert not [line for line in healthy if "Lymphoid" in line]
    assert many[0] == "Lymphoid cells 55.0%: blast status not assessed."


def test_withheld_call_says_lymphoid_cells_once() -> None:
    said = verdict(patient_row(FULL | {"call": "withheld", "call_reason": "lymphoid", "lymphoid_share": 0.414}), WORDS)
    assert "41.4%" in said.sentence
    assert not any("blast status" in detail for detail in said.details)
