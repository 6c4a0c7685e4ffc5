"""What `predict` prints of each patient: no figure that its state withholds, and not more lines than can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.cli.predict import _dated_run
from marrowscope.cli.predicted_patients import patient_figures, print_patients, specimen_remark
from marrowscope.records import Patient
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import PatientRow, RaisedFlag, patient_row
from tests.fake_runs import EMPTY_PATIENT, make_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> PatientRow:
    run = make_run(tmp_path_factory.mktemp("run"), [Patient("p1", "A", "AML")])
    return patient_row(read_table(run.folder / "patients.parquet", "patients").row(0, named=True))


def with_values(row: PatientRow, **values: object) -> PatientRow:
    return row.model_copy(update=values)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_patient_has_the_count_the_ratio_and_how_it_was_made(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = with_values(
        row, state="not_validated", n_cblc=3, n_countable=40, cblc_ratio=0.075, cblc_ratio_lower=0.026,
        cblc_ratio_upper=0.199, corrected_ratio=None,
    )  # fmt: skip
    print_patients([counted])
    line = said(capsys)
    assert "p1 not validated here 3 of 40 7.5% (2.6% to 19.9%), as counted" in line
    print_patients([with_values(counted, corrected_ratio=0.05, corrected_lower=0.0, corrected_upper=0.15)])
    assert "5.0% (0.0% to 15.0%), corrected" in said(capsys)
    (figures,) = patient_figures([counted])
    assert (figures["n_cblc"], figures["n_countable"], figures["ratio"]) == (3, 40, 0.075)


def test_without_a_countable_cell_the_reason_stands_in_place_of_the_ratio(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    none = dict.fromkeys(("cblc_ratio", "cblc_ratio_lower", "cblc_ratio_upper", "corrected_ratio"))
    print_patients([with_values(row, n_cblc=0, n_countable=0, **none)])
    assert "0 of 0 none: no countable cell" in said(capsys)


def test_the_flag_is_the_worst_one_as_on_the_first_screen(row: PatientRow, capsys: pytest.CaptureFixture[str]) -> None:
    few = RaisedFlag(flag="few_cells", value=99.0, limit=100.0, n_fields=None)
    many = RaisedFlag(flag="many_not_countable", value=0.4, limit=0.1, n_fields=None)
    print_patients([with_values(row, flags=(few, many))])
    line = said(capsys)
    assert "Many cells that" in line
    assert "Few" not in line
    assert "and 1" in line
    print_patients([with_values(row, flags=())])
    assert "and 1" not in said(capsys)


def test_out_of_depth_no_numerator_is_printed_and_the_reason_is(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    far = with_values(
        row, state="out_of_depth", state_reason="depth_not_measured", n_cblc=3217, n_countable=40, cblc_ratio=None,
        corrected_ratio=None,
    )  # fmt: skip
    print_patients([far])
    line = said(capsys)
    assert "not given; 40 countable cells" in line
    assert "none: out of depth" in line
    assert "p1: Out of depth" in line
    assert "3217" not in line
    assert "3217" not in str(patient_figures([far]))


def test_the_sentence_on_a_state_is_said_once_with_the_patients_who_share_it(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"state": "not_validated", "state_reason": "no_rates"}
    measured = {"state": "validated", "state_reason": "center_measured", "center_n_reviewed": 31, "center_n_outside": 1}
    rows = [with_values(row, patient_id=f"P{number}", **here) for number in range(5)]
    print_patients([*rows, with_values(row, patient_id="Q", **measured)])
    line = said(capsys)
    sentence = "Not validated here: this is the machine's count, and nobody has measured its errors."
    assert f"P0, P1, P2 and 2 others: {sentence}" in line
    assert line.count(sentence) == 1
    assert "Q: Validated in this center: error rates were measured on its 31 patients; 1 of" in line
    print_patients([with_values(row, state=None, state_reason=None)])  # a run of an older version
    assert "alidated" not in said(capsys)


def test_of_many_patients_the_first_twenty_are_shown_and_all_are_for_scripts(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [with_values(row, patient_id=f"patient{number:02d}") for number in range(23)]
    print_patients(rows)
    line = said(capsys)
    assert "patient19" in line
    assert "patient20" not in line
    assert "3 more patients: see the report" in line
    assert [item["patient_id"] for item in patient_figures(rows)] == [item.patient_id for item in rows]


def test_what_was_learned_from_simulated_cells_only_is_said_once(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = with_values(row, simulated_only=("M", "R1", "plasma"), simulated_only_codes=("M", "J"))
    print_patients([marked, marked])
    assert said(capsys).count("The bundle learned these from simulated cells only: M, R1, plasma cells, J.") == 1
    (figures,) = patient_figures([marked])
    assert (figures["simulated_only"], figures["simulated_only_codes"]) == (["M", "R1", "plasma"], ["M", "J"])
    unstated = with_values(row, simulated_only=None, simulated_only_codes=None)
    print_patients([unstated])
    assert "simulated cells only" not in said(capsys)
    (figures,) = patient_figures([unstated])
    assert (figures["simulated_only"], figures["simulated_only_codes"]) == (None, None)


def test_the_default_run_is_dated_and_never_one_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = _dated_run()
    assert first.name.startswith("marrowscope-run-20")
    assert first.parent == first.parent.parent  # here
    first.mkdir()
    second = _dated_run()
    assert second.name == f"{first.name}-2"
    second.mkdir()
    assert _dated_run().name == f"{first.name}-3"


def test_who_has_no_specimen_is_counted_and_what_is_missing_is_said() -> None:
    rows = [
        patient_row(EMPTY_PATIENT | {"specimen": specimen}) for specimen in ("marrow", "Blood", "unknown", "unknown")
    ]
    (told,) = specimen_remark(rows)
    assert told == (
        "Specimen unknown: 2 patients, without reference ranges, M:E, adequacy and blast estimate; state it with "
        "--specimen, or in patients.csv."
    )
    assert specimen_remark(rows[:2]) == []


def test_many_promyelocytes_bring_the_blast_estimate_both_ways(
    row: PatientRow, capsys: pytest.CaptureFixture[str]
) -> None:
    main = {"who_n_least": 2, "who_n_most": 2, "who_least": 0.05, "who_most": 0.05, "who_lower": 0.01, "who_upper": 0.1}
    alt = {"who_alt_least": 0.7, "who_alt_most": 0.7, "who_alt_lower": 0.6, "who_alt_upper": 0.8}
    many = with_values(row, who_declared=None, who_not_learned=None, **main, **alt)
    print_patients([many])
    told = "p1: Myeloid blast estimate: 5.0% of nucleated cells. With promyelocytes: 70.0% (95% sampling limits"
    assert told in said(capsys)
    (figures,) = patient_figures([many])
    assert {name: figures[name] for name in (*main, *alt) if not name.startswith("who_n")} == {
        name: value for name, value in (main | alt).items() if not name.startswith("who_n")
    }
    print_patients([with_values(many, **dict.fromkeys(alt))])
    assert "blast estimate" not in said(capsys)


def test_a_blast_estimate_that_is_too_wide_has_no_ends_for_scripts(row: PatientRow) -> None:
    wide = {"who_least": 0.5, "who_most": 0.5, "who_lower": 0.1, "who_upper": 0.9}
    (figures,) = patient_figures([with_values(row, **wide)])
    assert (figures["who_least"], figures["who_most"], figures["who_lower"]) == (None, None, 0.1)
    (figures,) = patient_figures([with_values(row, **dict.fromkeys(wide))])
    assert figures["who_lower"] is None
