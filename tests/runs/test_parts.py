"""Parts of an unfinished run: whole or not there, gone on with only by the same call."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marrowscope.errors import RunError
from marrowscope.runs.parquet import read_table
from marrowscope.runs.parts import RunParts

SAME = {"bundle": "b1", "images": [["P1/a", "a.png", 0.15]]}


def rows(first: int, n: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    fields = [{"field_id": f"P1/{first + k}", "patient_id": "P1", "n_contours": 1} for k in range(n)]
    cells = [{"cell_id": f"c{first + k}", "field_id": f"P1/{first + k}", "contour_xy": [1.0, 2.0]} for k in range(n)]
    return fields, cells


def test_parts_are_read_back_and_joined_in_order(tmp_path: Path) -> None:
    parts = RunParts(tmp_path / "run.part", SAME)
    for index in range(3):
        parts.write(*rows(2 * index, 2))
    assert [cells["cell_id"].to_list() for _, cells in parts.read()] == [["c0", "c1"], ["c2", "c3"], ["c4", "c5"]]
    parts.join(tmp_path)
    assert read_table(tmp_path / "cells.parquet", "cells")["cell_id"].to_list() == [f"c{k}" for k in range(6)]
    assert read_table(tmp_path / "fields.parquet", "fields").height == 6


@pytest.mark.parametrize("kind", ["fields", "cells"])
def test_the_same_call_goes_on_after_the_last_whole_part(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run.part"
    parts = RunParts(folder, SAME)
    parts.write(*rows(0, 2))
    parts.write(*rows(2, 2))
    (folder / "parts" / f"00001.{kind}").unlink()  # killed between the two tables of a part
    again = RunParts(folder, SAME)
    assert (again.n_whole, list(again.n_cells_by_field())) == (1, ["P1/0", "P1/1"])
    again.write(*rows(10, 1))
    assert [fields["field_id"].to_list() for fields, _ in again.read()] == [["P1/0", "P1/1"], ["P1/10"]]


@pytest.mark.parametrize("other", [{**SAME, "bundle": "b2"}, {**SAME, "images": []}])
def test_another_call_begins_anew(tmp_path: Path, other: dict[str, Any]) -> None:
    RunParts(tmp_path / "run.part", SAME).write(*rows(0, 2))
    assert RunParts(tmp_path / "run.part", other).n_whole == 0


def test_a_run_without_an_image_has_empty_tables(tmp_path: Path) -> None:
    parts = RunParts(tmp_path / "run.part", SAME)
    parts.write([], [])
    parts.join(tmp_path)
    assert read_table(tmp_path / "cells.parquet", "cells").is_empty()


def test_a_part_that_cannot_be_read_is_not_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run.part"
    RunParts(folder, SAME).write(*rows(0, 2))
    table = folder / "parts" / "00000.cells"
    table.write_bytes(table.read_bytes()[:-20])
    assert RunParts(folder, SAME).n_whole == 0


def test_a_folder_of_the_same_name_that_is_something_else_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run.part"
    folder.mkdir()
    (folder / "thesis.docx").touch()
    with pytest.raises(RunError, match="found files other than an unfinished marrowscope run"):
        RunParts(folder, SAME)
    assert (folder / "thesis.docx").exists()


def test_a_journal_of_somebody_is_no_unfinished_run(tmp_path: Path) -> None:
    folder = tmp_path / "run.part"
    folder.mkdir()
    (folder / "journal.json").write_text('{"monday": "dear diary"}', encoding="utf-8")
    with pytest.raises(RunError, match=r"other than an unfinished marrowscope run.*It contains journal\.json"):
        RunParts(folder, SAME)
    assert (folder / "journal.json").is_file()


def test_names_with_brackets_are_names(tmp_path: Path) -> None:
    parts = RunParts(tmp_path / "run [1].part", SAME)
    parts.write(*rows(0, 2))
    parts.join(tmp_path)
    assert [fields.height for fields, _ in parts.read()] == [2]


@pytest.mark.parametrize(
    "prints", ["", "{", "[]", '{"P1/2": 3}', '{"P1/2": "xyz"}', "\ufeff{}", "[" * 5000 + "]" * 5000]
)
def test_a_part_with_damaged_fingerprints_is_predicted_again(tmp_path: Path, prints: str) -> None:
    folder, known = tmp_path / "run.part", {"P1/0": "0123456789abcdef" * 4}
    parts = RunParts(folder, SAME)
    parts.write(*rows(0, 2), known)
    parts.write(*rows(2, 2))
    (folder / "parts" / "00001.prints").write_text(prints, encoding="utf-8")
    again = RunParts(folder, SAME)
    assert (again.n_whole, again.read_fingerprints()) == (1, known)


def test_a_part_whose_rows_are_damaged_or_of_other_columns_is_predicted_again(tmp_path: Path) -> None:
    folder = tmp_path / "run.part"
    RunParts(folder, SAME).write(*rows(0, 2))
    table = folder / "parts" / "00000.cells"
    whole = table.read_bytes()
    table.write_bytes(whole[:4] + bytes(200) + whole[204:])  # the rows; the end, which says what they are, is whole
    assert RunParts(folder, SAME).n_whole == 0
    cells = pl.read_parquet(whole)
    metadata = {key: text for key, text in pl.read_parquet_metadata(whole).items() if key.startswith("marrowscope")}
    cells.with_columns(more=1).write_parquet(table, metadata=metadata)
    assert RunParts(folder, SAME).n_whole == 0
