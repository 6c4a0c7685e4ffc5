"""The files of a run's tables: the only writer of cells.parquet and the rest, and the reader, also of older runs.

The file's metadata has the version and the kind of the table. Tables of older versions are read with the current
schema: removed columns are left out, new columns are null, and ``absent_columns`` lists them. Tables newer than this
version, or older than version 3, are refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.disk import written_whole
from marrowscope.errors import RunError
from marrowscope.runs.panics import panics_unprinted
from marrowscope.runs.schemas import ROWS, SCHEMA_VERSION, SCHEMAS, required_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from marrowscope.errors import MarrowscopeError
    from marrowscope.runs.schemas import TableKind

_OLDEST_VERSION = 3
"""The oldest version that can be read; columns that changed since then are null or left out."""

UNREADABLE_TABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises for a file that is damaged; a panic is none of Python's exceptions and would end the command."""

_AGAIN = "run `marrowscope predict` again"

_LONGEST_REASON = 300
_ROW_GROUP = 2048
"""Rows per group: few, so that one patient's cells can be read without those of a thousand others."""


def empty_table(kind: TableKind) -> pl.DataFrame:
    """Return a table of ``kind`` with every column and no rows."""
    return pl.DataFrame(schema=SCHEMAS[kind])


def conform(frame: pl.DataFrame, kind: TableKind) -> pl.DataFrame:
    """Order and cast the columns of ``frame`` to the schema of ``kind``; absent columns become null.

    Raises RunError for extra columns: a column without a definition is a mistake.
    """
    schema = SCHEMAS[kind]
    unknown = [name for name in frame.columns if name not in schema]
    if unknown:
        message = (
            f"table {kind}: found undefined columns {unknown}, expected only {list(schema)}; define them in tables.py"
        )
        raise RunError(message)
    if not frame.columns:
        return empty_table(kind)  # selecting only literals would add one row of nulls
    columns = [
        (pl.col(name) if name in frame.columns else pl.lit(None).alias(name)).cast(dtype)
        for name, dtype in schema.items()
    ]
    return frame.select(columns)


def write_table(path: Path, frame: pl.DataFrame, kind: TableKind) -> None:
    """Write ``frame`` as Parquet, whole or not at all, with the schema version in the metadata."""
    with written_whole(path) as temporary:
        conform(frame, kind).write_parquet(temporary, row_group_size=_ROW_GROUP, metadata=_metadata(kind))


def sink_table(path: Path, parts: Sequence[Path], kind: TableKind) -> None:
    """Write the tables ``parts`` of one kind, one after another, as one table; they are never all in memory."""
    if not parts:
        write_table(path, empty_table(kind), kind)
        return
    with written_whole(path) as temporary:
        pl.scan_parquet(list(parts), glob=False).sink_parquet(
            temporary, row_group_size=_ROW_GROUP, metadata=_metadata(kind)
        )


def is_whole(path: Path, kind: TableKind) -> bool:
    """Whether a table of the current version is complete, judged from its end, which is written last."""
    try:
        with panics_unprinted():
            metadata = pl.read_parquet_metadata(path) if path.is_file() else {}
            columns = list(pl.read_parquet_schema(path).items()) if metadata else []
    except UNREADABLE_TABLE:
        return False
    return metadata.get("marrowscope.schema_version") == str(SCHEMA_VERSION) and columns == [*SCHEMAS[kind].items()]


def read_table(path: Path, kind: TableKind) -> pl.DataFrame:
    """Read a table of ``kind`` with the current schema.

    Raises RunError if the file is missing, of another kind, of an unsupported version, without a column that every
    version has, or with one of another type.
    """
    return collected(scan_table(path, kind), path)


