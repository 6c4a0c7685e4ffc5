"""The columns of the linked tables: what ``link`` writes and the figures read."""

from __future__ import annotations

import polars as pl

EXPERT_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "field_id": pl.String(),
    "shape_index": pl.Int64(),
    "code": pl.String(),
    "category": pl.Int64(),
    "cblc": pl.Boolean(),
    "countable": pl.Boolean(),
    "normal_blast": pl.Boolean(),
    "cut": pl.Boolean(),
    "exhaustive": pl.Boolean(),
    "found_before_rules": pl.Boolean(),
    "found": pl.Boolean(),
    "cell_id": pl.String(),
    "iou": pl.Float64(),
    "predicted_category": pl.Int64(),
    "predicted_cblc": pl.Int64(),
    "p_cblc": pl.Float64(),
    "p_called": pl.Float64(),
}
"""One row per expert cell. ``normal_blast``: a blast of the WHO count that is no CBLC (N0, M0). ``p_called`` is the
probability of the category that was called; it and the other predicted columns are null where the cell was missed."""

DETECTION_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "field_id": pl.String(),
    "cell_id": pl.String(),
    "matched": pl.Boolean(),
    "ignored": pl.Boolean(),
    "exhaustive": pl.Boolean(),
    "is_cblc": pl.Boolean(),
    "is_countable": pl.Boolean(),
    "score": pl.Float64(),
    "outcomes": pl.List(pl.Int8()),
}
"""One row per kept detection. ``outcomes`` (one for each of ``ranking.IOU_LEVELS``): 1 found an expert cell, 0 found
nothing, -1 counts neither way."""

RATIO_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "n_true_countable": pl.Int64(),
    "n_true_cblc": pl.Int64(),
    "n_true_normal_blasts": pl.Int64(),
    "true_ratio": pl.Float64(),
    "true_ratio_with_normal": pl.Float64(),
    "n_predicted_countable": pl.Int64(),
    "n_predicted_cblc": pl.Int64(),
    "predicted_ratio": pl.Float64(),
    "predicted_ratio_no_seams": pl.Float64(),
    "n_run_countable": pl.Int64(),
    "n_run_cblc": pl.Int64(),
    "run_ratio": pl.Float64(),
}
"""One row per patient. ``true_`` and ``predicted_`` stand on the same exhaustively annotated fields, ``run_`` on every
field of the run; ``_with_normal`` counts N0 and M0 as CBLC, ``_no_seams`` leaves out what lies unmatched at a seam."""
