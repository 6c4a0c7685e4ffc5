"""Write the files generated from the table records: the JSON Schema of run.json, and the columns in docs/tables.md.

    python benchmarks/table_files.py

Run it after a change of ``marrowscope/runs/schemas.py``; a test compares both files with the records.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import polars as pl

from marrowscope.disk import write_text
from marrowscope.report.run_json import SCHEMA_PATH, schema_text
from marrowscope.runs.schemas import (
    ROWS,
    CategoryShare,
    CblcCount,
    LineageShare,
    RaisedFlag,
    Rejected,
    Row,
    polars_schema,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tables.md"
NESTED: dict[str, type[Row]] = {
    "rejected": Rejected,
    "differential": CategoryShare,
    "cblc_by_category": CblcCount,
    "lineages": LineageShare,
    "flags": RaisedFlag,
}
_PART = re.compile(r"(<!-- begin: columns of (\w+) -->\n).*?(<!-- end: columns of \2 -->)", re.DOTALL)


def columns_table(row: type[Row]) -> str:
    """Format the columns of a record as a Markdown table: name, type, unit, meaning."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for (name, field), dtype in zip(row.model_fields.items(), polars_schema(row).values(), strict=True):
        null = "" if type(None) not in get_args(field.annotation) else " or null"
        lines.append(f"| `{name}` | {_type_name(dtype)}{null} | {_unit(row, name)} | {field.description} |")
    return "\n".join(lines) + "\n"


def page_text(text: str) -> str:
    """Return the page with the columns between its markers regenerated."""
    records: dict[str, type[Row]] = {str(kind): row for kind, row in ROWS.items()} | NESTED
    made: Callable[[re.Match[str]], str] = lambda part: f"{part[1]}\n{columns_table(records[part[2]])}\n{part[3]}"  # noqa: E731
    return _PART.sub(made, text)


def _unit(row: type[Row], name: str) -> str:
    shown = row.model_json_schema()["properties"][name]
    found = [part.get("unit") for part in (shown, *shown.get("anyOf", ())) if part.get("unit")]
    return found[0] if found else ""


def _type_name(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return "rows" if isinstance(dtype.inner, pl.Struct) else f"list of {_type_name(dtype.inner)}"  # type: ignore[arg-type]
    return {"String": "text", "Int64": "int", "Float64": "float", "Boolean": "bool"}[str(dtype)]


if __name__ == "__main__":
    write_text(SCHEMA_PATH, schema_text())
    write_text(PAGE, page_text(PAGE.read_text(encoding="utf-8")))