def collected(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Read the rows of a table of a run that ``scan_table`` opened at ``path``; RunError where they are damaged."""
    with readable(path, RunError, _AGAIN):
        return rows.collect()


@contextmanager
def readable(
    path: Path, error: type[MarrowscopeError], advice: str, found: str = "not a readable Parquet table"
) -> Iterator[None]:
    """Raise ``error``, a sentence of ``found`` and ``advice``, for whatever polars raises over a damaged file."""
    try:
        with panics_unprinted():
            yield
    except UNREADABLE_TABLE as cause:
        reason = " ".join(str(cause).split())[:_LONGEST_REASON]
        message = f"{path}: {found} ({reason}); {advice}"
        raise error(message) from cause


def read_columns(
    path: Path,
    columns: Mapping[str, pl.DataType],
    needed: Collection[str],
    *,
    nullable: Collection[str] = (),
    error: type[MarrowscopeError],
    advice: str,
) -> pl.DataFrame:
    """Read a Parquet table that is none of a run; columns that ``columns`` does not name stay as they are.

    Raises ``error``, in a sentence that ends with ``advice``, when the file cannot be read, has not all of ``needed``,
    has a column of another type than in ``columns``, or a null in one of ``needed`` that is not ``nullable``.
    """
    with readable(path, error, advice):
        table = pl.read_parquet(path, glob=False)
    found = dict(table.schema)
    wrong = [f"no {name}" for name in needed if name not in found]
    wrong += [
        f"{name} as {found[name]} instead of {dtype}"
        for name, dtype in columns.items()
        if name in found and not isinstance(found[name], pl.Null) and not _fits(dtype, found[name])
    ]
    full = [name for name in needed if name in found and name not in nullable]
    wrong += [f"rows without {name}" for name in full if table[name].null_count()]
    if wrong:
        message = f"{path}: found {', '.join(wrong)}; {advice}"
        raise error(message)
    return table


def scan_table(path: Path, kind: TableKind) -> pl.LazyFrame:
    """Open a table like ``read_table``, with the same errors, but without reading its rows."""
    found = _columns(path, kind)
    table = pl.scan_parquet(path, glob=False)
    columns = [_fitted(name, dtype, found.get(name)) for name, dtype in SCHEMAS[kind].items()]
    return table if dict(found) == SCHEMAS[kind] else table.select(columns)


def absent_columns(path: Path, kind: TableKind) -> tuple[str, ...]:
    """List the columns newer than the table, which are read as null; raises as ``read_table`` does."""
    found = _columns(path, kind)
    return tuple(
        missing
        for name, dtype in SCHEMAS[kind].items()
        for missing in ([name] if name not in found else [f"{name}.{part}" for part in _new_parts(dtype, found[name])])
    )


def _columns(path: Path, kind: TableKind) -> dict[str, pl.DataType]:
    """Return the columns of the file at ``path`` with their types, after checking its kind and version."""
    if not path.is_file():
        message = f"{path}: not found, expected the table {kind} of a finished run; run `marrowscope predict` first"
        raise RunError(message)
    with readable(path, RunError, _AGAIN):
        metadata = pl.read_parquet_metadata(path)
        found = dict(pl.scan_parquet(path, glob=False).collect_schema())
    table, version = metadata.get("marrowscope.table"), metadata.get("marrowscope.schema_version", "")
    if table != kind or not version.isdecimal() or not _OLDEST_VERSION <= int(version) <= SCHEMA_VERSION:
        message = (
            f"{path}: found table {table} of schema version {version or None}, expected {kind} of version "
            f"{_OLDEST_VERSION} to {SCHEMA_VERSION}; run `marrowscope predict` again, or read it with the version of "
            "marrowscope that wrote it"
        )
        raise RunError(message)
    if lacking := sorted(required_columns(ROWS[kind]) - set(found)):
        message = f"{path}: found no {', '.join(lacking)}, expected in every run; run `marrowscope predict` again"
        raise RunError(message)
    for name, dtype in SCHEMAS[kind].items():
        is_empty = isinstance(found.get(name), pl.Null) and name not in required_columns(ROWS[kind])
        if name in found and not is_empty and not _fits(dtype, found[name]):
            message = f"{path}: found {name} as {found[name]}, expected {dtype}; run `marrowscope predict` again"
            raise RunError(message)
    return found


def _fits(wanted: pl.DataType, found: pl.DataType) -> bool:
    """Say whether a column can be read as the schema has it, as numbers of another width can."""
    if isinstance(wanted, pl.List) and isinstance(found, pl.List | pl.Array):
        return _fits(wanted.inner, found.inner)  # type: ignore[arg-type]
    if isinstance(wanted, pl.Struct) and isinstance(found, pl.Struct):
        parts = {field.name: field.dtype for field in found.fields}
        return all(_fits(field.dtype, parts[field.name]) for field in wanted.fields if field.name in parts)  # type: ignore[arg-type]
    return found == wanted or (found.is_integer() if wanted.is_integer() else wanted.is_float() and found.is_numeric())


def _fitted(name: str, dtype: pl.DataType, found: pl.DataType | None) -> pl.Expr:
    """Return the column with the schema's type; null where the file lacks it or parts of its rows."""
    if found is None or isinstance(found, pl.Null):
        return pl.lit(None, dtype=dtype).alias(name)
    if not _new_parts(dtype, found) or not isinstance(dtype, pl.List):
        return pl.col(name).cast(dtype)
    old, new = _parts(found), _parts(dtype)
    parts = [
        pl.element().struct.field(part).cast(kind) if part in old else pl.lit(None, dtype=kind).alias(part)
        for part, kind in new.items()
    ]
    return pl.col(name).list.eval(pl.struct(parts)).cast(dtype)


def _new_parts(dtype: pl.DataType, found: pl.DataType) -> list[str]:
    """Return the parts of a nested column that the file lacks."""
    return [part for part in _parts(dtype) if part not in _parts(found)]


def _parts(dtype: pl.DataType) -> dict[str, pl.DataType]:
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    return {field.name: field.dtype for field in inner.fields} if isinstance(inner, pl.Struct) else {}  # type: ignore[misc]


def _metadata(kind: TableKind) -> dict[str, str]:
    return {"marrowscope.table": kind, "marrowscope.schema_version": str(SCHEMA_VERSION)}
