"""The tables, in one place: column names with units, types, schema version.

``fields`` has a row per image (failed ones included), ``cells`` a row per predicted contour (rejected ones
included, with the reason), ``patients`` a row per patient. Parquet; the schema version and the vocabulary stand
in the file's metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import polars as pl

from marrowscope.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
REJECT_REASONS = ("too_small", "too_large", "not_round", "edge")
MORPHOLOGY_COLUMNS: dict[str, str] = {
    "perimeter_um": "length of the contour",
    "solidity": "area over the area of the convex hull (0-1)",
    "elongation": "1 - minor axis / major axis of the ellipse of equal second moments (0-1)",
    "nucleus_area_um2": "area of the nucleus; null where no nucleus stands out or the cell leaves its crop",
    "nucleus_area_ratio": "nucleus area over cell area (0-1)",
    "nucleus_circularity": "4 pi area / perimeter squared of the nucleus, all parts together (0-1)",
    "nucleus_elongation": "1 - minor axis / major axis of the nucleus, all parts together (0-1)",
    "nucleus_solidity": "area of the nucleus over its convex hull (0-1): low in band and lobed nuclei",
    "nucleus_width_um": "diameter of the largest disc inside the nucleus: small in band and lobed nuclei",
    "nucleus_od": "mean optical density of the nucleus, mean over R, G, B",
    "cytoplasm_od": "mean optical density of the cytoplasm, mean over R, G, B",
    "cytoplasm_basophilia": "red minus blue optical density of the cytoplasm: high in blue, low in pink cytoplasm",
    "cytoplasm_eosinophilia": "green minus red optical density of the cytoplasm: high in pink and orange cytoplasm",
    "granularity": "mean absolute deviation of the cytoplasm's optical density from its blur: granules",
    "chromatin_texture": "mean absolute deviation of the nucleus' optical density from its blur: clumps",
}

FIELDS: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "center": pl.String(),
    "path": pl.String(),
    "sha256": pl.String(),
    "width_px": pl.Int64(),
    "height_px": pl.Int64(),
    "um_per_px": pl.Float64(),
    "status": pl.String(),
    "error": pl.String(),
    "n_contours": pl.Int64(),
    **{f"n_rejected_{reason}": pl.Int64() for reason in REJECT_REASONS},
    "n_split": pl.Int64(),
    "n_cells": pl.Int64(),
}
CELLS: dict[str, pl.DataType] = {
    "cell_id": pl.String(),
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "contour_xy": pl.List(pl.Float64()),
    "score": pl.Float64(),
    "area_um2": pl.Float64(),
    "circularity": pl.Float64(),
    "reject_reason": pl.String(),
    "expert_code": pl.String(),
    "match_iou": pl.Float64(),
    "p_cblc": pl.Float64(),
    "p_countable": pl.Float64(),
    "p_category": pl.List(pl.Float64()),
    "category": pl.String(),
    "is_cblc": pl.Boolean(),
    "is_countable": pl.Boolean(),
    "contradiction": pl.Boolean(),
    "member_spread": pl.Float64(),
    **{name: pl.Float64() for name in MORPHOLOGY_COLUMNS},
}
PATIENTS: dict[str, pl.DataType] = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "specimen": pl.String(),
    "n_fields": pl.Int64(),
    "n_fields_failed": pl.Int64(),
    "n_contours": pl.Int64(),
    "n_rejected": pl.Int64(),
    "rejected": pl.List(pl.Struct({"reason": pl.String(), "n": pl.Int64()})),
    "n_cells": pl.Int64(),
    "n_countable": pl.Int64(),
    "n_not_countable": pl.Int64(),
    "n_cblc": pl.Int64(),
    "cblc_ratio": pl.Float64(),
    "cblc_ratio_lower": pl.Float64(),
    "cblc_ratio_upper": pl.Float64(),
    "n_contradictions": pl.Int64(),
    # One row per category, Other last; n_countable and share leave out what stands outside of the count.
    "differential": pl.List(
        pl.Struct(
            {
                "category": pl.String(),
                "lineage": pl.String(),
                "n": pl.Int64(),
                "n_countable": pl.Int64(),
                "share": pl.Float64(),
            }
        )
    ),
}
TableKind = Literal["fields", "cells", "patients"]
SCHEMAS: dict[TableKind, dict[str, pl.DataType]] = {"fields": FIELDS, "cells": CELLS, "patients": PATIENTS}


def empty_table(kind: TableKind) -> pl.DataFrame:
    """Give a table of ``kind`` with no row and every column."""
    return pl.DataFrame(schema=SCHEMAS[kind])


def conform(frame: pl.DataFrame, kind: TableKind) -> pl.DataFrame:
    """Order and cast the columns of ``frame`` to the schema of ``kind``; absent columns become null.

    Extra columns are refused with RunError: a column without a definition is a mistake.
    """
    schema = SCHEMAS[kind]
    unknown = [name for name in frame.columns if name not in schema]
    if unknown:
        message = (
            f"table {kind}: found undefined columns {unknown}, expected only {list(schema)}; define them in tables.py"
        )
        raise RunError(message)
    if not frame.columns:
        return empty_table(kind)  # a select of literals alone would invent one row of nulls
    columns = [
        (pl.col(name) if name in frame.columns else pl.lit(None).alias(name)).cast(dtype)
        for name, dtype in schema.items()
    ]
    return frame.select(columns)


def write_table(path: Path, frame: pl.DataFrame, kind: TableKind) -> None:
    """Write ``frame`` as Parquet, atomically, with the schema version in the metadata."""
    temporary = path.with_suffix(path.suffix + ".part")
    conform(frame, kind).write_parquet(
        temporary, metadata={"marrowscope.table": kind, "marrowscope.schema_version": str(SCHEMA_VERSION)}
    )
    temporary.replace(path)


def read_table(path: Path, kind: TableKind) -> pl.DataFrame:
    """Read a table of ``kind``; RunError when the file is absent, of another kind or of another schema version."""
    if not path.is_file():
        message = f"{path}: not found, expected the table {kind} of a finished run; run `marrowscope predict` first"
        raise RunError(message)
    try:
        metadata = pl.read_parquet_metadata(path)
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        message = f"{path}: not a readable Parquet table ({error}); run `marrowscope predict` again"
        raise RunError(message) from error
    found = (metadata.get("marrowscope.table"), metadata.get("marrowscope.schema_version"))
    if found != (kind, str(SCHEMA_VERSION)):
        message = (
            f"{path}: found table {found[0]} of schema version {found[1]}, expected {kind} of version {SCHEMA_VERSION}"
        )
        raise RunError(message)
    return frame
