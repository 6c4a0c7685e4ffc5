"""What a review says of one patient, as the record that a site's rates are measured on: a case worked out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from marrowscope.review.audited_patients import audited_patient
from marrowscope.review.fold import fold
from marrowscope.review.live_estimate import audit_view, drawn_audit
from marrowscope.review.patient_state import FrozenCell, PatientState

FIELDS = [f"P1/f{i}" for i in range(10)]


def patient() -> PatientState:
    """Give 120 cells in ten fields, twelve each: 20 certain calls of N, two in each field, and 100 of N5."""
    frozen = [
        FrozenCell(
            cell_id=f"c{i}",
            field_id=FIELDS[i % 10],
            contour_xy=(0.0, 0.0, 1.0, 0.0, 1.0, 1.0),
            category="N" if i < 20 else "N5",
            certainty=0.97,
            p_cblc=0.97 if i < 20 else 0.02,
            is_cblc=i < 20,
            is_countable=True,
            area_um2=100.0,
        )
        for i in range(120)
    ]
    return fold("P1", frozen, [])


def with_cell(state: PatientState, cell_id: str, **changes: Any) -> PatientState:  # noqa: ANN401 - what a cell has
    made = {"cell_id": cell_id, **changes}
    return replace(state, cells={**state.cells, cell_id: replace(state.cells.get(cell_id, state.cells["c0"]), **made)})


def added(state: PatientState, cell_id: str, field_id: str, code: str | None, origin: str = "added") -> PatientState:
    nothing = dict.fromkeys(("model_category", "certainty", "p_cblc", "model_is_cblc", "model_is_countable"))
    return with_cell(state, cell_id, field_id=field_id, code=code, origin=origin, **nothing)


def test_a_look_weighs_each_cell_by_what_it_stands_for_and_takes_the_first_answers() -> None:
    """c119 was named before. Of 20 N 10 are drawn, the least; of the other 99 N5, the remaining 40 of 50 cells."""
    state = with_cell(patient(), "c119", code="N")
    assert audited_patient(state, 10) is None, "named by choice alone"
    state = replace(state, audit=drawn_audit(state, FIELDS, "5f2a"))
    view = audit_view(state)
    assert view is not None
    answers: dict[str, str | None] = dict.fromkeys(view.order, "N5")
    answers[view.order[0]] = None
    state = replace(state, audit_answers={name: answers[name] for name in view.order[:49]})
    assert audited_patient(state, 10) is None, "no look is complete"
    complete = replace(state, audit_answers={name: answers[name] for name in view.order[:50]})
    found = audited_patient(complete, 10)
    assert found is not None
    assert Counter((cell.weight, cell.called_cblc) for cell in found.cells) == {
        (1.0, False): 1,  # c119
        (2.0, True): 10,  # 20 / 10
        (99 / 40, False): 40,
    }
    assert abs(sum(cell.weight for cell in found.cells) - 120) < 1e-9
    assert sorted(Counter(cell.code for cell in found.cells).items(), key=str) == [("N", 1), ("N5", 49), (None, 1)]
    assert (found.called_by_field, found.counted_by_field) == ((2,) * 10, (12,) * 10)
    assert found.missed is None
    later = with_cell(with_cell(complete, "c119", code="N5"), view.order[1], code="N")
    later = with_cell(later, next(name for name in later.cells if name not in view.order[:50]), code="R2")
    assert audited_patient(later, 10) == found, "what is done to cells afterwards changes the cells, not the audit"
    more = replace(complete, audit_answers={name: answers[name] for name in view.order[:70]})
    assert audited_patient(more, 10) == found, "answers of a look that is not complete have no weight yet"


def test_missed_cells_are_those_of_the_drawn_fields_once_all_are_checked() -> None:
    state = patient()
    state = replace(state, audit=drawn_audit(state, FIELDS, "5f2a"))
    view = audit_view(state)
    assert view is not None
    state = replace(state, audit_answers=dict.fromkeys(view.order[:50], "N5"))
    for number, (field_id, code) in enumerate(
        [(view.fields[0], "N"), (view.fields[2], None), (next(name for name in FIELDS if name not in view.fields), "N")]
    ):
        state = added(state, f"added{number}", field_id, code)
    two = audited_patient(replace(state, fields_checked=dict.fromkeys(view.fields[:2], "Ada")), 10)
    three = audited_patient(replace(state, fields_checked=dict.fromkeys(view.fields, "Ada")), 10)
    assert two is not None
    assert three is not None
    assert (two.missed, two.missed_weight) == (None, 1.0)
    assert (three.missed, three.missed_weight) == (("N",), 10 / 3)
    assert len(three.cells) == 50


def test_a_full_review_gives_every_cell_of_the_frame_with_weight_one() -> None:
    state = patient()
    for name in list(state.cells)[:-1]:
        state = with_cell(state, name, code="N5")
    state = replace(state, full_review_by="Ada")
    assert audited_patient(state, 10) is None, "a cell has no name"
    state = with_cell(state, "c119", removed="split")
    for part in ("part0", "part1"):
        state = added(state, part, FIELDS[9], "N", origin="split")
    found = audited_patient(added(state, "extra", FIELDS[0], "N"), 10)
    assert found is not None
    assert {cell.weight for cell in found.cells} == {1.0}
    assert Counter((cell.code, cell.called_countable) for cell in found.cells) == {
        ("N5", True): 119,
        (None, True): 1,
        ("N", False): 2,
    }
    assert found.missed is None
    checked = replace(added(state, "extra", FIELDS[0], "N"), fields_checked=dict.fromkeys(FIELDS, "Ada"))
    searched = audited_patient(checked, 10)
    assert searched is not None
    assert (searched.missed, searched.missed_weight) == (("N",), 1.0)
