"""Disputes under letters: every answer has one, no name stands in them, and letters differ between patients."""

from __future__ import annotations

from marrowscope.review.consensus import NO_NAME, NOT_A_CELL, NOT_DRAWN
from marrowscope.review.disputes import UNREAD, DisputeCounts, count_disputes, disputes, letters
from marrowscope.review.patient_state import PatientState, ReviewedCell

READERS = ("ada", "bo", "cy")


def cell(name: str, field_id: str) -> ReviewedCell:
    return ReviewedCell(
        cell_id=name,
        field_id=field_id,
        contour_xy=(0, 0, 1, 0, 1, 1),
        origin="model",
        model_category="N",
        certainty=0.9,
        p_cblc=0.9,
        model_is_cblc=True,
        model_is_countable=True,
        area_um2=None,
    )


def test_letters_are_those_of_the_patient_and_tell_no_reader() -> None:
    assert letters("P1", READERS) == letters("P1", reversed(READERS))
    first = {letters(f"P{k}", READERS)["ada"] for k in range(40)}
    assert first == {"A", "B", "C"}, "ada would be one letter everywhere"


def test_each_kind_of_answer_is_a_code_or_a_word() -> None:
    said = {
        "c1": {"ada": "N", "bo": NOT_A_CELL},
        "c2": {"ada": "N", "bo": "split", "cy": "N1"},
        "c3": {"ada": NOT_DRAWN, "bo": NO_NAME, "cy": "merge"},
        "c4": {"ada": "R", "bo": "R", "cy": "R"},
        "c5": {"ada": "R", "bo": "N"},
    }
    cells = {name: cell(name, "F2" if name == "c3" else "F1") for name in said}
    state = PatientState(
        "P1",
        1,
        cells,
        blinded=READERS,
        opinions=said,
        disputed=frozenset({"c1", "c2", "c3"}),
        settled=frozenset({"c5"}),
    )
    found = {item.cell.cell_id: item for item in disputes(state)}
    assert list(found) == ["c1", "c2", "c5", "c3"], "cells of one field stand together"
    assert [item.is_settled for item in found.values()] == [False, False, True, False]
    letter = letters("P1", READERS)

    def answers(name: str) -> list[tuple[str | None, str | None]]:
        by_letter = {answer.letter: (answer.code, answer.said) for answer in found[name].answers}
        return [by_letter[letter[reader]] for reader in READERS]

    assert answers("c1") == [("N", None), (None, "not_a_cell"), (None, UNREAD)]
    assert answers("c2") == [("N", None), (None, "split"), ("N1", None)]
    assert answers("c3") == [(None, "not_drawn"), (None, "no_name"), (None, "merge")]
    assert disputes(PatientState("P1", 0, cells)) == []

    asked = {item.cell.cell_id: item for item in disputes(state, ("c4", "unknown"))}
    assert list(asked) == ["c1", "c2", "c4", "c5", "c3"]
    assert [item.is_agreed for item in asked.values()] == [False, False, True, False, False]
    assert {answer.code for answer in asked["c4"].answers} == {"R"}
    assert count_disputes(state) == DisputeCounts(3, 1, frozenset(READERS))
