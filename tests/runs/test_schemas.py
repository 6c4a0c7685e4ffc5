"""The records of the tables: their types, what may be missing, and the door by which a patient enters."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from marrowscope.cells.field_measures import FIELD_MEASURES
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.errors import RunError
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import (
    CELLS,
    FIELDS,
    PATIENTS,
    ROWS,
    SCHEMA_VERSION,
    SCHEMAS,
    TableKind,
    patient_row,
    required_columns,
)

SCHEMA_3_RUN = Path(__file__).parent / "fixtures" / "schema_3_run"


def test_reasons_measures_and_morphology_have_their_columns() -> None:
    names = list(FIELDS)
    assert [name for name in names if name.startswith("n_rejected_")] == [f"n_rejected_{key}" for key in REJECT_REASONS]
    start = names.index("sharpness")
    assert names[start : start + len(FIELD_MEASURES)] == list(FIELD_MEASURES)
    assert list(CELLS)[-len(MORPHOLOGY_COLUMNS) :] == list(MORPHOLOGY_COLUMNS)


WITHOUT_UNIT = {"stain_distance", "design_effect", "me_ratio", "me_lower", "me_upper", "me_reference_low"}
WITHOUT_UNIT |= {"embedding_distance"}
WITHOUT_UNIT |= {"me_reference_high", "score"}  # score of a region; a cell's is a share


def test_every_measured_column_states_its_unit() -> None:
    silent = {
        name
        for record in ROWS.values()
        for name, shown in record.model_json_schema()["properties"].items()
        if "float" in str(record.model_fields[name].annotation)
        and not any(part.get("unit") for part in (shown, *shown.get("anyOf", ())))
    }
    assert silent == WITHOUT_UNIT


def test_types_of_the_columns_are_those_of_the_records() -> None:
    assert SCHEMA_VERSION == 4
    assert FIELDS["flags"] == pl.List(pl.String())
    assert CELLS["contour_xy"] == CELLS["p_category"] == pl.List(pl.Float64())
    assert (PATIENTS["n_cblc"], PATIENTS["call"]) == (pl.Int64(), pl.String())
    assert PATIENTS["rejected"] == pl.List(pl.Struct({"reason": pl.String(), "n": pl.Int64()}))


@pytest.mark.parametrize("kind", list(ROWS))
def test_every_column_says_what_it_holds(kind: TableKind) -> None:
    assert all(field.description for field in ROWS[kind].model_fields.values())


@pytest.mark.parametrize("kind", ["fields", "cells", "patients"])
def test_a_column_that_came_after_version_3_may_be_null(kind: TableKind) -> None:
    known = pl.read_parquet_schema(SCHEMA_3_RUN / f"{kind}.parquet")
    new = set(SCHEMAS[kind]) - set(known)
    assert not new & required_columns(ROWS[kind])


def test_a_patients_row_that_does_not_fit_is_refused_with_its_place() -> None:
    row = read_table(SCHEMA_3_RUN / "patients.parquet", "patients").row(0, named=True)
    assert patient_row(row).model_dump() == {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    }
    with pytest.raises(RunError, match=r"patient 'P0001', cblc_ratio: found 1\.5, .*run `marrowscope predict` again"):
        patient_row(row | {"cblc_ratio": 1.5})
