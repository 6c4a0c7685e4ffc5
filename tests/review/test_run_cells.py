"""The cells of patients under review stay in memory: a department's readers do not read them anew at every decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.records import Patient
from marrowscope.review import run_cells
from marrowscope.review.run_cells import RunCells

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from marrowscope.review.run_cells import PatientCells, ReviewedRun
    from tests.fake_runs import FakeRun

N_READERS = 20


def test_as_many_patients_as_a_department_has_readers_are_read_once(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = [Patient(f"P{k}", "A", "AML") for k in range(N_READERS)]
    cells = RunCells([fake_run(patients, n_fields=1, n_cells=2).folder])
    read: list[str] = []
    really_read = run_cells.read_patient

    def read_and_note(run: ReviewedRun, patient_id: str) -> PatientCells:
        read.append(patient_id)
        return really_read(run, patient_id)

    monkeypatch.setattr(run_cells, "read_patient", read_and_note)
    for _ in range(2):
        for patient in patients:
            cells.cells(patient.patient_id)
    assert read == [patient.patient_id for patient in patients]
