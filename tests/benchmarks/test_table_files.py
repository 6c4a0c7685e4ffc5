"""The files that are made from the tables' records are the ones that stand here."""

from __future__ import annotations

import re

from benchmarks.table_files import NESTED, PAGE, columns_table, page_text
from marrowscope.runs.schemas import ROWS, FieldRow


def test_docs_hold_the_columns_of_the_records() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_text(text), "run: python benchmarks/table_files.py"
    assert set(re.findall(r"begin: columns of (\w+)", text)) == {*ROWS, *NESTED}


def test_a_column_is_told_with_type_unit_and_meaning() -> None:
    table = columns_table(FieldRow)
    assert "| `um_per_px` | float or null | um/px | scale; null if unknown |" in table
    assert "| `flags` | list of text or null |  | quality flags that this field raised |" in table
