"""The tables of an evaluation: the columns of the linked and the written tables, and the words in their cells."""

from __future__ import annotations

import polars as pl

from marrowscope.runs.schemas import CALLS

ALL_CENTERS = "all centers"
"""The "center" of the figures over every center."""

MATCHED, ALL_EXPERT = "matched", "all expert"
"""Which cells a figure covers, column ``over``: expert cells found by a kept detection, or every expert cell."""

MISSED = "missed"
"""The called "category" of a cell that was not found."""

CBLC_HEAD, CATEGORY_HEAD = "cblc", "category"
HEADS = (CBLC_HEAD, CATEGORY_HEAD)
"""What a probability refers to, column ``head``: CBLC, or the called category."""

AML, OTHER, NOT_STATED = "AML", "other", "not stated"
"""The group of a patient in the table of calls, column ``group``."""

ROC_CBLC = "CBLC of a cell, matched"
ROC_PREDICTED, ROC_CORRECTED, ROC_ANNOTATED = (
    f"AML by the {kind} ratio" for kind in ("predicted", "corrected", "annotated")
)
"""The curves of roc.csv, column ``curve``."""

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
    "network_contour": pl.Boolean(),
    "exhaustive": pl.Boolean(),
    "found_before_rules": pl.Boolean(),
    "found": pl.Boolean(),
    "nucleus_alone": pl.Boolean(),
    "cell_id": pl.String(),
    "iou": pl.Float64(),
    "coarse": pl.String(),
    "may_be": pl.List(pl.Int64()),
    "predicted_category": pl.Int64(),
    "predicted_cblc": pl.Int64(),
    "p_cblc": pl.Float64(),
    "p_called": pl.Float64(),
}
"""One row per expert cell. ``nucleus_alone``: found, by a contour around a polygon of the nucleus alone.
``network_contour``: an expert named it, and a network drew its outline. ``normal_blast``: a blast in the WHO count that
is not a CBLC (N0, M0). Where a coarse label leaves them open, ``category``, ``cblc`` and ``countable`` are null. For an
open category, ``coarse`` is the label's name with its set, and ``may_be`` are the set's categories. ``p_called`` is the
probability of the called category; it and the other predicted columns are null if the cell was missed."""

DETECTION_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "field_id": pl.String(),
    "cell_id": pl.String(),
    "matched": pl.Boolean(),
    "ignored": pl.Boolean(),
    "network_contour": pl.Boolean(),
    "exhaustive": pl.Boolean(),
    "undecided": pl.Boolean(),
    "is_cblc": pl.Boolean(),
    "is_countable": pl.Boolean(),
    "score": pl.Float64(),
    "outcomes": pl.List(pl.Int8()),
}
"""One row per kept detection. ``undecided``: it found a cell of which the expert's label leaves CBLC or countable open.
``network_contour``: it matches an expert cell whose outline a network drew. ``outcomes`` (one per level of
``ranking.IOU_LEVELS``): 1 found an expert cell, 0 found nothing, -1 is not counted."""

RATIO_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "n_true_countable": pl.Int64(),
    "n_true_cblc": pl.Int64(),
    "n_true_normal_blasts": pl.Int64(),
    "n_true_not_countable": pl.Int64(),
    "n_true_undecided": pl.Int64(),
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
    "specimen": pl.String(),
    "age_group": pl.String(),
    "sex": pl.String(),
    "subtype": pl.String(),
}
"""One row per patient. ``true_`` and ``predicted_`` cover the same exhaustively annotated fields, ``run_`` every field
of the run. Every whole expert cell of these fields is counted once in ``n_true_countable``, ``n_true_not_countable`` or
``n_true_undecided``; cells whose label leaves CBLC or countable open, and detections that found them, are in neither
ratio. ``_with_normal`` counts N0 and M0 as CBLC, ``_no_seams`` leaves out unmatched detections at a seam. The
columns from ``corrected_ratio`` on come from the run's own patients table and are null if its bundle states no error
rates or no threshold. ``n_fields_unshared`` counts the fields that enter only one of the annotated and the corrected
ratio; ``annotated_inside`` tells whether the annotated ratio is inside the corrected ratio's 95% interval, limits
included. ``sex`` and ``subtype`` are columns of patients.csv that need not be there."""

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
or below; ``right`` is the share of them called above (AML: sensitivity) or below (other diagnoses: specificity)."""

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
"""One row per distinct certainty: the share of wrong decisions among the ``n`` most certain of ``n_patients``.
``certainty`` is the lowest among these, from 0.5 to 1: the larger of confidence above and 1 - confidence above."""


def _with_limits(*names: str) -> dict[str, pl.DataType]:
    return {name + end: pl.Float64() for name in names for end in ("", "_lower", "_upper")}


NORMAL_BLAST_COLUMNS = {
    "center": pl.String(),
    "diagnosis": pl.String(),
    "n_patients": pl.Int64(),
    "n_cells": pl.Int64(),
    "n_found": pl.Int64(),
    "n_called_cblc": pl.Int64(),
}
"""One row per center and diagnosis. Before ``n_found`` there is one count per code of a normal blast: n_M0, n_N0."""

SUBGROUP_COLUMNS = {
    "center": pl.String(),
    "attribute": pl.String(),
    "value": pl.String(),
    "n_patients": pl.Int64(),
    "n_ratio": pl.Int64(),
    **_with_limits("mae", "bias"),
    "n_interval": pl.Int64(),
    **_with_limits("coverage"),
    "n_aml": pl.Int64(),
    "n_other": pl.Int64(),
    "against_all": pl.Boolean(),
    **_with_limits("auc"),
}
"""One row per value of an attribute that divides the patients (see ``document.SubgroupRecord``)."""

DECISION_COLUMNS = {
    "center": pl.String(),
    "rule": pl.String(),
    "risk": pl.Float64(),
    "n": pl.Int64(),
    "n_aml": pl.Int64(),
    "n_acted": pl.Int64(),
    **_with_limits("net_benefit"),
}
"""One row per rule and risk (see ``document.DecisionPointRecord``)."""

TABLE_1_COLUMNS = {
    "center": pl.String(),
    "name": pl.String(),
    "value": pl.String(),
    "n": pl.Int64(),
    "share": pl.Float64(),
    "median": pl.Float64(),
    "lower_quartile": pl.Float64(),
    "upper_quartile": pl.Float64(),
}
"""One row per center and characteristic: a count with its share of the center's patients, or a median."""

