"""All quality flags of fields and patients, each with its rule and its limit.

A flag never changes a result: it tells the reader what to check before trusting one. The limits are stored in the
bundle, so a run uses the flags that its bundle was made with. A missing measure raises no flag. To add a flag, add its
record here, its limit to ``FlagRules``, and its name to data/strings.toml (``flag.<key>``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import polars as pl
from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.patient.flags.stain_reference import stain_distance
from marrowscope.patient.lymphoid import MAX_LYMPHOID_BLOOD, MAX_LYMPHOID_MARROW, is_marrow
from marrowscope.records import MARROW

if TYPE_CHECKING:
    from marrowscope.patient.flags.stain_reference import StainReference
    from marrowscope.records import FoundField

_EDGE = "edge"


class FlagRules(StageConfig):
    """Thresholds of the quality flags; shares are 0-1."""

    min_sharpness: float = Field(default=0.7, ge=0, description="1/um; a field below is blurred")
    min_background: float = Field(default=0.55, ge=0, le=1, description="gray level; a field below is underexposed")
    max_clipped: float = Field(default=0.01, ge=0, le=1, description="share of pixels; a field above is badly exposed")
    max_stain_distance: float = Field(
        default=4.0, gt=0, description="Mahalanobis distance; a field above is stained unlike the training fields"
    )
    max_flagged_fields: float = Field(
        default=0.2, ge=0, le=1, description="share of a patient's fields that may raise the same flag"
    )
    max_failed_fields: float = Field(
        default=0.0, ge=0, le=1, description="share of a patient's images that cannot be read"
    )
    min_cells: int = Field(default=100, ge=0, description="countable cells; the same as for a call")
    min_fields: int = Field(default=5, ge=0, description="fields with a countable cell; the same as for a call")
    max_not_countable: float = Field(
        default=0.10, ge=0, le=1, description="share of the cells: smudges (V) and others outside the ratio"
    )
    max_rejected: float = Field(
        default=0.15, ge=0, le=1, description="share of the contours away from the edge that the quality rules reject"
    )
    max_member_spread: float = Field(
        default=0.10, ge=0, le=1, description="standard deviation of p_cblc over the members, mean of countable cells"
    )
    max_correction: float = Field(
        default=0.05, ge=0, le=1, description="difference between counted and corrected ratio"
    )
    max_lymphoid: float = Field(
        default=MAX_LYMPHOID_MARROW, ge=0, le=1, description="share of a marrow's nucleated cells"
    )
    max_lymphoid_blood: float = Field(
        default=MAX_LYMPHOID_BLOOD, ge=0, le=1, description="share of the leukocytes of blood; unknown specimens too"
    )
    max_unchecked: int = Field(default=0, ge=0, description="scores of depth without a value or without a limit")


Evidence = TypeVar("Evidence")
FieldMeasures = Mapping[str, Any]
"""A field's row of the fields table."""


@dataclass(frozen=True, slots=True)
class PatientEvidence:
    """Data for a patient's flags: the row so far, and the patient's rows of the run's fields and cells."""

    row: Mapping[str, Any]
    fields: pl.DataFrame
    cells: pl.DataFrame

    @property
    def n_read(self) -> int:
        """Number of images that were read."""
        return int(self.row["n_fields"] - self.row["n_fields_failed"])

    def n_raising(self, field_flag: str) -> int:
        """Count the fields that raise a flag of their own."""
        raised = self.fields["flags"].explode() if len(self.fields) else pl.Series([], dtype=pl.String())
        return int((raised == field_flag).sum())


@dataclass(frozen=True, slots=True)
class Rule(Generic[Evidence]):
    """One measure and its limit, a setting of ``FlagRules``; broken if the value is beyond the limit."""

    measure: Callable[[Evidence], float | None]
    limit: str
    broken: Literal["above", "below"] = "above"
    n_fields: Callable[[Evidence], int | None] = lambda _: None

    def breaks(self, evidence: Evidence, rules: FlagRules) -> tuple[float, float] | None:
        """Return the value and its limit if the rule is broken, else None; None also without a value."""
        value, limit = self.measure(evidence), float(getattr(rules, self.limit))
        if value is None or not (value > limit if self.broken == "above" else value < limit):  # NaN is neither
            return None
        return float(value), limit


@dataclass(frozen=True, slots=True)
class Flag(Generic[Evidence]):
    """A flag, raised by the first of its rules that is broken.

    ``printed`` is how value and limit are printed. ``of_field`` is the field flag that a patient flag counts.
    """

    key: str
    rules: tuple[Rule[Evidence], ...]
    printed: Literal["share", "count"] = "share"
    of_field: str | None = None


def _column(name: str) -> Callable[[FieldMeasures], float | None]:
    return lambda field: field.get(name)


def _stain_distance(field: FieldMeasures) -> float | None:
    """Return the distance of a field that has kept cells; without them, the densest parts may be erythrocytes."""
    return None if field.get("n_cells") == 0 else field.get("stain_distance")


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _share_of_fields(field_flag: str) -> Callable[[PatientEvidence], float | None]:
    return lambda patient: _share(patient.n_raising(field_flag), patient.n_read)


def _count_of_fields(field_flag: str) -> Callable[[PatientEvidence], int]:
    return lambda patient: patient.n_raising(field_flag)


