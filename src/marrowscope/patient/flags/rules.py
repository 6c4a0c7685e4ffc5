"""Which measures are worth a warning: the rules, each with its threshold, for a field and for a patient.

A flag never changes a figure: it says what a reader should look at before believing one. The thresholds stand in the
bundle, so that a run's flags are those its bundle was made with. A measure that is missing raises nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.patient.flags.stain import stain_distance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.patient.flags.stain import StainReference
    from marrowscope.records import FoundField

FIELD_FLAGS = ("blurred", "exposure", "stain_far")
PATIENT_FLAGS = (
    *(f"{name}_fields" for name in FIELD_FLAGS),
    "failed_fields",
    "few_cells",
    "many_not_countable",
    "many_rejected",
    "members_disagree",
    "correction_large",
    "lymphoid_high",
)
_EDGE = "edge"


class FlagRules(StageConfig):
    """Thresholds of the quality flags; shares are 0-1."""

    min_sharpness: float = Field(default=0.7, ge=0, description="1/um; a field below is blurred")
    min_background: float = Field(default=0.55, ge=0, le=1, description="grey level; a field below is underexposed")
    max_clipped: float = Field(
        default=0.01, ge=0, le=1, description="share of pixels; a field above is wrongly exposed"
    )
    max_stain_distance: float = Field(
        default=4.0, gt=0, description="Mahalanobis; a field above is stained unlike those of training"
    )
    max_flagged_fields: float = Field(
        default=0.2, ge=0, le=1, description="share of a patient's fields that may raise the same flag"
    )
    max_failed_fields: float = Field(default=0.0, ge=0, le=1, description="share of a patient's images not read")
    min_cells: int = Field(default=100, ge=0, description="countable cells; the same as a call asks for")
    min_fields: int = Field(default=5, ge=0, description="fields with a countable cell; the same as a call asks for")
    max_not_countable: float = Field(
        default=0.10, ge=0, le=1, description="share of the cells: smudges (V) and others outside the ratio"
    )
    max_rejected: float = Field(
        default=0.15, ge=0, le=1, description="share of the contours away from the edge that the quality rules refuse"
    )
    max_member_spread: float = Field(
        default=0.10, ge=0, le=1, description="standard deviation of p_cblc over the members, mean of countable cells"
    )
    max_correction: float = Field(default=0.05, ge=0, le=1, description="counted against corrected ratio")
    max_lymphoid: float = Field(default=0.30, ge=0, le=1, description="share of the nucleated cells")


def field_flags(measures: Mapping[str, Any], rules: FlagRules) -> list[str]:
    """Give the flags of one field from its row of the fields table, in the order of FIELD_FLAGS.

    A field without a kept cell has no stain of its own to judge: what is densest there may be erythrocytes.
    """
    has_cells = measures.get("n_cells") != 0
    raised = {
        "blurred": _below(measures.get("sharpness"), rules.min_sharpness),
        "exposure": _below(measures.get("background"), rules.min_background)
        or _above(measures.get("clipped"), rules.max_clipped),
        "stain_far": has_cells and _above(measures.get("stain_distance"), rules.max_stain_distance),
    }
    return [name for name in FIELD_FLAGS if raised[name]]


def judge_field(found: FoundField, stain: StainReference | None, rules: FlagRules) -> tuple[float, list[str]]:
    """Give a field's distance from the stain of training (NaN where unknown), and the flags it raises."""
    distance = stain_distance(found.measures, stain)
    known = {name: None if math.isnan(value) else value for name, value in found.measures.items()}
    known |= {"stain_distance": None if math.isnan(distance) else distance}
    return distance, field_flags(known | {"n_cells": found.n_kept}, rules)


def patient_flags(
    patient: Mapping[str, Any], fields: pl.DataFrame, cells: pl.DataFrame, rules: FlagRules
) -> list[dict[str, Any]]:
    """Give a patient's flags as {flag, value, limit, n_fields}, in the order of PATIENT_FLAGS.

    ``patient`` is the row of the patients table made so far; ``fields`` and ``cells`` are the run's tables cut to the
    patient, rejected contours included. ``n_fields`` is null where a flag is not about fields.
    """
    found = [
        *_flags_of_fields(patient, fields, rules),
        _few_cells(patient, rules),
        _flag("many_not_countable", _share(patient["n_not_countable"], patient["n_cells"]), rules.max_not_countable),
        _flag("many_rejected", _rejected_share(patient), rules.max_rejected),
        _flag("members_disagree", _member_spread(cells), rules.max_member_spread),
        _flag("correction_large", _correction(patient), rules.max_correction),
        _flag("lymphoid_high", patient.get("lymphoid_share"), rules.max_lymphoid),
    ]
    return [flag for flag in found if flag is not None]


def _flags_of_fields(patient: Mapping[str, Any], fields: pl.DataFrame, rules: FlagRules) -> list[dict[str, Any] | None]:
    """Give the flags that enough of the patient's fields raise; an image that was not read raises its own alone."""
    n_read = patient["n_fields"] - patient["n_fields_failed"]
    raised = fields["flags"].explode().value_counts() if len(fields) else pl.DataFrame()
    counts = dict(raised.iter_rows())
    n_failed = patient["n_fields_failed"]
    return [
        *(
            _flag(f"{name}_fields", _share(counts.get(name, 0), n_read), rules.max_flagged_fields, counts.get(name, 0))
            for name in FIELD_FLAGS
        ),
        _flag("failed_fields", _share(n_failed, patient["n_fields"]), rules.max_failed_fields, n_failed),
    ]


def _few_cells(patient: Mapping[str, Any], rules: FlagRules) -> dict[str, Any] | None:
    """Too few countable cells, or else too few fields: the latter has ``n_fields``, equal to its value."""
    n_cells, n_fields = patient["n_countable"], patient["n_fields_counted"]
    if n_cells < rules.min_cells:
        return {"flag": "few_cells", "value": float(n_cells), "limit": float(rules.min_cells), "n_fields": None}
    if n_fields < rules.min_fields:
        return {"flag": "few_cells", "value": float(n_fields), "limit": float(rules.min_fields), "n_fields": n_fields}
    return None


def _rejected_share(patient: Mapping[str, Any]) -> float | None:
    """Share of the contours away from the edge that were refused: how many a field's edge cuts says nothing of it."""
    n_edge = sum(item["n"] for item in patient["rejected"] or () if item["reason"] == _EDGE)
    return _share(patient["n_rejected"] - n_edge, patient["n_contours"] - n_edge)


def _member_spread(cells: pl.DataFrame) -> float | None:
    """Mean spread of the members over the countable cells; None with a single member."""
    spread = cells.filter(pl.col("reject_reason").is_null() & pl.col("is_countable"))["member_spread"].mean()
    return spread if isinstance(spread, float) else None


def _correction(patient: Mapping[str, Any]) -> float | None:
    counted, corrected = patient.get("cblc_ratio"), patient.get("corrected_ratio")
    return None if counted is None or corrected is None else abs(counted - corrected)


def _flag(name: str, value: float | None, limit: float, n_fields: int | None = None) -> dict[str, Any] | None:
    """Give the flag where ``value`` is above its limit."""
    if not _above(value, limit):
        return None
    return {"flag": name, "value": value, "limit": limit, "n_fields": n_fields}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit
