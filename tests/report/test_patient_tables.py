from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.errors import RunError
from marrowscope.report.patient_tables import PatientTables
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.runs.schemas import CELLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun


def test_a_patient_has_its_own_rows_in_their_order(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    tables = PatientTables(run.folder)
    cells = read_table(run.folder / "cells.parquet", "cells")
    for patient_id in ("P1", "P2"):
        own = cells.filter(pl.col("patient_id") == patient_id)
        assert [cell.cell_id for cell in tables.cells(patient_id)] == own["cell_id"].to_list()
        assert {field.patient_id for field in tables.fields(patient_id)} == {patient_id}
    assert [failure.field_id for failure in tables.failed] == ["P2/field_1"]


def test_rows_that_do_not_stand_together_are_all_found(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    path = run.folder / "cells.parquet"
    cells = read_table(path, "cells")
    mixed = pl.concat([cells.gather_every(2), cells.gather_every(2, 1)])
    write_table(path, mixed, "cells")
    tables = PatientTables(run.folder)
    own = cells.filter(pl.col("patient_id") == "P1")
    assert sorted(cell.cell_id for cell in tables.cells("P1")) == sorted(own["cell_id"])


def test_fields_that_do_not_stand_together_are_all_found(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    path = run.folder / "fields.parquet"
    fields = read_table(path, "fields")
    write_table(path, pl.concat([fields.gather_every(2), fields.gather_every(2, 1)]), "fields")
    tables = PatientTables(run.folder)
    for patient_id in ("P1", "P2"):
        own = fields.filter(pl.col("patient_id") == patient_id)["field_id"].to_list()
        assert [field.field_id for field in tables.fields(patient_id)] == own
    assert tables.cells("P1")


def test_a_patient_without_a_field_has_neither_fields_nor_cells(fake_run: Callable[..., FakeRun]) -> None:
    tables = PatientTables(fake_run().folder)
    assert tables.cells("nobody") == ()
    assert tables.fields("nobody") == ()


def test_tables_that_are_absent_broken_or_of_another_kind_are_refused(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    path = run.folder / "cells.parquet"
    path.write_bytes((run.folder / "fields.parquet").read_bytes())
    with pytest.raises(RunError, match="found table fields of schema version 4, expected cells"):
        PatientTables(run.folder)
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(RunError, match="not a readable Parquet table"):
        PatientTables(run.folder)
    path.unlink()
    with pytest.raises(RunError, match="run `marrowscope predict`"):
        PatientTables(run.folder)


@pytest.mark.parametrize("value", [1e300, -1e10])
def test_an_outline_beyond_every_image_is_refused_before_it_is_drawn(
    fake_run: Callable[..., FakeRun], value: float
) -> None:
    run = fake_run()
    path = run.folder / "cells.parquet"
    rows = read_table(path, "cells").to_dicts()
    rows[0]["contour_xy"][3] = value
    write_table(path, pl.DataFrame(rows, schema=CELLS), "cells")
    with pytest.raises(RunError, match=r"found an outline with coordinates that are no pixels.*predict` again"):
        PatientTables(run.folder).cells(rows[0]["patient_id"])
