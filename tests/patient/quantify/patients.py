"""Simulated patients whose error rates are known: what the tests of ``quantify`` measure against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marrowscope.patient.quantify.estimate import PatientCounts
from marrowscope.patient.quantify.rates import ErrorRates, Kind, kinds_of
from marrowscope.vocabulary import load_vocabulary

RealArray = NDArray[np.float64]
VOCABULARY = load_vocabulary()
KINDS = kinds_of(VOCABULARY)
IS_CBLC = np.array([kind.cblc for kind in KINDS])


def place(category: str, *, cblc: bool) -> int:
    """Column of a kind."""
    return KINDS.index(Kind(category, cblc))


N, M1, N5, R2 = place("N", cblc=True), place("M1", cblc=True), place("N5", cblc=False), place("R2", cblc=False)


def make_rates(
    by_kind: dict[int, float],
    *,
    n_patients: int = 40,
    cells: int = 200,
    spread: float = 0.0,
    found: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> ErrorRates:
    """Measure patients with the same number of cells of every kind of ``by_kind`` (kind to rate of CBLC calls).

    ``spread`` is the intra-patient correlation of the rates, ``found`` the recall of CBLC and of the others.
    """
    rng = np.random.default_rng(seed)
    annotated = np.zeros((n_patients, len(KINDS)), dtype=int)
    counted, called = annotated.copy(), annotated.copy()
    for patient in range(n_patients):
        for kind, rate in by_kind.items():
            own = rng.beta(rate * (1 / spread - 1), (1 - rate) * (1 / spread - 1)) if spread else rate
            annotated[patient, kind] = cells
            counted[patient, kind] = round(cells * found[0 if IS_CBLC[kind] else 1])
            n = counted[patient, kind]
            called[patient, kind] = rng.binomial(n, own) if spread else round(n * own)
    tables = (tuple(tuple(int(v) for v in row) for row in table) for table in (annotated, counted, called))
    first, second, third = tables
    return ErrorRates(
        kinds=KINDS,
        annotated=first,
        counted=second,
        called=third,
        correlation=0.02,
        wrongly_counted=(0,) * n_patients,
        wrong_calls=(0,) * len(KINDS),
    )


def make_counts(called: dict[int, int], n_fields: int = 10) -> PatientCounts:
    """Spread cells of called kinds evenly over fields."""
    x, total = sum(n for kind, n in called.items() if IS_CBLC[kind]), sum(called.values())
    return PatientCounts(np.full(n_fields, x / n_fields), np.full(n_fields, total / n_fields))
