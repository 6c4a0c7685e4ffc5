"""A site's error rates from the random audits of its patients, in the form that ``patient.quantify`` reads.

1. Every audited cell counts with the inverse of the probability that it was drawn (Horvitz and Thompson, J Am Stat
   Assoc 1952;47:663): uncertain calls are audited more often than certain ones and would make the rates look worse.
   Cells named before the audit have weight 1.
2. A patient's weights are scaled to sum to the effective number of cells, (sum w)^2 / sum w^2 (Kish, Survey Sampling,
   1965, 11.7), so that 50 audited cells do not pass for 500.
3. The scaled counts become whole numbers patient by patient; what rounding cuts off is carried to the next patient, so
   that no rare kind of error is rounded away at every patient.

Invariant: only audits that chance drew give rates. Corrected cells without a draw have no weight and cannot enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.patient.quantify.estimate import PatientCounts, estimate_ratio
from marrowscope.patient.quantify.rates import ErrorRates, Kind, kinds_of
from marrowscope.statistics.clusters import pooled_correlation
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from marrowscope.vocabulary import Vocabulary

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]

FEWEST_PATIENTS = 20


@dataclass(frozen=True, slots=True)
class AuditedCell:
    """One named cell of an audit: the reader's raw code (None: not a cell), the machine's call, the cell's weight.

    ``weight`` is 1 / inclusion probability, 1 for cells named before the audit.
    """

    code: str | None
    called_countable: bool
    called_category: str
    called_cblc: bool
    weight: float


@dataclass(frozen=True, slots=True)
class AuditedPatient:
    """One audited patient.

    ``missed`` are the codes added in checked fields, each standing for ``missed_weight`` = M / m cells; None where no
    fields were checked. ``called_by_field`` and ``counted_by_field`` are the machine's CBLC and countable cells of each
    field, which tell how calls cluster.
    """

    patient_id: str
    cells: tuple[AuditedCell, ...]
    called_by_field: tuple[int, ...]
    counted_by_field: tuple[int, ...]
    missed: tuple[str, ...] | None = None
    missed_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SiteRates:
    """A site's rates with what they rest on: patients, named cells, and their effective number.

    ``found_cells_only``: not every patient had fields checked for missed cells, so nobody's enter, and the shares of
    cells that are found describe found cells alone.
    """

    rates: ErrorRates
    n_patients: int
    n_cells: int
    n_effective: float
    found_cells_only: bool


def site_rates(patients: Sequence[AuditedPatient], vocabulary: Vocabulary) -> SiteRates:
    """Measure a site's rates on at least 20 audited patients.

    Raises ValueError for fewer, for two of one name, for a patient without a named cell, for weights below 1, and for a
    call that no code of the vocabulary has.
    """
    if len(patients) < FEWEST_PATIENTS:
        message = (
            f"found {count_of(len(patients), 'audited patient')}, expected at least {FEWEST_PATIENTS} of the site; "
            "audit more patients"
        )
        raise ValueError(message)
    return _measured(patients, vocabulary)


def ratios_outside(
    patients: Sequence[AuditedPatient], reviewed: Mapping[str, float], vocabulary: Vocabulary
) -> tuple[str, ...]:
    """Return the fully reviewed patients whose ratio lies outside the interval that would have been printed.

    ``reviewed`` has their ratios (0-1) by patient; all of them stand in ``patients``, the audited patients of the site.
    Each is corrected with the rates of the site's other patients, as a new patient would be. One without a counted
    cell, without a countable one (NaN) or with rates too close to correct has no interval or no ratio, and counts as
    outside, as in ``patient.quantify.centers``.
    """
    return tuple(
        patient.patient_id
        for patient in patients
        if patient.patient_id in reviewed
        and not _holds(
            patient, [other for other in patients if other is not patient], reviewed[patient.patient_id], vocabulary
        )
    )


def _holds(patient: AuditedPatient, others: Sequence[AuditedPatient], ratio: float, vocabulary: Vocabulary) -> bool:
    if not others or not sum(patient.counted_by_field) or not np.isfinite(ratio):
        return False
    counts = PatientCounts(np.array(patient.called_by_field, float), np.array(patient.counted_by_field, float))
    estimate = estimate_ratio(counts, _measured(others, vocabulary).rates)
    return bool(estimate.lower <= ratio <= estimate.upper)


def _measured(patients: Sequence[AuditedPatient], vocabulary: Vocabulary) -> SiteRates:
    patients = sorted(patients, key=lambda patient: patient.patient_id)
    kinds = kinds_of(vocabulary)
    place = {kind: index for index, kind in enumerate(kinds)}
    _check(patients, place)
    found_only = any(patient.missed is None for patient in patients)
    # By patient and kind: called CBLC, counted but not called, not counted; and cells that should not be counted.
    parts = np.zeros((len(patients), len(kinds), 3))
    wrong = np.zeros((len(patients), len(kinds)))
    effective = 0.0
    for row, patient in enumerate(patients):
        weights = np.array([cell.weight for cell in patient.cells])
        n_effective = float(weights.sum() ** 2 / (weights**2).sum())
        scale = n_effective / float(weights.sum())
        effective += n_effective
        for cell in patient.cells:
            kind = _kind(cell.code, vocabulary)
            if kind is not None:
                part = 2 if not cell.called_countable else 0 if cell.called_cblc else 1
                parts[row, place[kind], part] += cell.weight * scale
            elif cell.called_countable:
                wrong[row, place[Kind(cell.called_category, cell.called_cblc)]] += cell.weight * scale
        for code in () if found_only else patient.missed or ():
            kind = _kind(code, vocabulary)
            if kind is not None:
                parts[row, place[kind], 2] += patient.missed_weight * scale
    whole, wrong_whole = carry_rounding(parts), carry_rounding(wrong)
    called = whole[..., 0]
    counted = called + whole[..., 1]
    rates = ErrorRates(
        kinds=kinds,
        annotated=_table(counted + whole[..., 2]),
        counted=_table(counted),
        called=_table(called),
        wrongly_counted=tuple(wrong_whole.sum(axis=1).tolist()),
        wrong_calls=tuple(wrong_whole.sum(axis=0).tolist()),
        wrongly_called=tuple(wrong_whole[:, [kind.cblc for kind in kinds]].sum(axis=1).tolist()),
        correlation=pooled_correlation(
            [np.array(patient.called_by_field, dtype=np.float64) for patient in patients],
            [np.array(patient.counted_by_field, dtype=np.float64) for patient in patients],
        ),
    )
    n_cells = sum(len(patient.cells) for patient in patients)
    return SiteRates(rates, len(patients), n_cells, effective, found_only)


def carry_rounding(counts: RealArray) -> IntArray:
    """Round counts (n, ...) to whole numbers so that each column's running total stays within a half."""
    running = np.floor(np.cumsum(counts, axis=0) + 0.5).astype(np.int64)
    return np.diff(running, axis=0, prepend=np.zeros((1, *running.shape[1:]), dtype=np.int64))


