"""The tables, in one place: column names with units, types, schema version.

``fields`` has a row per image or region of a slide (failed ones included), ``cells`` a row per predicted contour
(rejected ones included, with the reason), ``patients`` a row per patient. A run with slides also has ``regions``, a row
per region of their plans. Parquet; the schema version and the vocabulary stand in the file's metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import polars as pl

from marrowscope.cells.field_measures import FIELD_MEASURES
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.disk import written_whole
from marrowscope.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA_VERSION = 3
FIELDS: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "center": pl.String(),
    "path": pl.String(),
    "sha256": pl.String(),
    "width_px": pl.Int64(),
    "height_px": pl.Int64(),
    "region_x_px": pl.Int64(),  # where the image lies in its slide, left and top; null for a photograph
    "region_y_px": pl.Int64(),
    "um_per_px": pl.Float64(),
    "status": pl.String(),
    "error": pl.String(),
    "n_contours": pl.Int64(),
    **{f"n_rejected_{reason}": pl.Int64() for reason in REJECT_REASONS},
    "n_split": pl.Int64(),
    "n_cells": pl.Int64(),
    **{name: pl.Float64() for name in FIELD_MEASURES},
    "flags": pl.List(pl.String()),  # names of the quality flags this field raised
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
_SHARE: dict[str, pl.DataType] = {
    "n": pl.Int64(),
    "share": pl.Float64(),
    "lower": pl.Float64(),
    "upper": pl.Float64(),
    "reference_low": pl.Float64(),
    "reference_high": pl.Float64(),
    "reference_mark": pl.String(),
}
"""A share of the nucleated cells (0-1) with its interval and, for adult marrow, its reference range (0-1)."""

PATIENTS: dict[str, pl.DataType] = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "specimen": pl.String(),
    "age_group": pl.String(),
    # What was seen, and what of it counts.
    "n_fields": pl.Int64(),
    "n_fields_failed": pl.Int64(),
    "n_fields_counted": pl.Int64(),  # fields with a countable cell: the K of the interval
    "n_contours": pl.Int64(),
    "n_rejected": pl.Int64(),
    "rejected": pl.List(pl.Struct({"reason": pl.String(), "n": pl.Int64()})),
    "n_cells": pl.Int64(),
    "n_countable": pl.Int64(),
    "n_not_countable": pl.Int64(),
    "n_cblc": pl.Int64(),
    "n_contradictions": pl.Int64(),
    # The ratio as counted, with Wilson's interval; and with every cell that is not countable in the denominator.
    "cblc_ratio": pl.Float64(),
    "cblc_ratio_lower": pl.Float64(),
    "cblc_ratio_upper": pl.Float64(),
    "ratio_all_unclassified_not_cblc": pl.Float64(),
    "ratio_all_unclassified_cblc": pl.Float64(),
    # The ratio corrected for classifier and detection error; null where the bundle has no error rates.
    "corrected_ratio": pl.Float64(),
    "corrected_lower": pl.Float64(),
    "corrected_upper": pl.Float64(),
    "correction": pl.String(),  # name of the method
    "correction_note": pl.String(),  # one of CORRECTION_NOTES, null where there is nothing to say
    "design_effect": pl.Float64(),
    # The study threshold and the call; null where the bundle has none.
    "threshold": pl.Float64(),
    "threshold_lower": pl.Float64(),
    "threshold_upper": pl.Float64(),
    "confidence_above": pl.Float64(),  # share of the drawn ratios above the threshold
    "call": pl.String(),  # one of CALLS
    "call_reason": pl.String(),  # one of CALL_REASONS, null for above and below
    "call_depends_on_threshold": pl.Boolean(),  # the call changes within the threshold's interval
    # The differential of nucleated cells.
    "n_nucleated": pl.Int64(),
    "adequacy": pl.String(),  # one of ADEQUACY; null unless adult marrow
    # One row per category, Other last. n counts all its cells, n_countable those in the ratio's denominator, share
    # is over those; n_nucleated and share_nucleated with the interval belong to the differential.
    "differential": pl.List(
        pl.Struct(
            {
                "category": pl.String(),
                "lineage": pl.String(),
                "n": pl.Int64(),
                "n_countable": pl.Int64(),
                "share": pl.Float64(),
                "n_nucleated": pl.Int64(),
                "share_nucleated": pl.Float64(),
                "lower": pl.Float64(),
                "upper": pl.Float64(),
                "reference_low": pl.Float64(),
                "reference_high": pl.Float64(),
                "reference_mark": pl.String(),
            }
        )
    ),
    "lineages": pl.List(pl.Struct({"lineage": pl.String(), **_SHARE})),
    "reference_source": pl.String(),  # null where no range is printed: not adult marrow
    # M:E = (granulocytic + monocytic) / erythroid; null unless adult marrow, or without an erythroid cell.
    "me_numerator": pl.Int64(),
    "me_denominator": pl.Int64(),
    "me_ratio": pl.Float64(),
    "me_lower": pl.Float64(),
    "me_upper": pl.Float64(),
    "me_reference_low": pl.Float64(),
    "me_reference_high": pl.Float64(),
    # Myeloid blast estimate after the WHO's definition, a range: from cells called as its codes to those that may be
    # of them. The limits are of the sampling alone.
    "who_declared": pl.String(),  # apl, pure_erythroid_leukaemia, or null
    "who_n_least": pl.Int64(),
    "who_n_most": pl.Int64(),
    "who_least": pl.Float64(),
    "who_most": pl.Float64(),
    "who_lower": pl.Float64(),
    "who_upper": pl.Float64(),
    "lymphoid_share": pl.Float64(),
    # Quality flags: measured value, the limit it broke, and how many fields raised it (null for a patient's own flag).
    "flags": pl.List(
        pl.Struct({"flag": pl.String(), "value": pl.Float64(), "limit": pl.Float64(), "n_fields": pl.Int64()})
    ),
}
REGIONS: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "path": pl.String(),
    "sha256": pl.String(),
    "um_per_px": pl.Float64(),
    # What is read of it, in pixels of the slide, and the core (half-open) whose cells it gives.
    "region_x_px": pl.Int64(),
    "region_y_px": pl.Int64(),
    "width_px": pl.Int64(),
    "height_px": pl.Int64(),
    "core_x0_px": pl.Int64(),
    "core_y0_px": pl.Int64(),
    "core_x1_px": pl.Int64(),
    "core_y1_px": pl.Int64(),
    "place": pl.Int64(),  # in the order of reading, from 1; null where it is skipped
    # Shares of the core's area (0-1) and what came of them; null where all regions are read and none is measured.
    "score": pl.Float64(),
    "clear_share": pl.Float64(),
    "nuclei_share": pl.Float64(),
    "solid_share": pl.Float64(),
    "sharpness": pl.Float64(),  # 1/um; null where it was not looked at, or without edges
    "reason_skipped": pl.String(),  # see SkipReason of slides/choose.py; or enough_cells; null where it was read
}
CALLS = ("above", "below", "indeterminate", "no_call", "withheld")
CALL_REASONS = ("few_cells", "few_fields", "lymphoid", "rates_too_close", "no_countable_cell")
CORRECTION_NOTES = ("none_called", "within_false_positive_rate", "rates_too_close")
ADEQUACY = ("under_300", "300_to_499", "500_or_more")
_ROW_GROUP = 2048
"""Rows read at once: small, so that one patient's cells are read without those of a thousand others."""

