"""Readers of one cohort against each other: kappas by hand, cells that one left out, and the command's folders."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cli.evaluate_readers import folder_names
from marrowscope.cli.main import main
from marrowscope.cohort import read_cohort
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.records import Annotation
from marrowscope.review.agreement import cohen_kappa
from marrowscope.studies.reader_study import compare_cohort_readers
from marrowscope.vocabulary import load_vocabulary
from tests.cli.annotated_cohort import CENTERS, CODES, circle, make_cohort_and_run

if TYPE_CHECKING:
    from pathlib import Path

OTHER = ("N1", "N5", "L2")  # calls the first cell otherwise, and leaves the last one out


@pytest.fixture
def cohort_and_run(tmp_path: Path) -> tuple[Path, Path]:
    """Give the annotated cohort with a second reader, bo@lab, of every field but that of Q1."""
    cohort, run = make_cohort_and_run(tmp_path)
    for patient in CENTERS:
        image = cohort / patient / "f.png"
        for suffix, reader, codes in ((".json", "ada", CODES), (".bo.json", "bo@lab", OTHER)):
            if (patient, reader) == ("Q1", "bo@lab"):
                continue
            shapes = [Annotation(code, circle(60 + 80 * k, 100) + (k % 2), k) for k, code in enumerate(codes)]
            write_labelme(image.with_suffix(suffix), image.name, 400, 200, shapes, reader=reader)
    return cohort, run


def test_readers_are_compared_on_the_cells_that_either_outlined(cohort_and_run: tuple[Path, Path]) -> None:
    vocabulary = load_vocabulary()
    found = compare_cohort_readers(
        {reader: read_cohort(cohort_and_run[0], reader=reader) for reader in ("ada", "bo@lab")}, vocabulary
    )
    row = next(row for row in found.kappas if (row.level, row.name) == ("category", ""))
    assert (row.readers, row.n_cells, row.n_patients) == ("ada, bo@lab", 8, 2), "Q1 has one reader alone"
    cells = {(item.name_first, item.name_second): item.n_cells for item in found.confusions}
    assert cells == {("N", "N1"): 2, ("N5", "N5"): 2, ("L", "L"): 2, ("N5", "not a cell"): 2}
    names = ["N", "N1", "N5", "L", "not a cell"]
    by_hand = np.array([[cells.get((one, other), 0) for other in names] for one in names])
    assert row.kappa == pytest.approx(cohen_kappa(by_hand).kappa.estimate)


def test_who_left_cells_out_on_purpose_says_nothing_of_them(cohort_and_run: tuple[Path, Path]) -> None:
    for path in cohort_and_run[0].rglob("*.bo.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["flags"]["exhaustive"] = False
        path.write_text(json.dumps(document), encoding="utf-8")
    cohorts = {reader: read_cohort(cohort_and_run[0], reader=reader) for reader in ("ada", "bo@lab")}
    found = compare_cohort_readers(cohorts, load_vocabulary())
    assert {item.name_second for item in found.confusions} == {"N1", "N5", "L"}


def run_main(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_the_command_measures_the_run_against_each_reader(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    out = tmp_path / "m"
    assert run_main("evaluate", run, cohort, "--out", out) == 0
    told = capsys.readouterr()
    assert "Against the annotations of bo@lab" in told.out
    assert "ada, bo@lab, category: kappa" in told.err
    assert {path.name for path in out.iterdir()} == {"ada", "bo_lab", "agreement", "readers.csv"}
    rows = list(csv.DictReader((out / "readers.csv").read_text(encoding="utf-8").splitlines()))
    recall = {
        row["reader"]: row["value"] for row in rows if (row["figure"], row["center"]) == ("detection_recall", "A")
    }
    assert recall == {"ada": "0.7500", "bo@lab": "1.0000"}, "the run finds all that bo outlined"
    assert (out / "agreement" / "kappa.csv").is_file()
    assert run_main("evaluate", run, cohort, "--out", out) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert run_main("evaluate", run, cohort, "--out", out, "--overwrite", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["readers"]) == {"ada", "bo@lab"}
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "one", "--reader", "ada") == 0
    assert (tmp_path / "one" / "index.html").is_file()
    assert run_main("compare", run, run, cohort, "--out", tmp_path / "c") == 2
    assert "found annotations of the same images by ada, bo@lab, expected one reader" in capsys.readouterr().err


def test_folders_of_readers_are_plain_and_differ() -> None:
    assert folder_names(["bo@lab", "bo lab", "../..", "Agreement", "王"]) == [
        "bo_lab",
        "bo_lab-2",
        "reader",
        "Agreement-2",
        "王",
    ]
