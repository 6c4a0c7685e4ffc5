"""CSV and JSON of a run: what the tables hold, safe in a spreadsheet, described by a published schema."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.cli.main import main
from marrowscope.disk import MARKER_NAME, name_files
from marrowscope.errors import RunError
from marrowscope.records import Patient
from marrowscope.report.exchange import flat_cells, neutralised, write_csv
from marrowscope.report.fhir import write_fhir
from marrowscope.report.pdf_text import BIDI_CONTROLS
from marrowscope.report.run_json import (
    SCHEMA_PATH,
    schema_text,
    write_json,
)
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.runs.schemas import FIELDS, PATIENTS
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import state_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun

FORMULA = '=HYPERLINK("http://example.org","P1")'
CATEGORIES = load_vocabulary().categories


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def set_patients(run: Path, **columns: pl.Expr | pl.Series) -> None:
    """Write other values into the patients table of a run."""
    path = run / "patients.parquet"
    write_table(path, read_table(path, "patients").with_columns(**columns), "patients")
    state_tables(run)


def flag(name: str, value: float) -> dict[str, Any]:
    return {"flag": name, "value": value, "limit": 0.1, "n_fields": None}


def test_csv_holds_the_figures_of_the_parquet_tables(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run().folder
    assert [path.name for path in write_csv(run)] == ["patients.csv", "fields.csv", "cells.csv"]
    table = read_table(run / "patients.parquet", "patients")
    for row, told in zip(table.iter_rows(named=True), rows_of(run / "patients.csv"), strict=True):
        assert told["patient_id"] == row["patient_id"]
        assert float(told["cblc_ratio"]) == row["cblc_ratio"]
        for item in row["differential"]:
            assert int(told[f"n_{item['category']}"]) == item["n"]
            assert float(told[f"share_{item['category']}"]) == item["share"]
            assert float(told[f"share_nucleated_upper_{item['category']}"]) == item["upper"]
        assert float(told["share_lineage_erythroid"]) == row["lineages"][2]["share"]
        assert sum(int(told[f"n_rejected_{reason}"]) for reason in REJECT_REASONS) == row["n_rejected"]
    cells = read_table(run / "cells.parquet", "cells")
    for row, told in zip(cells.iter_rows(named=True), rows_of(run / "cells.csv"), strict=True):
        assert told["cell_id"] == row["cell_id"]
        expected = [""] * 16 if row["p_category"] is None else [str(p) for p in row["p_category"]]
        found = [told[f"p_category_{category}"] for category in CATEGORIES]
        assert [float(p) if p else None for p in found] == [float(p) if p else None for p in expected]
    assert len(rows_of(run / "fields.csv")) == len(read_table(run / "fields.parquet", "fields"))


def test_no_column_of_a_csv_is_nested(fake_run: Callable[..., FakeRun]) -> None:
    for path in write_csv(fake_run().folder):
        assert not any("[" in (value or "") for row in rows_of(path) for value in row.values())


def test_flags_are_names_separated_by_spaces(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run().folder
    raised = [[flag("few_cells", 40), flag("many_rejected", 0.3)], []]
    set_patients(run, flags=pl.Series(raised, dtype=PATIENTS["flags"]))
    write_csv(run)
    assert [row["flags"] for row in rows_of(run / "patients.csv")] == ["few_cells many_rejected", ""]


def test_formula_in_a_users_text_reaches_the_csv_as_text(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient(FORMULA, "-5", "@SUM(1)"), Patient("P2", "2026-01-01", "AML; =1+1")]).folder
    write_csv(run)
    first, second = rows_of(run / "patients.csv")
    assert (first["patient_id"], first["center"], first["diagnosis"]) == (f"'{FORMULA}", "-5", "'@SUM(1)")
    assert (second["center"], second["diagnosis"]) == ("2026-01-01", "AML; =1+1")
    assert '"AML; =1+1"' in (run / "patients.csv").read_text(encoding="utf-8")  # quoted: no separator ends the cell
    assert rows_of(run / "cells.csv")[0]["patient_id"] == f"'{FORMULA}"


@given(st.text(max_size=20) | st.from_regex(r"[=+\-@\t\r\n＝＋－＠].{0,9}", fullmatch=True))  # noqa: RUF001
@example("-5")
@example("+3.2e-4")
@example("-5+cmd|' /C calc'!A0")
@example("\t=1")
@example("'=1")
@example("''=1")
@example("\u202e=1")
def test_no_id_begins_like_a_formula_and_each_can_be_had_back(text: str) -> None:
    told = neutralised(pl.DataFrame({"patient_id": [text], "n": [-1.5]}))
    (cell,) = told["patient_id"]
    assert told["n"].to_list() == [-1.5]
    seen = re.sub(rf"^[\x00\ufeff{BIDI_CONTROLS}]+", "", cell)
    if seen[:1] in set("=+-@\t\r\n＝＋－＠") and seen:  # noqa: RUF001
        float(cell)  # only a plain number keeps its sign in front
        assert set(cell) <= set("0123456789+-.eE")
    guarded = re.match(rf"'['\x00\ufeff{BIDI_CONTROLS}]*[=+\-@\t\r\n＝＋－＠]", cell)  # noqa: RUF001
    assert text == (cell[1:] if guarded else cell)


def test_probabilities_of_another_vocabulary_are_numbered() -> None:
    cells = pl.DataFrame({"contour_xy": [[0.0]], "p_category": [[0.25, 0.75]]})
    assert flat_cells(cells, CATEGORIES).to_dicts() == [{"p_category_0": 0.25, "p_category_1": 0.75}]


def test_run_without_a_cell_gives_tables_with_heads(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run(n_cells=0).folder
    write_csv(run)
    assert rows_of(run / "cells.csv") == []
    assert "p_category_N5" in (run / "cells.csv").read_text(encoding="utf-8")
    assert [row["cblc_ratio"] for row in rows_of(run / "patients.csv")] == ["", ""]


def test_measure_that_is_not_a_number_is_an_empty_cell_and_null(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run().folder
    path = run / "fields.parquet"
    write_table(path, read_table(path, "fields").with_columns(sharpness=pl.lit(float("nan"))), "fields")
    state_tables(run)
    write_csv(run)
    assert {row["sharpness"] for row in rows_of(run / "fields.csv")} == {""}
    document = json.loads(write_json(run).read_text(encoding="utf-8"))
    assert {field["sharpness"] for field in document["fields"]} == {None}


def test_command_writes_every_format_asked_for_and_no_other(
    fake_run: Callable[..., FakeRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = fake_run().folder, tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run), "--format", "csv", "-f", "json", "-f", "fhir", "--out", str(out)])
    assert stopped.value.code == 0
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.name != MARKER_NAME)
    assert found == ["cells.csv", "fhir/P1.json", "fhir/P2.json", "fields.csv", "patients.csv", "run.json"]
    assert str(out / "run.json") in "".join(capsys.readouterr().out.split("\n"))
    assert not (run / "report").exists()


@pytest.mark.parametrize(("kind", "name"), [("csv", "patients.csv"), ("json", "run.json"), ("fhir", "fhir/P1.json")])
def test_files_of_others_are_never_written_over(
    fake_run: Callable[..., FakeRun], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    run, out = fake_run().folder, tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("somebody's", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run), "--format", kind, "--out", str(out)])
    assert stopped.value.code == 2
    assert f"found {name.rsplit('/', maxsplit=1)[-1]}, which this command did not write" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (out / name).read_text(encoding="utf-8") == "somebody's"
    (out / name).unlink()
    (out / "notes.txt").write_text("somebody's", encoding="utf-8")
    for _ in range(2):  # ours are replaced, theirs stay
        with pytest.raises(SystemExit) as stopped:
            main(["report", str(run), "--format", kind, "--out", str(out)])
        assert stopped.value.code == 0
    assert (out / "notes.txt").read_text(encoding="utf-8") == "somebody's"


def test_tables_never_replace_those_of_a_cohort(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id", encoding="utf-8")
    name_files(tmp_path, "simulated cohort", ["patients.csv"])
    with pytest.raises(RunError, match=r"found patients\.csv, which this command did not write"):
        write_csv(fake_run().folder, tmp_path)
    assert (tmp_path / "patients.csv").read_text(encoding="utf-8") == "patient_id"


def test_json_is_valid_under_the_published_schema(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run(
        [Patient("P1", "A", "control", specimen="marrow", age_group="adult"), Patient("患者", "B", "AML")]
    ).folder
    values = {"call": "above", "corrected_ratio": 0.3, "call_reason": None, "correction_note": "none_called"}
    raised = [[flag("few_cells", 40.0)], []]
    set_patients(
        run,
        flags=pl.Series(raised, dtype=PATIENTS["flags"]),
        **{name: pl.lit(value) for name, value in values.items()},
    )
    document = json.loads(write_json(run).read_text(encoding="utf-8"))
    validator = Draft202012Validator(json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))
    validator.check_schema(validator.schema)
    assert list(validator.iter_errors(document)) == []
    assert document["patients"][1]["patient_id"] == "患者"
    assert document["patients"][0]["flags"] == raised[0]
    assert document["manifest"]["counts"]["patients"] == 2
    for broken in ({"call": "perhaps"}, {"cblc_ratio": 21.0}, {"extra": 1}):
        wrong = document | {"patients": [document["patients"][0] | broken]}
        assert list(validator.iter_errors(wrong)), broken


def test_published_schema_is_the_one_of_the_tables() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), "run: python benchmarks/table_files.py"


def test_published_schema_has_every_column_with_its_unit() -> None:
    parts = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))["$defs"]
    assert list(parts["PatientRow"]["properties"]) == list(PATIENTS)
    assert list(parts["FieldRow"]["properties"]) == list(FIELDS)
    assert parts["FieldRow"]["properties"]["um_per_px"]["unit"] == "um/px"
    assert parts["CategoryShare"]["required"] == list(parts["CategoryShare"]["properties"])


def test_same_run_gives_the_same_bytes(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run = fake_run().folder
    first = [*write_csv(run, tmp_path / "a"), write_json(run, tmp_path / "a")]
    second = [*write_csv(run, tmp_path / "b"), write_json(run, tmp_path / "b")]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("writer", [write_csv, write_json])
def test_folder_that_is_no_run_is_refused(writer: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `marrowscope predict` first"):
        writer(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_ids_of_a_csv_and_of_fhir_keep_what_reorders_a_text(fake_run: Callable[..., FakeRun]) -> None:
    ids = ["P\u202e1", "P1"]  # without the mark the two would be one patient
    run = fake_run([Patient(ids[0], "A\u2067", "\u202e=AML\u2069"), Patient(ids[1], "A", "AML")])
    write_csv(run.folder)
    rows = rows_of(run.folder / "patients.csv")
    assert [row["patient_id"] for row in rows] == ids
    assert (rows[0]["center"], rows[0]["diagnosis"]) == ("A", "'=AML")
    assert {row["patient_id"] for row in rows_of(run.folder / "cells.csv")} == set(ids)
    subjects = []
    for path in write_fhir(run.folder):
        text = path.read_text(encoding="utf-8")
        subject = json.loads(text)["entry"][0]["resource"]["subject"]
        subjects.append((subject["identifier"]["value"], subject["display"]))
        assert not set("\u202e\u2067\u2069") & set(text.replace(f'"value": "{ids[0]}"', ""))
    assert subjects == [(ids[0], "P[U+202E]1"), ("P1", "P1")]
