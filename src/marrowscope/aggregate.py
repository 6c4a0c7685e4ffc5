"""From cells to a patient: decoded calls, the CBLC ratio as "x of n", what was left out.

1. ``decode_calls`` turns the three heads' probabilities into one call per cell that exists in the vocabulary.
2. ``aggregate_patient`` counts a patient's cells.

Invariant: contours = rejected (by reason) + cells; cells = countable + not countable; CBLC <= countable.
The Wilson interval treats cells as independent and describes the photographed fields, not the marrow:
cells cluster, so it is narrower than the truth, and every surface that prints it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.uncertainty import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from marrowscope.records import Interval, Patient
    from marrowscope.vocabulary import Vocabulary

INTERVAL_SCOPE = (
    "95% Wilson interval: it treats the cells as independent and describes the photographed fields, not the marrow. "
    "Cells cluster within fields, so the true uncertainty is larger. "
    "Dilution and the choice of fields are not measured."
)
_SMALLEST_P = 1e-12
_ROUNDING = 1e-3
"""How far above 1 a softmax of low precision may come out."""


@dataclass(frozen=True, slots=True)
class Calls:
    """One call per cell, arrays of length n.

    ``contradiction`` marks cells whose heads, each taken alone, name a combination no raw code has; they are
    counted with the joint call all the same.
    """

    category_index: NDArray[np.int64]
    is_cblc: NDArray[np.bool_]
    is_countable: NDArray[np.bool_]
    contradiction: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PatientSummary:
    """A patient's counts; ``cblc_ratio`` is None when no cell is countable.

    The ratio's two bounds take every cell that is not countable for an unclassified one (smudges, V): all of them CBLC,
    or none. A prediction cannot tell V from megakaryocytes and macrophages, so the bounds are wide rather than narrow.
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
        """Give the summary as one row of the patients table."""
        ratio, n_apart = self.cblc_ratio, self.n_cells - self.n_countable
        return {
            "patient_id": self.patient.patient_id,
            "center": self.patient.center,
            "diagnosis": self.patient.diagnosis,
            "specimen": self.patient.specimen,
            "age_group": self.patient.age_group,
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


def decode_calls(
    p_category: NDArray[np.floating[Any]],
    p_cblc: NDArray[np.floating[Any]],
    p_countable: NDArray[np.floating[Any]],
    vocabulary: Vocabulary,
) -> Calls:
    """Call each cell with the most probable (category, cblc, countable) that some raw code has.

    ``p_category`` (n, 16), ``p_cblc`` (n,), ``p_countable`` (n,), probabilities 0-1. The heads' log-probabilities
    are summed over the triples in ``vocabulary.call_triples`` and the largest sum wins. A category of probability
    exactly 0 (not trained) is never called. Raises ValueError for shapes that do not fit or values outside 0-1.
    """
    category = np.asarray(p_category, dtype=np.float64)
    heads = np.stack([np.asarray(p_cblc, dtype=np.float64), np.asarray(p_countable, dtype=np.float64)])
    n_categories = len(vocabulary.categories)
    if category.ndim != 2 or category.shape != (heads.shape[1], n_categories):  # noqa: PLR2004  cells x categories
        message = f"p_category of shape {category.shape}: expected ({heads.shape[1]}, {n_categories})"
        raise ValueError(message)
    if not all(np.all((values >= 0) & (values <= 1 + _ROUNDING)) for values in (category, heads)):
        message = "probabilities outside 0-1 or not finite: expected the heads after softmax"
        raise ValueError(message)
    triples = np.array(vocabulary.call_triples, dtype=np.int64)
    with np.errstate(divide="ignore"):
        log_category = np.where(category > 0, np.log(category), -np.inf)
    log_yes = np.log(np.maximum(heads, _SMALLEST_P))
    log_no = np.log(np.maximum(1 - heads, _SMALLEST_P))
    total = log_category[:, triples[:, 0]]
    for head, column in enumerate((1, 2)):
        total = total + np.where(triples[None, :, column] == 1, log_yes[head][:, None], log_no[head][:, None])
    best = triples[np.argmax(total, axis=1)]
    alone = np.stack([np.argmax(category, axis=1), heads[0] >= 0.5, heads[1] >= 0.5], axis=1)  # noqa: PLR2004
    exists = (alone[:, None, :] == triples[None, :, :]).all(axis=2).any(axis=1)
    return Calls(best[:, 0], best[:, 1] == 1, best[:, 2] == 1, ~exists)


def aggregate_patient(
    patient: Patient, fields: pl.DataFrame, cells: pl.DataFrame, confidence: float = 0.95
) -> PatientSummary:
    """Count one patient's cells; ``fields`` and ``cells`` are the run's tables cut to this patient.

    Cells with a ``reject_reason`` are contours the quality rules refused: counted by reason, never classified.
    Without a countable cell there is no ratio (None).
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
