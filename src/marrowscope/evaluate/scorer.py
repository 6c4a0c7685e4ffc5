"""A measured figure and its interval: values are summed or weighted per patient, and patients are resampled.

A figure that the data do not define (one class only, no AML) has the value NaN, with the reason in ``undefined``.
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
"""A bootstrap over fewer patients has few distinct resamples: its interval is too narrow and is marked."""

_VALUES_AT_ONCE = 30_000
"""Rows times resamples processed at once, to fit in the CPU cache (2 million took 7 times as long)."""

INTERVAL_NATURE = (
    "95% percentile bootstrap over patients: whole patients are resampled with all their cells, because the cells of "
    "one patient are alike. It shows how a figure would vary with other patients of the same center, but nothing about "
    "other centers, other scanners or disagreement between experts. With fewer than 5 patients it is too narrow "
    "(marked *); with one patient there is none. If every resample gives the same value (marked =), the interval has "
    "zero width and says nothing about the error."
)


@dataclass(frozen=True, slots=True)
class Remark:
    """Why a figure must not be taken at face value: a key of ``catalog.WARNINGS``, and the words for this figure."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its interval; ``reference`` is the value of "all negative", n counts the kind's unit.

    ``note`` says what it is based on, ``warning`` why not to take it at face value, ``undefined`` why it has no value.
    ``same_as`` is the key of the figure that this one repeats, if the two are necessarily equal on these data.
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
        """The figure's entry in the catalog."""
        return CATALOG[self.key]

    @property
    def marks(self) -> str:
        """``*`` for fewer than five patients, ``=`` for an interval of zero width; empty without a value."""
        if math.isnan(self.value.estimate):
            return ""
        return ("*" if self.n_patients < FEW_PATIENTS else "") + ("=" if self.value.lower == self.value.upper else "")


class Scorer:
    """Bootstrap over ``patients``; arrays with one row per patient are in that order."""

    def __init__(self, patients: Sequence[str], n_resamples: int, seed: int) -> None:
        self.patients = list(patients)
        self._position = {patient: index for index, patient in enumerate(self.patients)}
        self._n_resamples, self._seed = n_resamples, seed

    def positions(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Return the position of each row's patient."""
        return np.array([self._position[patient] for patient in frame["patient_id"]], dtype=np.int64)

    def sum_by_patient(self, frame: pl.DataFrame, values: RealArray) -> RealArray:
        """Sum one value per row over each patient's rows."""
        sums = np.bincount(self.positions(frame), weights=values, minlength=len(self.patients))
        return sums.astype(np.float64)

    def of_sums(self, sums: NDArray[ScalarT], statistic: Callable[[NDArray[ScalarT]], float]) -> Interval:
        """Compute the interval of a statistic of the sums over patients."""
        return bootstrap_sums(sums, statistic, n_resamples=self._n_resamples, seed=self._seed)

    def of_columns(
        self, sums: NDArray[ScalarT], statistic: Callable[[NDArray[ScalarT]], NDArray[np.float64]]
    ) -> list[Interval]:
        """Compute the intervals of many statistics of the sums: all resamples in, (resamples, statistics) out."""
        return bootstrap_columns(sums, statistic, n_resamples=self._n_resamples, seed=self._seed)

    def of_weights(self, frame: pl.DataFrame, statistic: Callable[[RealArray, RealArray], RealArray]) -> list[Interval]:
        """Compute the intervals of statistics of weighted rows, for figures that are not functions of sums.

        ``statistic`` takes how often each row of ``frame`` counts (m, n_rows) and how often each patient is drawn
        (m, n_patients), and returns (m, k).
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
        """Make a figure from a value measured on the rows of ``frame``; KeyError for a key without a catalog entry.

        ``undefined`` is used only if the value is NaN. ``is_repetition``: the figure is necessarily equal to the one it
        repeats.
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
