"""Who was measured: the patients and cells by center (a paper's Table 1), and how many were left out, and why.

A flow is a chain of boxes: what comes into a box is what the box before held, less what was left out by reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.evaluate.frames import ALL_CENTERS
from marrowscope.evaluate.patient_scores import diagnosed
from marrowscope.evaluate.subgroups import ATTRIBUTES, SUBGROUP_NOT_STATED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.evaluate.link import EvaluateConfig, LinkedCells

PATIENTS, FIELDS, EXPERT_CELLS, PER_PATIENT, RATIO = (
    "patients",
    "fields",
    "expert cells",
    "expert cells per patient",
    "annotated CBLC ratio",
)


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One cell of Table 1: a count ``n`` with its ``share`` of the center's patients, or a median with quartiles."""

    center: str
    name: str
    value: str
    n: int | None = None
    share: float | None = None
    median: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None


@dataclass(frozen=True, slots=True)
class FlowBox:
    """A box of a flow: what it holds, how many, and what was left out before it, by reason."""

    name: str
    n: int
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """A chain of boxes. Raises ValueError if a box does not hold the one before it less what was left out."""

    key: str
    boxes: tuple[FlowBox, ...]

    def __post_init__(self) -> None:
        """Check that nothing is lost between two boxes."""
        for before, box in zip(self.boxes[:-1], self.boxes[1:], strict=True):
            lost = sum(n for _, n in box.left_out)
            if before.n - lost != box.n:
                message = (
                    f"{self.key}: found {box.n} {box.name}, expected {before.n} {before.name} less {lost} left out"
                )
                raise ValueError(message)


def characteristics(linked: LinkedCells) -> tuple[Characteristic, ...]:
    """Describe the compared patients and their expert cells, center by center and, with several, over all."""
    names = sorted(set(linked.ratios["center"]))
    groups = [(name, pl.col("center") == name) for name in names]
    if len(names) > 1:
        groups.append((ALL_CENTERS, pl.lit(value=True)))
    levels = {name: _levels(linked.ratios, name) for name in ATTRIBUTES}
    rows = []
    for center, here in groups:
        patients, cells = linked.ratios.filter(here), linked.expert.filter(here)
        rows.append(Characteristic(center, PATIENTS, "", n=len(patients)))
        for name, values in levels.items():
            stated = _stated(patients, name)
            rows += [
                Characteristic(center, name.replace("_", " "), value, n=n, share=n / len(patients))
                for value in values
                for n in [int((stated == value).sum())]
            ]
        fields = pl.concat([cells["field_id"], linked.detections.filter(here)["field_id"]]).n_unique()
        rows.append(Characteristic(center, FIELDS, "", n=fields))
        rows.append(Characteristic(center, EXPERT_CELLS, "", n=len(cells)))
        per_patient = patients.select("patient_id").join(
            cells.group_by("patient_id").len(), on="patient_id", how="left"
        )["len"]
        rows.append(_spread(center, PER_PATIENT, per_patient.fill_null(0).cast(pl.Float64)))
        rows.append(_spread(center, RATIO, patients["true_ratio"].drop_nulls()))
    return tuple(rows)


def flows(
    linked: LinkedCells,
    config: EvaluateConfig,
    *,
    n_patients: int,
    n_rejected_patients: Mapping[str, int],
    n_contours: int,
    n_rejected_contours: Mapping[str, int],
) -> tuple[Flow, ...]:
    """Count patients and cells from what the cohort and the run have to what each kind of figure uses.

    ``n_patients`` rows of patients.csv, of which those in ``n_rejected_patients`` could not be used; ``n_contours``
    of the whole run, with the rejections of its quality rules.
    """
    ratios, expert = linked.ratios, linked.expert
    readable = n_patients - sum(n_rejected_patients.values())
    start = (
        FlowBox("rows of patients.csv", n_patients),
        FlowBox("patients with images", readable, _by_reason(n_rejected_patients)),
        FlowBox(
            "patients compared",
            len(ratios),
            (("no annotated field that the run has", readable - len(ratios)),),
        ),
    )
    annotated = ratios.drop_nulls("true_ratio")
    both = annotated.drop_nulls("predicted_ratio")
    known = diagnosed(ratios, config)
    counted = known.drop_nulls("run_ratio")
    n_aml = int(counted["is_aml"].sum())
    whole = expert.filter(~pl.col("cut"))
    seen, found = whole.filter(pl.col("found_before_rules") | pl.col("found")), whole.filter("found")
    decided = found.drop_nulls("cblc")
    kept = n_contours - sum(n_rejected_contours.values())
    return (
        Flow(
            "patients_ratio",
            (
                *start,
                FlowBox(
                    "patients in the figures of the ratio",
                    len(both),
                    (
                        ("no annotated ratio", len(ratios) - len(annotated)),
                        ("no counted ratio", len(annotated) - len(both)),
                    ),
                ),
            ),
        ),
        Flow(
            "patients_aml",
            (
                *start,
                FlowBox(
                    f"patients in the figures of AML ({n_aml} with AML, {len(counted) - n_aml} without)",
                    len(counted),
                    (("no diagnosis", len(ratios) - len(known)), ("no counted ratio", len(known) - len(counted))),
                ),
            ),
        ),
        Flow(
            "expert_cells",
            (
                FlowBox("expert cells of the compared fields", len(expert)),
                FlowBox(
                    "expert cells in the figures of all expert cells",
                    len(whole),
                    (("cut by the image edge", len(expert) - len(whole)),),
                ),
                FlowBox(
                    "expert cells in the figures of matched cells",
                    len(found),
                    (
                        ("not found by the segmenter", len(whole) - len(seen)),
                        ("found, left out by the quality rules", len(seen) - len(found)),
                    ),
                ),
                FlowBox(
                    "expert cells in the figures of p(CBLC)",
                    len(decided),
                    (("a coarse label leaves CBLC open", len(found) - len(decided)),),
                ),
            ),
        ),
        Flow(
            "contours",
            (
                FlowBox("contours of the whole run", n_contours),
                FlowBox("cells of the whole run", kept, _by_reason(n_rejected_contours)),
            ),
        ),
    )


def _by_reason(rejected: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((reason.replace("_", " "), n) for reason, n in sorted(rejected.items()))


def _stated(patients: pl.DataFrame, name: str) -> pl.Series:
    text = patients[name].str.strip_chars().fill_null("")
    return text.replace("", SUBGROUP_NOT_STATED)


def _levels(patients: pl.DataFrame, name: str) -> Sequence[str]:
    """Return the values of an attribute, "not stated" last; none if no patient states it."""
    found = set(_stated(patients, name))
    levels = sorted(found - {SUBGROUP_NOT_STATED})
    return [*levels, *([SUBGROUP_NOT_STATED] if levels and SUBGROUP_NOT_STATED in found else [])]


def _spread(center: str, name: str, values: pl.Series) -> Characteristic:
    if values.is_empty():
        return Characteristic(center, name, "")
    lower, median, upper = (values.quantile(share, "linear") for share in (0.25, 0.5, 0.75))
    return Characteristic(center, name, "", median=median, lower_quartile=lower, upper_quartile=upper)
