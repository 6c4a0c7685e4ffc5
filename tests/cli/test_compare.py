"""`marrowscope compare` from two runs, or a run and a reader, to the written tables."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.cli.main import main
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.disk import MARKER_NAME
from marrowscope.evaluate.comparison_output import p_text
from marrowscope.records import Annotation
from marrowscope.runs.parquet import write_table
from tests.cli.annotated_cohort import CODES, circle, make_cohort_and_run

if TYPE_CHECKING:
    from pathlib import Path

FILES = {MARKER_NAME, "comparison.json", "comparison.md", "figures.csv", "decisions.csv", "patients.csv"}


@pytest.fixture
def cohort_and_runs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three patients; run A finds 3 of 4 cells of each, run B additionally misses one of P1."""
    cohort, run = make_cohort_and_run(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    cells = pl.read_parquet(other / "cells.parquet").filter(pl.col("cell_id") != "P10")
    write_table(other / "cells.parquet", cells, "cells")
    return cohort, run, other


def run_main(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def figures(folder: Path) -> dict[str, dict[str, float]]:
    document = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return {figure["key"]: figure for figure in document["centers"][-1]["figures"]}


def test_two_runs_are_compared_per_center(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, other = cohort_and_runs
    assert run_main("compare", run, other, cohort, "--out", tmp_path / "c") == 0
    printed = capsys.readouterr().out
    for words in ("detection recall", "+0.083", "A: run run of bundle", "B: run other", "3 annotated fields of both"):
        assert words in printed
    assert "not defined: no threshold" in printed
    assert {path.name for path in (tmp_path / "c").iterdir()} == FILES
    recall = figures(tmp_path / "c")["detection_recall"]
    assert (recall["a"], recall["b"]) == pytest.approx((9 / 12, 8 / 12))
    assert recall["difference"] == pytest.approx(1 / 12)
    text = (tmp_path / "c" / "comparison.md").read_text(encoding="utf-8")
    assert "## all centers: 3 patients" in text
    assert (
        "| AML AUC, DeLong interval, predicted ratio |  |  | not defined: the patients are all AML, or none is |"
        in text
    )
    assert "nan" not in text.casefold()
    table = pl.read_csv(tmp_path / "c" / "figures.csv").filter(center="all centers", key="detection_recall")
    assert table["difference"].to_list() == pytest.approx([1 / 12])
    patients = pl.read_csv(tmp_path / "c" / "patients.csv")
    assert patients.columns[:5] == ["patient_id", "center", "diagnosis", "true_ratio", "run_ratio_a"]
    assert patients["run_ratio_b"].to_list() == pytest.approx([0.0, 1 / 3, 1 / 3])


def test_a_threshold_for_both_gives_decisions(cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    cohort, run, other = cohort_and_runs
    assert run_main("compare", run, other, cohort, "--out", tmp_path / "c", "--threshold", "0.2", "--json") == 0
    decisions = pl.read_csv(tmp_path / "c" / "decisions.csv").filter(center="all centers")
    forced = decisions.filter(key="forced_decision_error_predicted_ratio")
    counts = ("both_right", "only_a_right", "only_b_right", "both_wrong")
    assert forced.select(*counts).row(0) == (2, 1, 0, 0)
    assert forced["p"].to_list() == [1.0]


def test_json_is_the_only_output_when_asked(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, other = cohort_and_runs
    assert run_main("compare", run, other, cohort, "--out", tmp_path / "c", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [center["center"] for center in document["centers"]] == ["A", "B", "all centers"]


def second_reader(cohort: Path, where: Path, code: str) -> Path:
    """Copy the cohort, with every cell of P1 renamed by another reader."""
    reader = where / "reader"
    shutil.copytree(cohort, reader)
    shapes = [Annotation(code, circle(60 + 80 * k, 100), k) for k in range(len(CODES))]
    write_labelme(reader / "P1" / "f.json", "f.png", 400, 200, shapes)
    return reader


def test_a_reader_is_compared_like_a_run(cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    cohort, run, _ = cohort_and_runs
    reader = second_reader(cohort, tmp_path, "N5")
    assert run_main("compare", reader, run, cohort, "--out", tmp_path / "c") == 0
    found = figures(tmp_path / "c")
    assert (found["detection_recall"]["a"], found["detection_recall"]["b"]) == pytest.approx((1, 9 / 12))
    # The reader calls 2 + 4 + 4 of 12 cells as the truth does; the run misses one in each field.
    assert found["patient_ratio_mae"]["a"] == pytest.approx(0.25 / 3)
    assert "A: reader reader." in (tmp_path / "c" / "comparison.md").read_text(encoding="utf-8")
    same = tmp_path / "same"
    assert run_main("compare", reader, reader, cohort, "--out", same) == 0
    assert {figure["difference"] for figure in figures(same).values()} == {0, None}


def test_a_run_with_its_tables_as_csv_is_no_reader(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, other = cohort_and_runs
    (run / "patients.csv").write_text("patient_id\nP1\n", encoding="utf-8")
    assert run_main("compare", run, other, cohort, "--out", tmp_path / "c") == 0
    assert "A: run run of bundle" in capsys.readouterr().out


def test_a_diagnosis_that_no_patient_has_is_refused_with_those_there_are(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, other = cohort_and_runs
    call = ("compare", run, other, cohort, "--out", tmp_path / "c")
    assert run_main(*call, "--aml-diagnosis", "AMl-M2") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"--aml-diagnosis: found 'AMl-M2', expected a diagnosis of the patients in {cohort} (AML);" in told
    assert not (tmp_path / "c").exists()
    assert run_main(*call, "--aml-diagnosis", "aml", "--aml-diagnosis", "APL") == 0
    assert "no patient in" in capsys.readouterr().err


def test_lost_cells_are_said(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, _ = cohort_and_runs
    reader = second_reader(cohort, tmp_path, "N99")
    assert run_main("compare", reader, run, cohort, "--out", tmp_path / "c") == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"would lose data; see `marrowscope cohort check {reader}`" in said


def test_runs_without_a_field_in_common_are_refused(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, other = cohort_and_runs
    for name, kept in (("fields", "P1"), ("cells", "P1")):
        table = pl.read_parquet(other / f"{name}.parquet").filter(pl.col("patient_id") == kept)
        write_table(other / f"{name}.parquet", table, name)  # type: ignore[arg-type]
    assert run_main("compare", run, other, cohort, "--out", tmp_path / "one") == 0
    document = json.loads((tmp_path / "one" / "comparison.json").read_text(encoding="utf-8"))
    assert (document["n_fields"], document["n_fields_left_out"]) == (1, 2)
    table = pl.read_parquet(run / "fields.parquet").filter(pl.col("patient_id") != "P1")
    write_table(run / "fields.parquet", table, "fields")
    table = pl.read_parquet(run / "cells.parquet").filter(pl.col("patient_id") != "P1")
    write_table(run / "cells.parquet", table, "cells")
    assert run_main("compare", run, other, cohort, "--out", tmp_path / "c") == 2
    assert "found no annotated field that both sides have" in capsys.readouterr().err.replace("\n", " ")


def test_an_earlier_comparison_is_replaced_only_when_asked(
    cohort_and_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run, other = cohort_and_runs
    words = ("compare", run, other, cohort, "--out", tmp_path / "c")
    assert run_main(*words) == 0
    capsys.readouterr()
    assert run_main(*words) == 0  # the same call over its own result
    assert "already complete, made by this same call" in capsys.readouterr().out.replace("\n", " ")
    assert run_main(*words, "--seed", "5") == 2
    assert "found an earlier comparison, expected a new or empty folder" in capsys.readouterr().err.replace("\n", " ")
    assert run_main(*words, "--overwrite") == 0


@pytest.mark.parametrize(("p", "text"), [(0.0004, "< 0.001"), (0.0212, "0.021"), (1.0, "1.000"), (None, "")])
def test_p_is_printed_to_three_decimals(p: float | None, text: str) -> None:
    assert p_text(p) == text
