"""The columns of the linked tables: what ``link`` writes and the figures read."""

from __future__ import annotations

import polars as pl

from marrowscope.runs.tables import CALLS

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
    "n_fields_unshared": pl.Int64(),
    "corrected_ratio": pl.Float64(),
    "corrected_lower": pl.Float64(),
    "corrected_upper": pl.Float64(),
    "annotated_inside": pl.Boolean(),
    "run_threshold": pl.Float64(),
    "confidence_above": pl.Float64(),
    "call": pl.String(),
    "call_reason": pl.String(),
}
"""One row per patient. ``true_`` and ``predicted_`` stand on the same exhaustively annotated fields, ``run_`` on every
field of the run; ``_with_normal`` counts N0 and M0 as CBLC, ``_no_seams`` leaves out what lies unmatched at a seam.
From ``corrected_ratio`` on it is what the run's own patients table says, null where its bundle states no error rates
or no threshold; ``n_fields_unshared`` counts fields that only one of annotated and corrected ratio stands on, and
``annotated_inside`` says whether the annotated ratio lies in the corrected one's 95% interval, limits included."""

CALL_COLUMNS = {
    "center": pl.String(),
    "group": pl.String(),
    "diagnosis": pl.String(),
    "n_patients": pl.Int64(),
    **{f"n_{call}": pl.Int64() for call in CALLS},
    "measure": pl.String(),
    "n_decided": pl.Int64(),
    "n_right": pl.Int64(),
    "right": pl.Float64(),
    "right_lower": pl.Float64(),
    "right_upper": pl.Float64(),
}
"""One row per diagnosis, and one for all diagnoses of a group (diagnosis null). ``n_decided`` patients are called above
or below; ``right`` is the share of them called above (AML: sensitivity) or below (others: specificity)."""

RISK_COLUMNS = {
    "center": pl.String(),
    "n": pl.Int64(),
    "n_patients": pl.Int64(),
    "coverage": pl.Float64(),
    "certainty": pl.Float64(),
    "n_wrong": pl.Int64(),
    "error": pl.Float64(),
    "error_lower": pl.Float64(),
    "error_upper": pl.Float64(),
}
"""One row per distinct certainty: among the ``n`` most certain of ``n_patients``, the share decided wrongly.
``certainty`` is the least of theirs, 0.5 to 1: the larger one of confidence above and 1 - confidence above."""
