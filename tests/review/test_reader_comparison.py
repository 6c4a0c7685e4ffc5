"""Blinded readers compared: rows against the functions of agreement on hand-made readings, and the command's tables."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from marrowscope.cli.main import app
from marrowscope.errors import ReviewError
from marrowscope.review.agreement import cohen_kappa
from marrowscope.review.consensus import NOT_A_CELL, NOT_DRAWN
from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from marrowscope.review.patient_state import PatientState
from marrowscope.review.ratio_agreement import bland_altman
from marrowscope.review.reader_comparison import compare_readers
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.review.station import Station


def read_by(patient_id: str, **codes: str) -> PatientState:
    """Return a patient whose readers say these codes, one letter a reader and one word a cell: ``c0="N R"``."""
    opinions = {
        cell: {reader: code for reader, code in zip(("ada", "bo", "cy"), said.split(), strict=False) if code != "-"}
        for cell, said in codes.items()
    }
    return PatientState(patient_id, 1, {}, opinions=opinions)


def test_kappas_confusions_and_ratios_are_those_of_the_cells_that_all_named() -> None:
    states = {
        "P1": read_by("P1", c0="N N", c1="N N1", c2="N5 N5", c3="L2 L", c4="N -"),
        "P2": read_by("P2", c0="N N", c1="R N5", c2="N5 N5"),
        "P3": read_by("P3", c0="N2 N2", c1="N N", c2="N5 N2", c3="N5 N5"),
    }
    found = compare_readers(states, load_vocabulary())
    whole = {row.level: row for row in found.kappas if not row.name}
    assert [(row.n_cells, row.n_patients) for row in whole.values()] == [(11, 3)] * 2
    by_hand = np.zeros((6, 6), dtype=np.int64)
    place = {name: k for k, name in enumerate(("N", "N1", "N5", "L", "R", "N2"))}
    for first, second in (
        *(("N", "N"), ("N", "N1"), ("N5", "N5"), ("L", "L")),  # L2 and L are one category
        *(("N", "N"), ("R", "N5"), ("N5", "N5")),
        *(("N2", "N2"), ("N", "N"), ("N5", "N2"), ("N5", "N5")),
    ):
        by_hand[place[first], place[second]] += 1
    assert whole["category"].kappa == pytest.approx(cohen_kappa(by_hand).kappa.estimate)
    assert whole["category"].patients_lower <= whole["category"].kappa <= whole["category"].patients_upper
    assert whole["lineage"].agreement == pytest.approx(10 / 11), "one erythroid cell was called granulocytic"
    cells = {(row.name_first, row.name_second): row.n_cells for row in found.confusions}
    assert cells == {
        (first, second): n for first in place for second in place if (n := by_hand[place[first], place[second]])
    }
    ratios = {(row.patient_id, row.reader): (row.n_cblc, row.n_countable) for row in found.ratios}
    assert ratios["P1", "ada"] == (2, 4), "the cell that bo did not name is left out"
    assert ratios["P2", "bo"] == (1, 3)
    bias = next(row for row in found.ratio_agreement if row.measure == "bias")
    own = [[row.cblc_ratio for row in found.ratios if row.reader == reader] for reader in ("ada", "bo")]
    assert bias.value == bland_altman(own[0], own[1]).bias.estimate


def test_what_is_no_cell_is_one_name_and_three_readers_are_compared_together() -> None:
    said = (("N", NOT_A_CELL, "N"), ("R", "R", NOT_DRAWN), (NOT_A_CELL, "split", "N5"))
    opinions = {f"c{k}": dict(zip(("ada", "bo", "cy"), words, strict=True)) for k, words in enumerate(said)}
    found = compare_readers({"P1": PatientState("P1", 1, {}, opinions=opinions)}, load_vocabulary())
    assert {row.readers for row in found.kappas} == {"ada, bo", "ada, cy", "bo, cy", "ada, bo, cy"}
    cells = {(row.first, row.second, row.name_first, row.name_second) for row in found.confusions}
    assert ("ada", "bo", NOT_A_CELL, NOT_A_CELL) in cells, "a split says that there is no such cell"
    assert ("ada", "cy", "R", NOT_A_CELL) in cells
    with pytest.raises(ReviewError, match="found no cell that two blinded readers named"):
        compare_readers({"P1": read_by("P1", c0="N -")}, load_vocabulary())


def test_the_command_writes_what_blinded_readers_said_also_after_adjudication(station: Station, tmp_path: Path) -> None:
    station.store.append([Draft("Dee", "P1", "assign", None, None, {"readers": ["Ada", "Bo"]})])
    first, second = (cell.cell_id for cell in station.patient("P1").frozen[:2])
    for reader, codes in (("Ada", ("N", "R")), ("Bo", ("N1", "R"))):
        named = [Decision("relabel", cell, code) for cell, code in zip((first, second), codes, strict=True)]
        station.decide("P1", reader, named, 0, is_blinded=True)
    station.decide("P1", "Dee", [Decision("adjudicate", first, "N1")], station.store.head().sequence)
    run = station.cells.runs[0].folder
    words = ["review", "agreement", str(tmp_path / "review"), str(run), "--out", str(tmp_path / "readers")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "Ada, Bo, category: kappa" in result.output
    rows = list(csv.DictReader((tmp_path / "readers" / "confusion.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["name_first"], row["name_second"], row["n_cells"]) for row in rows] == [
        ("N", "N1", "1"),
        ("R", "R", "1"),
    ]
    assert {path.name for path in (tmp_path / "readers").iterdir()} >= {
        "kappa.csv",
        "ratios.csv",
        "ratio-agreement.csv",
    }
