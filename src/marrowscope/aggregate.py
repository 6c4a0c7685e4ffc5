"""From cells to a patient: decoded calls, the CBLC ratio as "x of n", the differential, what was left out.

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
OTHER = "Other"
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
class DifferentialRow:
    """One category of the differential.

    ``n`` counts all its cells, ``n_countable`` those in the denominator (they differ in ``Other`` only, which mixes
    nucleated marrow cells with megakaryocytes, macrophages and smudges); ``share`` is n_countable over the
    patient's countable cells (0-1), None where there are none.
    """

    category: str
    lineage: str
    n: int
    n_countable: int
    share: float | None


@dataclass(frozen=True, slots=True)
class PatientSummary:
    """A patient's counts; ``cblc_ratio`` is None when no cell is countable."""

    patient: Patient
    n_fields: int
    n_fields_failed: int
    n_contours: int
    rejected: Mapping[str, int]
    n_cells: int
    n_countable: int
    n_cblc: int
    n_contradictions: int
    cblc_ratio: Interval | None
    differential: tuple[DifferentialRow, ...]

    def row(self) -> dict[str, Any]:
        """Give the summary as one row of the patients table."""
        ratio = self.cblc_ratio
        return {
            "patient_id": self.patient.patient_id,
            "center": self.patient.center,
            "diagnosis": self.patient.diagnosis,
            "specimen": self.patient.specimen,
            "n_fields": self.n_fields,
            "n_fields_failed": self.n_fields_failed,
            "n_contours": self.n_contours,
            "n_rejected": sum(self.rejected.values()),
            "rejected": [{"reason": reason, "n": n} for reason, n in sorted(self.rejected.items())],
            "n_cells": self.n_cells,
            "n_countable": self.n_countable,
            "n_not_countable": self.n_cells - self.n_countable,
            "n_cblc": self.n_cblc,
            "n_contradictions": self.n_contradictions,
            "cblc_ratio": None if ratio is None else ratio.estimate,
            "cblc_ratio_lower": None if ratio is None else ratio.lower,
            "cblc_ratio_upper": None if ratio is None else ratio.upper,
            "differential": [
                {
                    "category": line.category,
                    "lineage": line.lineage,
                    "n": line.n,
                    "n_countable": line.n_countable,
                    "share": line.share,
                }
                for line in self.differential
            ],
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
    patient: Patient, fields: pl.DataFrame, cells: pl.DataFrame, vocabulary: Vocabulary, confidence: float = 0.95
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
        cblc_ratio=wilson_interval(n_cblc, n_countable, confidence) if n_countable else None,
        differential=differential(kept["category"].to_list(), kept["is_countable"].to_list(), vocabulary),
    )


def differential(categories: list[str], countable: list[bool], vocabulary: Vocabulary) -> tuple[DifferentialRow, ...]:
    """Count cells by category, named categories in vocabulary order, ``Other`` last; every category has a row."""
    n_all = dict.fromkeys(vocabulary.categories, 0)
    n_counted = dict.fromkeys(vocabulary.categories, 0)
    for category, counts in zip(categories, countable, strict=True):
        n_all[category] += 1
        n_counted[category] += counts
    total = sum(n_counted.values())
    lineage = category_lineages(vocabulary)
    order = sorted(vocabulary.categories, key=lambda category: category == OTHER)
    return tuple(
        DifferentialRow(name, lineage[name], n_all[name], n_counted[name], n_counted[name] / total if total else None)
        for name in order
    )


def category_lineages(vocabulary: Vocabulary) -> dict[str, str]:
    """Lineage of each category; ``other`` where its codes belong to several lineages."""
    found: dict[str, set[str]] = {category: set() for category in vocabulary.categories}
    for code in vocabulary.codes.values():
        found[code.category].add(code.lineage)
    return {category: next(iter(lineages)) if len(lineages) == 1 else "other" for category, lineages in found.items()}
