"""Two spellings of one name: seen in tables, folders and files, matched where there is one answer, else a fault."""

import unicodedata
from pathlib import Path

import polars as pl
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.folds import leave_one_center_out, make_folds
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.cohort.patients import read_patients
from marrowscope.cohort.spelling import alike, closeness, likeness, match_folders, show
from marrowscope.errors import CohortError
from tests.cohort.test_reader import add_image

COMPOSED, DECOMPOSED = "Zo\u00eb", unicodedata.normalize("NFD", "Zo\u00eb")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Munich", "munich"), ("Munich", " Munich "), ("St Mary", "St  Mary"), ("St Mary", "StMary"),
        (COMPOSED, DECOMPOSED), ("Munich", "\uff2d\uff55nich"), ("Munich", "\u041cunich"), ("A-1", "A\u20131"),
        ("Munich", "Mun\u200bich"), ("stra\u00dfe", "STRASSE"), ("St\u00a0Mary", "St Mary"),
        ("\u212bngstr", "\u00c5ngstr"), ("Munich", "Munich\ufe0f"), ("Munich", "Munich\u2800"),
        ("Munich", "Munich\x7f"),
        ("Munich", "Munic\u04bb"), ("Munich", "Mun\u0131ch"), ("Munich", "\u3164Munich"),
    ],
)  # fmt: skip
def test_names_that_look_alike(one: str, other: str) -> None:
    assert likeness(one) == likeness(other)
    assert alike([one, other, "Paris"]) == [[one, other]]


def test_names_that_differ_are_not_alike() -> None:
    assert (
        alike(["p1", "p11", "1 12", "11 2", "112", "M\u00fcnchen", "Munchen", "A-1", "A1", "A_1", "\u00e9", "e"]) == []
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Orl\u00e9ans", "Orleans"), ("St. Mary", "St Mary"), ("St_Mary", "St-Mary"), ("AML-M2", "AML M2"),
        ("1", "1.0"), ("01", "1"), ("St Mary\u2019s", "St Mary's"), ("\u0130zmir", "izmir"), ("A-1", "A1"), ("0", "00"),
    ],
)  # fmt: skip
def test_names_that_may_be_one_are_noted(tmp_path: Path, one: str, other: str) -> None:
    assert alike([one, other, "Paris"], closeness) == [[one, other]]
    text = f"patient_id,center,diagnosis\np1,{one},AML\np2,{other},AML\np3,{one},AML\n"
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8")
    (fault,) = read_patients(tmp_path).faults
    assert (fault.kind, fault.loses_data) == ("near_spellings", False)
    assert "(lines 2, 4)" in fault.found


def test_numbers_and_letters_that_differ_are_not_close() -> None:
    names = [
        "p1",
        "p11",
        "1-12",
        "11-2",
        "112",
        "1.5",
        "15",
        "10",
        "100",
        "M\u00fcnchen",
        "Muenchen",
        "\u0915\u093f",
        "\u0915\u0940",
    ]
    assert alike(names, closeness) == []


def test_a_name_of_other_letters_is_shown_by_its_codes() -> None:
    assert (show(COMPOSED), show(DECOMPOSED)) == ("'Zo\u00eb'", r"'Zoe\u0308'")
    assert show("\u041cunich") == r"'\u041cunich'"


def test_a_folder_serves_one_name_and_only_where_it_is_the_only_one() -> None:
    assert match_folders([COMPOSED, "p1"], [DECOMPOSED, "P1", "p2"]) == {COMPOSED: DECOMPOSED, "p1": "P1"}
    assert match_folders(["p1"], ["p1", "P1"]) == {"p1": "p1"}
    assert match_folders(["pA"], ["PA", "pa"]) == {}
    assert match_folders(["p1", "P1"], ["p1"]) == {"p1": "p1"}
    assert match_folders(["pa", "PA"], ["Pa"]) == {}


def test_a_table_that_spells_a_center_or_patient_twice_names_both_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(
        "patient_id,center,diagnosis\np1,Munich,AML\np2,munich,AML\nP1,Paris,AML\np4,\uff2dunich,AML\n",
        encoding="utf-8",
    )
    table = read_patients(tmp_path)
    assert len(table.patients) == 4
    assert [(fault.kind, fault.found, fault.loses_data) for fault in table.faults] == [
        ("two_spellings", "patient_id 'p1' (line 2) and 'P1' (line 4), which look alike", True),
        (
            "two_spellings",
            r"center 'Munich' (line 2) and 'munich' (line 3) and '\uff2dunich' (line 5), which look alike",
            True,
        ),
    ]


def test_folds_of_two_spellings_of_one_center_are_refused() -> None:
    patients = pl.DataFrame(
        {"patient_id": ["a", "b", "c"], "center": ["Munich", "munich", "Paris"], "diagnosis": ["AML"] * 3}
    )
    with pytest.raises(CohortError, match=r"found center under several spellings \('Munich' and 'munich'\)"):
        leave_one_center_out(patients)
    with pytest.raises(CohortError, match=r"found center under several spellings \('Munich' and 'munich'\)"):
        make_folds(patients, 2, 0)


@pytest.mark.parametrize("folder", [DECOMPOSED, "ZO\u00cb"])
def test_a_folder_in_another_unicode_form_or_case_is_its_patients_and_that_is_said(tmp_path: Path, folder: str) -> None:
    add_image(tmp_path / folder / "f1.png", 1)
    (tmp_path / "patients.csv").write_text(
        f"patient_id,center,diagnosis,um_per_px\n{COMPOSED},A,AML,0.2\n", encoding="utf-8"
    )
    inputs = collect_inputs([tmp_path])
    assert ([item.field_id for item in inputs.images], inputs.n_left_out) == ([f"{COMPOSED}/f1"], 0)
    assert [(fault.kind, fault.loses_data) for fault in inputs.faults] == [("folder_spelling", False)]
    cohort = read_cohort(tmp_path)
    assert [(item.field_id, item.um_per_px) for item in cohort.fields] == [(f"{COMPOSED}/f1", 0.2)]
    assert [(fault.kind, fault.loses_data) for fault in cohort.faults] == [("folder_spelling", False)]
    given = collect_inputs([tmp_path / folder])
    assert [(item.patient_id, item.um_per_px) for item in given.images] == [(COMPOSED, 0.2)]


def test_a_folder_that_only_looks_like_a_patient_is_a_fault_that_says_so(tmp_path: Path) -> None:
    add_image(tmp_path / "\uff5011" / "f1.png", 1)
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np11,A,AML\n", encoding="utf-8")
    sentences = [fault.sentence() for fault in read_cohort(tmp_path).faults]
    assert sum("it looks like" in sentence for sentence in sentences) == 2
    assert any(r"'\uff5011'" in sentence for sentence in sentences)


def test_two_images_whose_names_differ_in_case_are_named(tmp_path: Path) -> None:
    add_image(tmp_path / "p1/f1.png", 1)
    add_image(tmp_path / "p1/F1.png", 2)
    if len(list((tmp_path / "p1").iterdir())) == 1:
        pytest.skip("this disk does not tell case")
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis,um_per_px\np1,A,AML,0.2\n", encoding="utf-8")
    for faults in (collect_inputs([tmp_path]).faults, read_cohort(tmp_path).faults):
        assert [fault.kind for fault in faults] == ["two_spellings"]
        assert "'p1/F1' and 'p1/f1'" in faults[0].found