TableKind = Literal["fields", "cells", "patients", "regions"]
SCHEMAS: dict[TableKind, dict[str, pl.DataType]] = {
    "fields": FIELDS,
    "cells": CELLS,
    "patients": PATIENTS,
    "regions": REGIONS,
}


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
    with written_whole(path) as temporary:
        conform(frame, kind).write_parquet(temporary, row_group_size=_ROW_GROUP, metadata=_metadata(kind))


def sink_table(path: Path, parts: Sequence[Path], kind: TableKind) -> None:
    """Write the tables ``parts`` of one kind, one after the other, as one table; they are never all in memory."""
    if not parts:
        write_table(path, empty_table(kind), kind)
        return
    with written_whole(path) as temporary:
        pl.scan_parquet(list(parts), glob=False).sink_parquet(
            temporary, row_group_size=_ROW_GROUP, metadata=_metadata(kind)
        )


def is_whole(path: Path) -> bool:
    """Say whether a table can be read, from its end, which is written last."""
    try:
        return path.is_file() and bool(pl.read_parquet_metadata(path))
    except (pl.exceptions.PolarsError, OSError):
        return False


def _metadata(kind: TableKind) -> dict[str, str]:
    return {"marrowscope.table": kind, "marrowscope.schema_version": str(SCHEMA_VERSION)}


def read_table(path: Path, kind: TableKind) -> pl.DataFrame:
    """Read a table of ``kind``; RunError when the file is absent, of another kind or of another schema version."""
    if not path.is_file():
        message = f"{path}: not found, expected the table {kind} of a finished run; run `marrowscope predict` first"
        raise RunError(message)
    try:
        metadata = pl.read_parquet_metadata(path)
        frame = pl.read_parquet(path, glob=False)
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
