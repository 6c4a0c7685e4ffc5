"""Tables on disk: round trip, refusals, and tables that an older version wrote."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from marrowscope.errors import RunError
from marrowscope.runs.panics import panics_unprinted
from marrowscope.runs.parquet import (
    absent_columns,
    conform,
    empty_table,
    is_whole,
    read_table,
    scan_table,
    write_table,
)
from marrowscope.runs.schemas import CELLS, PATIENTS, SCHEMAS, TableKind

SCHEMA_3_RUN = Path(__file__).parent / "fixtures" / "schema_3_run"
"""A run of two simulated patients with nine contours a field, written by the code before version 4."""


@pytest.mark.parametrize("kind", list(SCHEMAS))
def test_empty_table_survives_the_round_trip(kind: TableKind, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.parquet"
    write_table(path, empty_table(kind), kind)
    assert dict(read_table(path, kind).schema) == SCHEMAS[kind]
    assert list(tmp_path.iterdir()) == [path]


def test_absent_columns_become_null_and_the_order_is_the_schemas() -> None:
    table = conform(pl.DataFrame({"patient_id": ["P1"], "field_id": ["P1/a"]}), "fields")
    assert table.columns == list(SCHEMAS["fields"])
    assert table["sha256"].to_list() == [None]


def test_column_without_a_definition_is_refused() -> None:
    with pytest.raises(RunError, match=r"undefined columns \['blast'\].*define them in tables.py"):
        conform(pl.DataFrame({"blast": [1]}), "cells")


def test_absent_foreign_and_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    with pytest.raises(RunError, match=r"not found.*run `marrowscope predict` first"):
        read_table(path, "cells")
    write_table(path, empty_table("fields"), "fields")
    with pytest.raises(RunError, match="found table fields of schema version 4, expected cells"):
        read_table(path, "cells")
    path.write_bytes(b"not parquet")
    with pytest.raises(RunError, match="not a readable Parquet table"):
        read_table(path, "cells")


@pytest.mark.parametrize("name", ["read_parquet_metadata", "scan_parquet"])
def test_a_panic_of_polars_is_refused_as_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def panic(*_: object, **__: object) -> None:
        message = "assertion failed: offset + length <= self.length"
        raise pl.exceptions.PanicException(message)

    path = tmp_path / "cells.parquet"
    write_table(path, empty_table("cells"), "cells")
    monkeypatch.setattr(pl, name, panic)
    with pytest.raises(RunError, match=r"not a readable Parquet table \(assertion failed.*predict` again"):
        read_table(path, "cells")


LATER = {
    "fields": {"n_rejected_overlap", "simulated"},
    "patients": {
        *("state", "state_reason", "center_n_reviewed", "center_n_outside", "depth", "fitting_um_per_px"),
        *("threshold_n_patients", "threshold_simulated"),
    },
}
"""Columns that version 3 did not have."""


@pytest.mark.parametrize("kind", ["fields", "cells", "patients"])
def test_a_table_of_version_3_is_read_as_one_of_today(kind: TableKind) -> None:
    path = SCHEMA_3_RUN / f"{kind}.parquet"
    assert pl.read_parquet_metadata(path)["marrowscope.schema_version"] == "3"
    table, as_written = read_table(path, kind), pl.read_parquet(path)
    assert dict(table.schema) == SCHEMAS[kind]
    later = LATER.get(kind, set())
    assert table.drop(later).equals(as_written.select(table.drop(later).columns))
    assert scan_table(path, kind).collect().equals(table)
    assert set(as_written.columns) - set(table.columns) == ({"expert_code", "match_iou"} if kind == "cells" else set())
    assert set(absent_columns(path, kind)) == later
    assert not is_whole(path, kind)  # an unfinished run does not go on with parts of another version


def written(path: Path, frame: pl.DataFrame, kind: str, version: int) -> Path:
    """Write a table as another version would."""
    frame.write_parquet(path, metadata={"marrowscope.table": kind, "marrowscope.schema_version": str(version)})
    return path


@pytest.mark.parametrize("version", [3, 4])
def test_a_column_that_came_later_is_null_and_named(version: int, tmp_path: Path) -> None:
    cells = read_table(SCHEMA_3_RUN / "cells.parquet", "cells")
    path = written(tmp_path / "cells.parquet", cells.drop("score", "granularity"), "cells", version)
    found = read_table(path, "cells")
    assert found.equals(
        cells.with_columns(pl.lit(None, dtype=CELLS[name]).alias(name) for name in ("score", "granularity"))
    )
    assert absent_columns(path, "cells") == ("score", "granularity")


def test_a_part_of_nested_rows_that_came_later_is_null_and_named(tmp_path: Path) -> None:
    patients = read_table(SCHEMA_3_RUN / "patients.parquet", "patients")
    shorter = patients.with_columns(
        pl.col("differential").list.eval(pl.struct(pl.element().struct.field("category", "lineage", "n")))
    )
    path = written(tmp_path / "patients.parquet", shorter, "patients", 4)
    found = read_table(path, "patients")
    assert dict(found.schema) == PATIENTS
    first = found["differential"][0].to_list()[0]
    assert (first["n"], first["share"]) == (patients["differential"][0].to_list()[0]["n"], None)
    assert absent_columns(path, "patients")[:2] == ("differential.n_countable", "differential.share")


@pytest.mark.parametrize("version", [2, 5])
def test_a_version_from_before_or_after_is_refused(version: int, tmp_path: Path) -> None:
    path = written(tmp_path / "cells.parquet", empty_table("cells"), "cells", version)
    with pytest.raises(RunError, match=f"schema version {version}, expected cells of version 3 to 4; run"):
        read_table(path, "cells")


def test_a_table_without_a_column_that_every_run_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.parquet", empty_table("cells").drop("patient_id"), "cells", 4)
    with pytest.raises(RunError, match="found no patient_id, expected in every run"):
        scan_table(path, "cells")


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_panic_is_not_printed_and_other_words_are(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, is_closed: bool
) -> None:
    """Polars prints a panic itself; where no temporary file can be made, nothing is held back."""
    if is_closed:

        def refuse() -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)

    def panic() -> None:
        with panics_unprinted():
            os.write(2, b"thread panicked at row_group.rs\n")
            message = "assertion failed"
            raise pl.exceptions.PanicException(message)

    with panics_unprinted():
        os.write(2, b"a warning\n")
    with pytest.raises(pl.exceptions.PanicException):
        panic()
    os.write(2, b"after\n")
    said = capfd.readouterr().err
    assert said.replace("thread panicked at row_group.rs\n", "" if is_closed else "?") == "a warning\nafter\n"


def test_rows_that_turn_out_damaged_are_a_sentence_and_no_panic(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever byte of a table is changed: it is read, or refused in one sentence, and polars prints nothing."""
    path = tmp_path / "fields.parquet"
    rows = [{"field_id": f"P/{n}", "patient_id": "P", "center": "A", "path": "x", "status": "ok"} for n in range(9)]
    write_table(path, conform(pl.DataFrame(rows), "fields"), "fields")
    whole = path.read_bytes()
    sentences = []
    for at in range(4, len(whole), 41):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            read_table(path, "fields")
        except RunError as error:
            sentences.append(str(error))
    assert sentences
    assert all(len(sentence.splitlines()) == 1 for sentence in sentences)
    assert capfd.readouterr().err == ""
