"""Tables: schema, round trip, refusals."""

from pathlib import Path

import polars as pl
import pytest

from marrowscope.errors import RunError
from marrowscope.runs.tables import SCHEMAS, TableKind, conform, empty_table, read_table, write_table


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
    with pytest.raises(RunError, match="found table fields of schema version 3, expected cells"):
        read_table(path, "cells")
    path.write_bytes(b"not parquet")
    with pytest.raises(RunError, match="not a readable Parquet table"):
        read_table(path, "cells")