def _rejected_share(patient: PatientEvidence) -> float | None:
    """Share of rejected contours, ignoring those cut by a field's edge, which do not reflect quality."""
    n_edge = sum(item["n"] for item in patient.row["rejected"] or () if item["reason"] == _EDGE)
    return _share(patient.row["n_rejected"] - n_edge, patient.row["n_contours"] - n_edge)


def _member_spread(patient: PatientEvidence) -> float | None:
    """Mean spread of the members over the countable cells; None with a single member."""
    counted = patient.cells.filter(pl.col("reject_reason").is_null() & pl.col("is_countable"))
    spread = counted["member_spread"].mean()
    return spread if isinstance(spread, float) else None


def _correction(patient: PatientEvidence) -> float | None:
    counted, corrected = patient.row.get("cblc_ratio"), patient.row.get("corrected_ratio")
    return None if counted is None or corrected is None else abs(counted - corrected)


def _lymphoid(*, marrow: bool) -> Callable[[PatientEvidence], float | None]:
    """Measure the lymphoid share of marrow, or of every other specimen: what is not stated has the higher limit."""

    def share(patient: PatientEvidence) -> float | None:
        return patient.row.get("lymphoid_share") if is_marrow(patient.row.get("specimen", MARROW)) == marrow else None

    return share


def _unchecked(patient: PatientEvidence) -> int | None:
    """Count the scores of depth that could not be held against a limit; None where the row has none."""
    checks: Sequence[Mapping[str, Any]] | None = patient.row.get("depth")
    if checks is None:
        return None
    limits = ("lower_limit", "upper_limit")
    return sum(item["value"] is None or all(item[name] is None for name in limits) for item in checks)


FIELD_FLAGS: tuple[Flag[FieldMeasures], ...] = (
    Flag("blurred", (Rule(_column("sharpness"), "min_sharpness", "below"),)),
    Flag(
        "exposure",
        (Rule(_column("background"), "min_background", "below"), Rule(_column("clipped"), "max_clipped")),
    ),
    Flag("stain_far", (Rule(_stain_distance, "max_stain_distance"),)),
)
PATIENT_FLAGS: tuple[Flag[PatientEvidence], ...] = (
    *(
        Flag(
            f"{flag.key}_fields",
            (Rule(_share_of_fields(flag.key), "max_flagged_fields", n_fields=_count_of_fields(flag.key)),),
            of_field=flag.key,
        )
        for flag in FIELD_FLAGS
    ),
    Flag(
        "failed_fields",
        (
            Rule(
                lambda patient: _share(patient.row["n_fields_failed"], patient.row["n_fields"]),
                "max_failed_fields",
                n_fields=lambda patient: patient.row["n_fields_failed"],
            ),
        ),
    ),
    Flag(
        "few_cells",
        (
            Rule(lambda patient: patient.row["n_countable"], "min_cells", "below"),
            Rule(
                lambda patient: patient.row["n_fields_counted"],
                "min_fields",
                "below",
                n_fields=lambda patient: patient.row["n_fields_counted"],
            ),
        ),
        printed="count",
    ),
    Flag(
        "many_not_countable",
        (
            Rule(
                lambda patient: _share(patient.row["n_not_countable"], patient.row["n_cells"]),
                "max_not_countable",
            ),
        ),
    ),
    Flag("many_rejected", (Rule(_rejected_share, "max_rejected"),)),
    Flag("members_disagree", (Rule(_member_spread, "max_member_spread"),)),
    Flag("correction_large", (Rule(_correction, "max_correction"),)),
    Flag(
        "lymphoid_high",
        (Rule(_lymphoid(marrow=True), "max_lymphoid"), Rule(_lymphoid(marrow=False), "max_lymphoid_blood")),
    ),
    Flag("unchecked", (Rule(_unchecked, "max_unchecked"),), printed="count"),
)


def field_flags(measures: FieldMeasures, rules: FlagRules) -> list[str]:
    """Return the flags of one field from its row of the fields table, in the order of FIELD_FLAGS."""
    return [flag.key for flag in FIELD_FLAGS if any(rule.breaks(measures, rules) for rule in flag.rules)]


def judge_field(found: FoundField, stain: StainReference | None, rules: FlagRules) -> tuple[float, list[str]]:
    """Return a field's distance from the training stain (NaN if unknown), and the flags it raises."""
    distance = stain_distance(found.measures, stain)
    known = {name: None if math.isnan(value) else value for name, value in found.measures.items()}
    known |= {"stain_distance": None if math.isnan(distance) else distance}
    return distance, field_flags(known | {"n_cells": found.n_kept}, rules)


def patient_flags(
    patient: Mapping[str, Any], fields: pl.DataFrame, cells: pl.DataFrame, rules: FlagRules
) -> list[dict[str, Any]]:
    """Return a patient's flags as {flag, value, limit, n_fields}, in the order of PATIENT_FLAGS.

    ``patient`` is the row of the patients table so far; ``fields`` and ``cells`` are the patient's rows of the run's
    tables, including rejected contours. ``n_fields`` is null for flags that are not about fields.
    """
    evidence = PatientEvidence(patient, fields, cells)
    raised: list[dict[str, Any]] = []
    for flag in PATIENT_FLAGS:
        for rule in flag.rules:
            if broken := rule.breaks(evidence, rules):
                value, limit = broken
                raised.append({"flag": flag.key, "value": value, "limit": limit, "n_fields": rule.n_fields(evidence)})
                break
    return raised
