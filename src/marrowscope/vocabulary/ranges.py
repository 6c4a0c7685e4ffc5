"""Reference ranges of adult marrow: one named column, with a mark for the origin of each value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary.toml_file import (
    DATA_DIR,
    read_document,
    refuse,
    require_keys,
    require_rows,
    require_text,
    require_texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_REFERENCE_RANGES = DATA_DIR / "reference_ranges.toml"
DEFAULT_COLUMN = "wintrobe"
_OTHER_COLUMNS = DATA_DIR / "reference_ranges"
_MARKS = frozenset({"S", "K", "I"})


@dataclass(frozen=True, slots=True)
class ReferenceRange:
    """One row of adult marrow ranges: percent of nucleated cells, or a ratio if ``denominator_codes`` is given.

    ``mark``: S found in a source, K general knowledge not verified, I inference; it is printed next to the value.
    """

    row: str
    name: str
    unit: str
    codes: tuple[str, ...]
    low: float
    high: float
    mark: str
    denominator_codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReferenceRanges:
    """The ranges of one named column, for one specimen and age group, with a sentence on the source."""

    column: str
    vocabulary: str
    specimen: str
    age_group: str
    source: str
    sha256: str
    ranges: Mapping[str, ReferenceRange] = field(default_factory=dict)


def reference_range_names() -> tuple[str, ...]:
    """Names of the columns that ship with the package, the default first."""
    return (DEFAULT_COLUMN, *sorted(path.stem for path in _OTHER_COLUMNS.glob("*.toml")))


def find_reference_ranges(name_or_path: str) -> ReferenceRanges:
    """Read the ranges of a column that ships with the package, or of a laboratory's own file.

    Raises VocabularyError for what is neither, and for a file that ``load_reference_ranges`` refuses.
    """
    if name_or_path == DEFAULT_COLUMN:
        return load_reference_ranges()
    if name_or_path in reference_range_names():
        return load_reference_ranges(_OTHER_COLUMNS / f"{name_or_path}.toml")
    path = Path(name_or_path)
    if not path.is_file():
        message = (
            f"{name_or_path}: not found, neither a column of reference ranges nor a file; expected a path or one of "
            f"{', '.join(reference_range_names())}"
        )
        raise VocabularyError(message)
    return load_reference_ranges(path)


def load_reference_ranges(path: Path | None = None) -> ReferenceRanges:
    """Read the reference ranges (None: the shipped file). Raises VocabularyError with the file and row."""
    path = path or DEFAULT_REFERENCE_RANGES
    document, sha256 = read_document(path)
    header = {"schema_version", "vocabulary", "column", "specimen", "age_group", "source"}
    require_keys(document, header | {"ranges"}, str(path))
    require_text(document, sorted(header - {"schema_version"}), str(path))
    ranges: dict[str, ReferenceRange] = {}
    for number, row in enumerate(require_rows(document, "ranges", str(path))):
        where = f"{path}, ranges[{number}]"
        required = {"row", "name", "unit", "codes", "low", "high", "mark"}
        require_keys(row, required, where, optional={"denominator_codes"})
        require_text(row, ("row", "name", "unit", "mark"), where)
        require_texts(row, [key for key in ("codes", "denominator_codes") if key in row], where)
        for key in ("low", "high"):
            if isinstance(row[key], bool) or not isinstance(row[key], int | float):
                refuse(where, f"{key} = {row[key]!r}", "a number")
        if row["mark"] not in _MARKS:
            refuse(where, f"mark {row['mark']!r}", f"one of {', '.join(sorted(_MARKS))}")
        if not 0 <= row["low"] <= row["high"]:
            refuse(where, f"low {row['low']} and high {row['high']}", "0 <= low <= high")
        if (row["unit"] == "ratio") != ("denominator_codes" in row):
            refuse(where, f"unit {row['unit']!r}", "denominator_codes with the unit ratio, and only there")
        ranges[row["row"]] = ReferenceRange(
            row=row["row"],
            name=row["name"],
            unit=row["unit"],
            codes=tuple(row["codes"]),
            low=float(row["low"]),
            high=float(row["high"]),
            mark=row["mark"],
            denominator_codes=tuple(row.get("denominator_codes", ())),
        )
    return ReferenceRanges(
        column=document["column"],
        vocabulary=document["vocabulary"],
        specimen=document["specimen"],
        age_group=document["age_group"],
        source=document["source"],
        sha256=sha256,
        ranges=MappingProxyType(ranges),
    )
