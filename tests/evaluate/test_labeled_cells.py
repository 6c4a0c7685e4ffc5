"""Labeled cells beside their calls, on a case made by hand: what is found, right by category, right by CBLC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate import labeled_cells
from marrowscope.evaluate.labeled_cells import label_by_label
from marrowscope.records import Patient
from marrowscope.runs.checked_rows import CheckedRows
from tests.evaluate.test_link import VOCABULARY, cell, circle, expert, make_field, tables

if TYPE_CHECKING:
    import pytest

BLAST = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"


def test_each_labeled_cell_stands_beside_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    field = make_field(
        expert("N5", 50, 50, 0),  # called N5: right
        expert("N1", 150, 50, 1),  # called N2, not CBLC: the other answer
        expert("N3", 250, 50, 2),  # called N4: another category, the same answer
        expert("E", 350, 50, 3),  # not found
        expert(BLAST, 50, 150, 4),  # called N, CBLC: in the set
        expert(BLAST, 150, 150, 5),  # called N1, CBLC: outside of the set, the same answer
    )
    cells = [
        cell(50, 50, "N5", p=0.1),
        cell(150, 50, "N2", p=0.1),
        cell(250, 50, "N4", p=0.1),
        cell(50, 150, "N", p=0.9),
        cell(150, 150, "N1", p=0.9),
        cell(250, 250, "E", p=0.1),  # no label: enters nothing
    ]
    run_fields, run_cells = tables([field], cells)
    patients = pl.DataFrame([{"patient_id": "P1", "n_cblc": 3, "n_countable": 5, "state": "not_validated"}])
    of_kind = {"fields": run_fields, "cells": run_cells, "patients": patients}
    monkeypatch.setattr(labeled_cells, "read_rows", lambda _run, kind, _categories: of_kind[kind])
    monkeypatch.setattr(labeled_cells, "scan_rows", lambda _run, kind, _categories: CheckedRows.of(of_kind[kind]))
    (patient,) = label_by_label(Path("run"), [Patient("P1", "A", "AML", "blood")], [field], VOCABULARY)
    assert (patient.n_found, patient.n_labeled) == (5, 6)
    assert patient.n_category_right == 2
    assert (patient.n_cblc_right, patient.n_cblc_stated) == (4, 5)
    assert (patient.n_cblc, patient.n_countable, patient.specimen) == (3, 5, "blood")
    assert [shown.outcome for shown in patient.cells] == [
        "right", "cblc_wrong", "category_wrong", "missed", "right", "category_wrong",
    ]  # fmt: skip
    missed = patient.cells[3]
    assert (missed.called, missed.p_called) == (None, None)
    assert np.array_equal(missed.contour_xy, circle(350, 50)), "a missed cell keeps the annotated outline"
    assert patient.cells[4].expert_category is None
    assert patient.cells[4].expert.startswith("BLA")