ACROSS_COLUMNS = {
    "key": pl.String(),
    "figure": pl.String(),
    "scale": pl.String(),
    "n_centers": pl.Int64(),
    "mean": pl.Float64(),
    "mean_lower": pl.Float64(),
    "mean_upper": pl.Float64(),
    "prediction_lower": pl.Float64(),
    "prediction_upper": pl.Float64(),
    "tau2": pl.Float64(),
    "i2": pl.Float64(),
    "q": pl.Float64(),
    "p": pl.Float64(),
    "left_out": pl.String(),
    "undefined": pl.String(),
}
"""One row per figure summarized over centers. Mean, interval and prediction interval are on the figure's own scale, the
variance between centers ``tau2`` on ``scale``; ``i2`` is the share of the spread beyond sampling error, ``p`` the test
that all centers have one value. ``left_out`` names centers without a variance, separated by semicolons."""

WRITTEN_TABLES: dict[str, dict[str, pl.DataType]] = {
    "metrics.csv": {
        "center": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "all_negative": pl.Float64(),
        "n": pl.Int64(),
        "unit": pl.String(),
        "n_patients": pl.Int64(),
        "marks": pl.String(),
        "interval": pl.String(),
        "group": pl.String(),
        "note": pl.String(),
        "warning": pl.String(),
        "undefined": pl.String(),
    },
    "per_class.csv": {
        "center": pl.String(),
        "over": pl.String(),
        "category": pl.String(),
        "n": pl.Int64(),
        "n_called": pl.Int64(),
        "n_patients": pl.Int64(),
        **_with_limits("precision", "recall", "f1"),
    },
    "recall_by_class.csv": {
        "center": pl.String(),
        "kind": pl.String(),
        "label": pl.String(),
        "n": pl.Int64(),
        "n_patients": pl.Int64(),
        **_with_limits("before_rules", "after_rules"),
    },
    "confusion.csv": {
        "center": pl.String(),
        "over": pl.String(),
        "true": pl.String(),
        "called": pl.String(),
        "n": pl.Int64(),
    },
    "reliability.csv": {
        "center": pl.String(),
        "head": pl.String(),
        "bin": pl.Int64(),
        "n": pl.Int64(),
        "mean_probability": pl.Float64(),
        **_with_limits("share"),
    },
    "roc.csv": {
        "center": pl.String(),
        "curve": pl.String(),
        "false_positive_rate": pl.Float64(),
        "true_positive_rate": pl.Float64(),
        "threshold": pl.Float64(),
    },
    "patients.csv": RATIO_COLUMNS,
    "calls.csv": CALL_COLUMNS,
    "risk_coverage.csv": RISK_COLUMNS,
    "table1.csv": TABLE_1_COLUMNS,
    "across_centers.csv": ACROSS_COLUMNS,
    "subgroups.csv": SUBGROUP_COLUMNS,
    "decision_curve.csv": DECISION_COLUMNS,
    "normal_blasts.csv": NORMAL_BLAST_COLUMNS,
}
"""The columns of each table in an evaluation folder, by file name."""