def _check(patients: Sequence[AuditedPatient], kinds: Collection[Kind]) -> None:
    names = [patient.patient_id for patient in patients]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"found patient {twice[0]} twice, expected each patient once"
        raise ValueError(message)
    for patient in patients:
        light = [cell.weight for cell in patient.cells if not cell.weight >= 1]
        if not patient.cells or light:
            found = f"a weight of {light[0]}" if light else "no named cell"
            message = f"patient {patient.patient_id}: found {found}, expected cells of weight 1 / inclusion probability"
            raise ValueError(message)
        calls = (Kind(cell.called_category, cell.called_cblc) for cell in patient.cells if cell.called_countable)
        if unknown := [kind for kind in calls if kind not in kinds]:
            found = f"{unknown[0].category!r}, {'CBLC' if unknown[0].cblc else 'not CBLC'}"
            message = (
                f"patient {patient.patient_id}: found a cell called {found} and countable, expected a call that a code "
                "of the vocabulary has; predict the patient again"
            )
            raise ValueError(message)


def _kind(code: str | None, vocabulary: Vocabulary) -> Kind | None:
    """Kind of a named cell; None for what is not countable, and for what is not a cell."""
    facts = vocabulary.codes[code] if code is not None else None
    return Kind(facts.category, facts.cblc) if facts is not None and facts.countable else None


def _table(counts: IntArray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in counts.tolist())
