"""A measured figure, and how its interval is made: everything is summed or weighed by patient, patients are resampled.

A figure that the data do not define (one class only, no AML) has the value NaN and says why in ``undefined``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.evaluate.catalog import CATALOG, FigureKind
from marrowscope.records import Interval
from marrowscope.statistics.intervals import ScalarT, bootstrap_columns, bootstrap_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from marrowscope.statistics.metrics import RealArray

FEW_PATIENTS = 5
"""A bootstrap over fewer patients has few different resamples: its interval is too narrow and is marked."""

_VALUES_AT_ONCE = 30_000
"""Rows times resamples worked on together: what stays in the processor's cache (2 million took 7 times as long)."""

INTERVAL_NATURE = (
    "95% percentile bootstrap over patients: whole patients are drawn again, with all their cells, because the cells "
    "of a patient are alike. It says how a figure would vary with other patients of the same center, nothing about "
    "other centers, other scanners or the experts' own disagreement. Below 5 patients it is too narrow (marked *); "
    "with one patient there is none. Where every resample gives the same value (marked =), the interval has no "
    "width and says nothing of the error."
)


@dataclass(frozen=True, slots=True)
class Remark:
    """What forbids to read a figure plainly: a key of ``catalog.WARNINGS``, and the words for this figure."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its interval; ``reference`` is the value of "all negative", n counts the kind's unit.

    ``note`` says what it stands on, ``warning`` what forbids to read it plainly, ``undefined`` why it has no value.
    ``same_as`` is the key of the figure that this one repeats, where the data let them be nothing but equal.
    """

    key: str
    value: Interval
    n: int
    n_patients: int
    reference: float | None = None
    note: str = ""
    warning: Remark | None = None
    undefined: str = ""
    same_as: str = ""

    @property
    def kind(self) -> FigureKind:
        """Give what the catalog says of the figure."""
        return CATALOG[self.key]

    @property
    def marks(self) -> str:
        """Give ``*`` for fewer than five patients, ``=`` for an interval without width; nothing without a value."""
        if math.isnan(self.value.estimate):
            return ""
        return ("*" if self.n_patients < FEW_PATIENTS else "") + ("=" if self.value.lower == self.value.upper else "")


class Scorer:
    """Bootstrap over ``patients``; arrays by patient have their rows in that order."""

    def __init__(self, patients: Sequence[str], n_resamples: int, seed: int) -> None:
        self.patients = list(patients)
        self._position = {patient: index for index, patient in enumerate(self.patients)}
        self._n_resamples, self._seed = n_resamples, seed

    def positions(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Give the patient's position of each row."""
        return np.array([self._position[patient] for patient in frame["patient_id"]], dtype=np.int64)

    def sum_by_patient(self, frame: pl.DataFrame, values: RealArray) -> RealArray:
        """Sum one value per row over each patient's rows."""
        sums = np.bincount(self.positions(frame), weights=values, minlength=len(self.patients))
        return sums.astype(np.float64)

    def of_sums(self, sums: NDArray[ScalarT], statistic: Callable[[NDArray[ScalarT]], float]) -> Interval:
        """Interval of a statistic of the sums added over patients."""
        return bootstrap_sums(sums, statistic, n_resamples=self._n_resamples, seed=self._seed)

    def of_columns(
        self, sums: NDArray[ScalarT], statistic: Callable[[NDArray[ScalarT]], NDArray[np.float64]]
    ) -> list[Interval]:
        """Intervals of many statistics of the sums: all resamples in, (resamples, statistics) out."""
        return bootstrap_columns(sums, statistic, n_resamples=self._n_resamples, seed=self._seed)

    def of_weights(self, frame: pl.DataFrame, statistic: Callable[[RealArray, RealArray], RealArray]) -> list[Interval]:
        """Intervals of statistics of weighed rows, for figures that are not made of sums.

        ``statistic`` takes how often each row of ``frame`` counts (m, n_rows) and how often each patient is drawn
        (m, n_patients), and gives (m, k).
        """
        position = self.positions(frame)
        return bootstrap_columns(
            np.eye(len(self.patients)),
            lambda times: statistic(times[:, position], times),
            block=max(1, _VALUES_AT_ONCE // max(1, len(frame))),
            n_resamples=self._n_resamples,
            seed=self._seed,
        )

    def figure(
        self,
        key: str,
        value: Interval,
        frame: pl.DataFrame,
        *,
        reference: float | None = None,
        note: str = "",
        warning: Remark | None = None,
        undefined: str = "",
        is_repetition: bool = False,
    ) -> Figure:
        """Make a figure of a value measured on the rows of ``frame``; KeyError for a key without a catalog entry.

        ``undefined`` is used only where the value is NaN. ``is_repetition``: the figure can only be equal to the one
        it repeats.
        """
        kind = CATALOG[key]
        nothing = f"no {kind.unit.many} to measure"
        reason = (undefined or nothing) if math.isnan(value.estimate) else ""
        if frame.is_empty() and not undefined:
            reason = nothing
        if reason:
            value = Interval(math.nan, math.nan, math.nan)
        return Figure(
            key=key,
            value=value,
            n=len(frame),
            n_patients=frame["patient_id"].n_unique(),
            reference=reference,
            note=note,
            warning=warning,
            undefined=reason,
            same_as=kind.repeats if is_repetition else "",
        )
