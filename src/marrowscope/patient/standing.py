"""What may be printed for a patient: whether the center's error rates are known, and on what grounds.

Three states, the same on every surface:

1. ``validated``: error rates were measured in this center. Corrected ratio, interval and, with a study threshold, call.
2. ``not_validated``: the cells were counted, and nobody knows how well here. The machine's count alone.
3. ``out_of_depth``: images or cells too far from what the bundle was trained on. Counts by category, no ratio.

Rates of another center are never applied: in one hospital, they made the ratio's error three times that of counting.
Nor are they applied to another specimen: rates and prior of marrow smears say nothing about blood, and a patient whose
center or specimen is not stated cannot be held against any.
Simulated centers count as measured by a bundle of simulated cells, since one simulator drew both; but a simulated
patient whose specimen is stated as another than that of the rates (marrow, which `simulate` draws) is not validated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from marrowscope.records import MARROW, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from marrowscope.patient.depth import Depth
    from marrowscope.patient.quantify.quantification import Quantification
    from marrowscope.records import Specimen
    from marrowscope.runs.schemas import State, StateReason

MIN_PATIENTS, MAX_OUTSIDE = 30, 2
"""A center opens after 30 fully reviewed patients with at most 2 annotated ratios outside their intervals: coverage is
then at least 0.80 with one-sided 95% confidence (Clopper-Pearson: 28 of 30)."""


def is_open(n_patients: int, n_outside: int) -> bool:
    """Whether a center with ``n_outside`` of ``n_patients`` annotated ratios outside their intervals is open."""
    return n_patients >= MIN_PATIENTS and n_outside <= MAX_OUTSIDE


@dataclass(frozen=True, slots=True)
class MeasuredCenter:
    """A center's own rates, and how many of its ``n_patients`` reviewed ratios lay outside their intervals.

    ``specimen`` is that of its patients; marrow where an older bundle does not say.
    """

    quantification: Quantification
    n_patients: int
    n_outside: int
    specimen: Specimen = MARROW

    @property
    def is_open(self) -> bool:
        """Whether corrected ratios may be printed there."""
        return is_open(self.n_patients, self.n_outside)


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """All error rates of a bundle: those of all patients together, and those of each center."""

    pooled: Quantification | None = None
    centers: Mapping[str, MeasuredCenter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """A patient's state, the key of its reason, the rates to correct with (state 1 alone), and the center's review."""

    state: State
    reason: StateReason
    quantification: Quantification | None = None
    center: MeasuredCenter | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether every photograph of the patient is simulated."""
        return self.reason in {"simulated", "simulated_specimen", "simulated_photographs"}

    def row(self) -> dict[str, Any]:
        """Return the columns of the patients table."""
        return {
            "state": self.state,
            "state_reason": self.reason,
            "center_n_reviewed": self.center.n_patients if self.center else None,
            "center_n_outside": self.center.n_outside if self.center else None,
            "center_specimen": self.center.specimen if self.center else None,
        }


def standing_of(
    center: str,
    fields: pl.DataFrame,
    measured: MeasuredRates,
    depth: Depth | None = None,
    *,
    specimen: str = MARROW,
) -> Standing:
    """Decide the state of a patient of ``center`` from the patient's rows of the fields table, and from its depth.

    Out of depth comes first: rates measured on other images say nothing about these.
    """
    if depth is not None and (reason := depth.reason) is not None:
        return Standing("out_of_depth", reason)
    read = fields.filter(fields["status"] == "ok")
    n_simulated = int(read["simulated"].fill_null(value=False).sum())
    if n_simulated:
        if n_simulated < len(read):
            return Standing("not_validated", "mixed_photographs")
        return _standing_of_simulated(measured.pooled, specimen)
    if measured.centers and _is_unknown(center):
        return Standing("not_validated", "center_unknown")
    return _standing_of_center(measured.centers.get(center), measured, specimen)


def _standing_of_simulated(pooled: Quantification | None, specimen: str) -> Standing:
    """Decide of a simulated patient: the rates hold for the specimen they were drawn of, or if none is stated."""
    if pooled is None or not pooled.simulated:
        return Standing("not_validated", "simulated_photographs")
    if _is_unknown(specimen):
        return Standing("validated", "simulated", pooled)
    if specimen.strip().casefold() == pooled.specimen:
        return Standing("validated", "simulated", pooled.of_specimen(pooled.specimen))
    return Standing("not_validated", "simulated_specimen")


def _is_unknown(stated: str) -> bool:
    return stated.strip().casefold() in {"", UNKNOWN}


def _standing_of_center(own: MeasuredCenter | None, measured: MeasuredRates, specimen: str) -> Standing:
    if own is None:
        return Standing("not_validated", "no_rates" if measured.pooled is None else "other_centers")
    if specimen.strip().casefold() != own.specimen.casefold():
        return Standing("not_validated", "other_specimen", center=own)
    if own.is_open:
        return Standing("validated", "center_measured", own.quantification, own)
    return Standing("not_validated", "center_not_open", center=own)
