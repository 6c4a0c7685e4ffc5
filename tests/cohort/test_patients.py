"""patients.csv: what is accepted, and the message for everything that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.cohort.patients import PatientsTable, read_patients
from marrowscope.errors import CohortError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "patient_id,center,diagnosis"


def table(folder: Path, text: str, encoding: str = "utf-8") -> PatientsTable:
    (folder / "patients.csv").write_bytes(text.encode(encoding))
    return read_patients(folder)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_and_byte_order_mark(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = f"{HEADER},um_per_px\n p1 ,A,AML,0.2\n\np2,B,control,\n".replace(",", delimiter)
    read = table(tmp_path, text, encoding)
    assert [(p.patient_id, p.center, p.diagnosis, p.um_per_px) for p in read.patients] == [
        ("p1", "A", "AML", 0.2),
        ("p2", "B", "control", None),
    ]
    assert read.faults == ()
    assert (read.tally.n_in, read.tally.n_out) == (2, 2)


def test_quoted_cells_decimal_comma_and_line_breaks_of_windows(tmp_path: Path) -> None:
    read = table(tmp_path, f'{HEADER},um_per_px\r\np1,"A, north",AML,"0,15"\r\n')
    assert (read.patients[0].center, read.patients[0].um_per_px) == ("A, north", 0.15)


def test_optional_columns_and_the_rest(tmp_path: Path) -> None:
    read = table(tmp_path, f"{HEADER},specimen,age_group,subtype\np1,A,AML,Blood,adult,M2\np2,A,AML,,,\n")
    first, second = read.patients
    assert (first.specimen, first.age_group, dict(first.extra)) == ("blood", "adult", {"subtype": "M2"})
    assert (second.specimen, second.age_group, second.extra["subtype"]) == ("unknown", None, "")  # stated by nobody


@pytest.mark.parametrize(
    ("row", "kind", "sentence"),
    [
        ("p1,A", "broken_row", "line 3: found 2 cells, expected 3 as in the header; correct the row"),
        (",A,AML", "empty_cell", "line 3: found no patient_id, expected the name of the patient's folder"),
        ("p0,B,AML", "duplicate_patient", "line 3: found patient_id 'p0' a second time, expected each patient once"),
        ("../p1,B,AML", "bad_patient_id", "line 3: found patient_id '../p1', expected a valid folder name"),
        ("a/b,B,AML", "bad_patient_id", "line 3: found patient_id 'a/b'"),
        ("..,B,AML", "bad_patient_id", "line 3: found patient_id '..'"),
        ("C:p,B,AML", "bad_patient_id", "line 3: found patient_id 'C:p'"),
        ("\\\\host\\p,B,AML", "bad_patient_id", "line 3: found patient_id"),
        ("Nul,B,AML", "bad_patient_id", "line 3: found patient_id 'Nul'"),
        ("p2.,B,AML", "bad_patient_id", "line 3: found patient_id 'p2.'"),
        ("a\0b,B,AML", "bad_patient_id", "line 3: found patient_id 'a\\x00b'"),
        (f"{'x' * 300},B,AML", "bad_patient_id", f"line 3: found patient_id '{'x' * 80}', cut here, expected"),
    ],
)
def test_a_row_that_names_no_patient_is_rejected(tmp_path: Path, row: str, kind: str, sentence: str) -> None:
    read = table(tmp_path, f"{HEADER}\np0,A,AML\n{row}\n")
    (fault,) = read.faults
    assert (fault.kind, fault.loses_data) == (kind, True)
    assert f"patients.csv, {sentence}" in fault.sentence()
    assert [patient.patient_id for patient in read.patients] == ["p0"]
    assert read.tally.rejected == {kind: 1}


@pytest.mark.parametrize(
    ("column", "cell", "kind", "sentence", "loses"),
    [
        ("center", "", "empty_cell", "found an empty center for patient p1, expected the center; fill the cell", True),
        ("center", "A\0", "unprintable_cell", r"found center 'A\x00', expected letters that can be printed", True),
        ("diagnosis", "AML\x1b", "unprintable_cell", r"found diagnosis 'AML\x1b', expected letters", True),
        ("um_per_px", "abc", "bad_um_per_px", "found um_per_px 'abc', expected micrometers per pixel between", True),
        ("um_per_px", "0", "bad_um_per_px", "found um_per_px '0'", True),
        ("um_per_px", "-0.2", "bad_um_per_px", "found um_per_px '-0.2'", True),
        ("um_per_px", "nan", "bad_um_per_px", "found um_per_px 'nan'", True),
        ("um_per_px", "150", "bad_um_per_px", "between 0.01 and 2.0; correct the cell", True),
        ("specimen", "spleen", "bad_specimen", "found specimen 'spleen', expected marrow, blood or unknown", False),
    ],
)
def test_a_bad_cell_keeps_the_patient(
    tmp_path: Path, column: str, cell: str, kind: str, sentence: str, *, loses: bool
) -> None:
    row = {"patient_id": "p1", "center": "A", "diagnosis": "AML", "specimen": "marrow", "um_per_px": "0.2"}
    row[column] = cell
    read = table(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    (fault,) = read.faults
    assert (fault.kind, fault.loses_data, fault.where) == (kind, loses, "patients.csv, line 2")
    assert sentence in fault.sentence()
    assert len(read.patients) == 1


def test_empty_diagnosis_is_unknown(tmp_path: Path) -> None:
    assert table(tmp_path, f"{HEADER}\np1,A,\n").patients[0].diagnosis == "unknown"


def test_missing_columns_are_all_named(tmp_path: Path) -> None:
    read = table(tmp_path, "patient_id,subtype\np1,M2\n")
    assert [fault.sentence() for fault in read.faults] == [
        "patients.csv: found columns patient_id, subtype, expected a column center; add the column",
        "patients.csv: found columns patient_id, subtype, expected a column diagnosis; add the column",
    ]
    assert read.patients[0].center == "unknown"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"found columns \(none\), expected patient_id, center, diagnosis"),
        ("id,center\n1,A\n", "found columns id, center, expected patient_id"),
        ("patient_id,center,center\n", "expected patient_id, center, diagnosis, each once"),
        (f'{HEADER}\np1,"A,AML\n', "not a readable table"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        table(tmp_path, text)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"not a readable UTF-8 table .*save it as CSV in UTF-8"):
        table(tmp_path, f"{HEADER}\np1,Zürich,AML\n", "latin-1")


def test_what_a_table_says_is_escaped_where_it_would_break_the_line(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diag\x1cosis\nP1,A,AML\n", encoding="utf-8")
    (fault,) = [fault for fault in read_patients(tmp_path).faults if fault.kind == "missing_column"]
    assert "columns patient_id, center, diag\\x1cosis, expected" in fault.sentence()
    (tmp_path / "patients.csv").write_text('"patient\nid",center\nP1,A\n', encoding="utf-8")
    with pytest.raises(CohortError) as caught:
        read_patients(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
