"""From cells to a patient: the CBLC ratio as "x of n", and what was left out.

Invariant: contours = rejected (by reason) + cells; cells = countable + not countable; CBLC <= countable.
The Wilson interval treats cells as independent and describes the photographed fields, not the patient. Cells cluster,
so it is too narrow; a note says so wherever it is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.statistics.intervals import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.records import Interval, Patient


@dataclass(frozen=True, slots=True)
class PatientSummary:
    """A patient's counts; ``cblc_ratio`` is None if no cell is countable.

    The ratio's two bounds treat every cell that is not countable as unclassified (smudges, V), and assume that all of
    them are CBLC, or none. A prediction cannot separate V from megakaryocytes and macrophages, so the bounds are wide.
    """

    patient: Patient
    n_fields: int
    n_fields_failed: int
    n_contours: int
    rejected: Mapping[str, int]
    n_cells: int
    n_countable: int
    n_cblc: int
    n_contradictions: int
    n_fields_counted: int
    cblc_ratio: Interval | None

    def row(self) -> dict[str, Any]:
        """Return the summary as one row of the patients table."""
        ratio, n_apart = self.cblc_ratio, self.n_cells - self.n_countable
        return {
            "patient_id": self.patient.patient_id,
            "center": self.patient.center,
            "diagnosis": self.patient.diagnosis,
            "specimen": self.patient.specimen,
            "age_group": self.patient.age_group,
            "sex": self.patient.extra.get("sex") or None,
            "n_fields": self.n_fields,
            "n_fields_failed": self.n_fields_failed,
            "n_fields_counted": self.n_fields_counted,
            "n_contours": self.n_contours,
            "n_rejected": sum(self.rejected.values()),
            "rejected": [{"reason": reason, "n": n} for reason, n in sorted(self.rejected.items())],
            "n_cells": self.n_cells,
            "n_countable": self.n_countable,
            "n_not_countable": n_apart,
            "n_cblc": self.n_cblc,
            "n_contradictions": self.n_contradictions,
            "cblc_ratio": None if ratio is None else ratio.estimate,
            "cblc_ratio_lower": None if ratio is None else ratio.lower,
            "cblc_ratio_upper": None if ratio is None else ratio.upper,
            "ratio_all_unclassified_not_cblc": self.n_cblc / self.n_cells if self.n_cells else None,
            "ratio_all_unclassified_cblc": (self.n_cblc + n_apart) / self.n_cells if self.n_cells else None,
        }


def aggregate_patient(
    patient: Patient, fields: pl.DataFrame, cells: pl.DataFrame, confidence: float = 0.95
) -> PatientSummary:
    """Count one patient's cells; ``fields`` and ``cells`` are the patient's rows of the run's tables.

    Cells with a ``reject_reason`` are contours that the quality rules rejected: counted by reason, never classified.
    Without countable cells there is no ratio (None).
    """
    kept = cells.filter(pl.col("reject_reason").is_null())
    refused = cells.filter(pl.col("reject_reason").is_not_null())
    n_countable = int(kept["is_countable"].sum())
    n_cblc = int((kept["is_cblc"] & kept["is_countable"]).sum())
    return PatientSummary(
        patient=patient,
        n_fields=len(fields),
        n_fields_failed=int((fields["status"] != "ok").sum()),
        n_contours=len(cells),
        rejected=dict(refused.group_by("reject_reason").len().sort("reject_reason").iter_rows()),
        n_cells=len(kept),
        n_countable=n_countable,
        n_cblc=n_cblc,
        n_contradictions=int(kept["contradiction"].sum()),
        n_fields_counted=kept.filter("is_countable")["field_id"].n_unique(),
        cblc_ratio=wilson_interval(n_cblc, n_countable, confidence) if n_countable else None,
    )
