"""The schemas of a run's tables, in one place: name, type, unit and meaning of every column.

``fields`` has a row per image or region of a slide (including failed ones), ``cells`` a row per predicted contour
(including rejected ones, with the reason), ``patients`` a row per patient. A run with slides also has ``regions``, with
a row per region of their plans. Each table is a record whose attributes are the columns. The polars schemas here, the
JSON Schema of run.json (report/run_json.py) and the columns in docs/tables.md are made from these records. A missing
value is ``None``. Columns added later must allow it, because the tables of older runs lack them.

Longer than 400 lines: it is a list of columns, and each has its one home here.
"""

from __future__ import annotations

import math
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import polars as pl
from pydantic import ConfigDict, Field, ValidationError, create_model

from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.config import FrozenModel, rule_of
from marrowscope.errors import RunError
from marrowscope.records import SPECIMENS

SCHEMA_VERSION = 4

Call = Literal["above", "below", "indeterminate", "no_call", "withheld"]
CallReason = Literal["few_nucleated", "few_cells", "few_fields", "lymphoid", "rates_too_close", "no_countable_cell"]
CorrectionNote = Literal["none_called", "within_false_positive_rate", "rates_too_close"]
Adequacy = Literal["under_300", "300_to_499", "500_or_more"]
State = Literal["validated", "not_validated", "out_of_depth"]
StateReason = Literal[
    "simulated",
    "center_measured",
    "no_rates",
    "other_centers",
    "center_not_open",
    "center_unknown",
    "other_specimen",
    "simulated_photographs",
    "simulated_specimen",
    "mixed_photographs",
    "depth_stain",
    "depth_background",
    "depth_sharpness",
    "depth_erythrocyte_diameter_um",
    "depth_contradictions",
    "depth_middling",
    "depth_uncertainty",
    "depth_embedding_distance",
    "depth_member_spread",
    "depth_not_measured",
]
"""What may be printed for a patient, and why; ``patient.standing`` decides. ``depth_``: the score of ``patient.depth``
that is farthest beyond its limit."""
CALLS: tuple[str, ...] = get_args(Call)
CALL_REASONS: tuple[str, ...] = get_args(CallReason)
CORRECTION_NOTES: tuple[str, ...] = get_args(CorrectionNote)

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, json_schema_extra={"unit": "0-1"})]
"""A ratio, 0-1, never percent."""


class Row(FrozenModel):
    """Base of the tables' records: frozen, no undefined columns, and every key is in the document."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


RowT = TypeVar("RowT", bound=Row)


def column(about: str, unit: str | None = None) -> Any:  # noqa: ANN401 - what pydantic takes as a field's definition
    """Describe one column: its content, and its unit if it has one."""
    return Field(description=about, json_schema_extra=None if unit is None else {"unit": unit})


class FieldRow(Row):
    """One field of view: a row of fields.parquet."""

    field_id: str = column("patient_id/name of the image, plus the position of a slide's region")
    patient_id: str = column("the patient")
    center: str = column("the center of the patient")
    path: str = column("where the image was when it was predicted")
    sha256: str | None = column("SHA-256 of the file at path")
    width_px: Count | None = column("size as predicted", "px")
    height_px: Count | None = column("size as predicted", "px")
    region_x_px: Count | None = column("left edge in its slide; null for a photograph", "px")
    region_y_px: Count | None = column("top edge in its slide; null for a photograph", "px")
    um_per_px: float | None = column("scale; null if unknown", "um/px")
    simulated: bool | None = column("the file says that `marrowscope simulate` drew it; null if it was not read")
    status: str = column("ok or failed")
    error: str | None = column("why the image could not be read")
    n_contours: Count | None = column("contours found, including rejected ones")
    n_rejected_too_small: Count | None = column("contours rejected: area too small")
    n_rejected_too_large: Count | None = column("contours rejected: area too large")
    n_rejected_not_round: Count | None = column("contours rejected: circularity too low")
    n_rejected_edge: Count | None = column("contours rejected: cut by the image's edge")
    n_rejected_overlap: Count | None = column("contours rejected: a second contour of a cell; null in older runs")
    n_split: Count | None = column("masks with several parts, of which the largest was kept")
    n_cells: Count | None = column("contours that were kept")
    sharpness: float | None = column("steepness of the steepest edges", "1/um")
    background: float | None = column("gray level of the empty slide", "0-1")
    clipped: float | None = column("share of pixels at the end of the gray scale", "0-1")
    od_red: float | None = column("mean optical density of the stained foreground, red", "OD")
    od_green: float | None = column("mean optical density of the stained foreground, green", "OD")
    od_blue: float | None = column("mean optical density of the stained foreground, blue", "OD")
    stain_distance: float | None = column(
        "Mahalanobis distance of the three densities from the training fields; null without a reference"
    )
    erythrocyte_diameter_um: float | None = column(
        "median diameter of the measured erythrocytes by the stated scale; null with fewer than 3 of them", "um"
    )
    n_erythrocytes: Count | None = column("erythrocytes measured: whole, single and round; null in older runs")
    flags: tuple[str, ...] | None = column("quality flags that this field raised")


class _CellRow(Row):
    """One contour: a row of cells.parquet."""

    cell_id: str = column("stable: the same image and contour give the same id")
    field_id: str = column("the field it is in")
    patient_id: str = column("the patient")
    contour_xy: tuple[float, ...] = column(
        "x0, y0, x1, y1, ... of the contour; the first pixel's center is (0, 0)", "px"
    )
    score: float | None = column("the segmenter's confidence", "0-1")
    area_um2: float | None = column("area; null without a scale", "um2")
    circularity: float | None = column("4 pi area / perimeter squared", "0-1")
    reject_reason: str | None = column("the quality rule that rejected it; null for a kept cell")
    p_cblc: Share | None = column("probability of a Composite Blast-like Cell, over the combinations that codes have")
    p_countable: Share | None = column("probability of being in the denominator of the CBLC ratio")
    p_category: tuple[float, ...] | None = column("probability of each category, in the vocabulary's order", "0-1")
    category: str | None = column("the category called")
    is_cblc: bool | None = column("called CBLC: p_cblc is at least 0.5")
    is_countable: bool | None = column("called countable")
    contradiction: bool | None = column("the heads contradict each other")
    member_spread: float | None = column(
        "standard deviation of p_cblc over the classifiers; null if there is only one", "0-1"
    )
    p_plasma: Share | None = column("probability of a plasma cell; null if the bundle does not predict them")
    is_plasma: bool | None = column("called a plasma cell, within the category of plasma cells; null as p_plasma")
    embedding_distance: float | None = column(
        "squared Mahalanobis distance per dimension from the training cells of its category; null without statistics"
    )


_MORPHOLOGY: Any = {
    name: (float | None, column(measure.meaning, measure.unit)) for name, measure in MORPHOLOGY_COLUMNS.items()
}
CellRow = create_model("CellRow", __base__=_CellRow, __doc__=_CellRow.__doc__, **_MORPHOLOGY)


class Rejected(Row):
    """Contours rejected by a quality rule."""

    reason: str = column("the rule")
    n: Count = column("how many")


class CategoryShare(Row):
    """One category of the differential."""

    category: str = column("the category")
    lineage: str = column("its lineage")
    n: Count = column("cells of the category")
    n_countable: Count = column("those in the denominator of the CBLC ratio")
    share: Share | None = column("n_countable over all countable cells")
    n_nucleated: Count = column("those in the nucleated differential")
    share_nucleated: Share | None = column(
        "n_nucleated over all nucleated cells; in blood over all leukocytes, null for erythroid cells"
    )
    lower: Share | None = column("lower 95% limit of share_nucleated")
    upper: Share | None = column("upper 95% limit of share_nucleated")
    reference_low: Share | None = column("lower end of the reference range; adult marrow only")
    reference_high: Share | None = column("upper end of the reference range; adult marrow only")
    reference_mark: str | None = column("S taken from a source, K general knowledge, I inference")


class CblcCount(Row):
    """The cells called CBLC of one category."""

    category: str = column("the category")
    codes: tuple[str, ...] = column("its CBLC codes")
    n: Count | None = column("cells of the category called CBLC; null where out of depth")


class LineageShare(Row):
    """One lineage of the differential."""

    lineage: str = column("the lineage")
    n: Count = column("its nucleated cells")
    share: Share | None = column("n over all nucleated cells")
    lower: Share | None = column("lower 95% limit of share")
    upper: Share | None = column("upper 95% limit of share")
    reference_low: Share | None = column("lower end of the reference range; adult marrow only")
    reference_high: Share | None = column("upper end of the reference range; adult marrow only")
    reference_mark: str | None = column("S taken from a source, K general knowledge, I inference")


class DepthCheck(Row):
    """One score of how unlike the training images and cells a patient is, beside the bundle's domain."""

    score: str = column("the score; distance is the sum that decides")
    value: float | None = column("what was measured; null if it could not be")
    usual: float | None = column("mean of the patients that the domain was set on")
    lower_limit: float | None = column("below it, this score alone puts out of depth; null without such a limit")
    upper_limit: float | None = column("above it, this score alone puts out of depth; null without such a limit")

    @property
    def is_made(self) -> bool:
        """Whether there were a value and a limit to hold it against."""
        return self.value is not None and (self.lower_limit is not None or self.upper_limit is not None)


class RaisedFlag(Row):
    """A quality flag that was raised."""

    flag: str = column("the flag")
    value: float | None = column("what was measured")
    limit: float | None = column("the limit it crossed")
    n_fields: Count | None = column("fields that raised it; null for a flag of the patient")


class PatientRow(Row):
    """One patient: a row of patients.parquet."""

    patient_id: str = column("as in patients.csv")
    center: str = column("as in patients.csv")
    diagnosis: str = column("as stated in patients.csv")
    specimen: str = column("marrow or blood, as stated; unknown where nobody stated it")
    age_group: str | None = column("as stated")
    sex: str | None = column("as stated; null in older runs")
    state: State | None = column("what may be printed: validated, not_validated or out_of_depth; null in older runs")
    state_reason: StateReason | None = column("why the patient is in this state")
    center_n_reviewed: Count | None = column("patients of the center whose rates were measured; null if none were")
    center_n_outside: Count | None = column("of those, with an annotated ratio outside its interval")
    center_specimen: str | None = column("specimen of those patients: marrow or blood; null in older runs")
    depth: tuple[DepthCheck, ...] | None = column("how unlike the training images and cells; null in older runs")
    fitting_um_per_px: float | None = column(
        "scale at which the erythrocytes would be 7.5 um; null unless their size is beyond its limit", "um/px"
    )
    simulated_only: tuple[str, ...] | None = column(
        "categories, and plasma, that the bundle learned from simulated cells only; null if its sources are not known"
    )
    simulated_only_codes: tuple[str, ...] | None = column(
        "of the raw codes M, M1, R, R1, R2, J and J1, those learned from simulated cells only; null as simulated_only"
    )
    n_fields: Count = column("images of the patient")
    n_fields_failed: Count = column("images that could not be read")
    n_fields_counted: Count | None = column("fields with a countable cell: the K of the interval")
    erythrocyte_diameter_um: float | None = column(
        "median diameter of the measured erythrocytes by the stated scale; null with fewer than 20 of them", "um"
    )
    n_erythrocytes: Count | None = column("erythrocytes behind that diameter; null in older runs")
    n_contours: Count = column("contours found")
    n_rejected: Count = column("contours rejected by the quality rules")
    rejected: tuple[Rejected, ...] = column("rejected contours by rule")
    n_cells: Count = column("contours that were kept")
    n_countable: Count = column("denominator of the CBLC ratio")
    n_not_countable: Count = column("kept cells not in that denominator")
    n_cblc: Count | None = column("numerator of the CBLC ratio; null where out of depth, where none may be printed")
    n_contradictions: Count = column("cells whose heads contradict each other")
    cblc_ratio: Share | None = column("n_cblc over n_countable; null where out of depth")
    cblc_ratio_lower: Share | None = column("Wilson's lower 95% limit, with cells treated as independent")
    cblc_ratio_upper: Share | None = column("Wilson's upper 95% limit, with cells treated as independent")
    ratio_all_unclassified_not_cblc: Share | None = column(
        "ratio with the cells that are not countable in the denominator"
    )
    ratio_all_unclassified_cblc: Share | None = column(
        "ratio with the cells that are not countable in numerator and denominator"
    )
    corrected_ratio: Share | None = column(
        "corrected for classifier and detection error; null if the bundle has no error rates"
    )
    corrected_lower: Share | None = column("lower 95% limit of corrected_ratio")
    corrected_upper: Share | None = column("upper 95% limit of corrected_ratio")
    interval_wide: bool | None = column(
        "the interval of corrected_ratio, or of cblc_ratio without it, is wider than 0.5: no single ratio is printed"
    )
    correction: str | None = column("name of the method: posterior; adjusted count in older runs")
    correction_note: CorrectionNote | None = column("remark on the correction; null if there is none")
    design_effect: float | None = column("variance of the counted share over that of independent cells")
    threshold: Share | None = column("study threshold of the bundle")
    threshold_lower: Share | None = column("lower limit of the threshold's interval")
    threshold_upper: Share | None = column("upper limit of the threshold's interval")
    threshold_n_patients: Count | None = column("patients the threshold was learned on; null if it was given")
    threshold_method: str | None = column("how the ratios were corrected that it was learned on; null in older runs")
    threshold_simulated: bool | None = column("those patients were simulated; null without a threshold")
    confidence_above: Share | None = column("probability that the true ratio exceeds the threshold")
    call: Call | None = column("null if the bundle has no threshold")
    call_reason: CallReason | None = column("why there is no clear call; null for above and below")
    call_depends_on_threshold: bool | None = column("the call changes within the threshold's interval")
    n_nucleated: Count = column("nucleated cells of the differential: its denominator, but in blood")
    n_leukocytes: Count | None = column("denominator of the differential in blood: the others but erythroid cells")
    nrbc_per_100: float | None = column("nucleated red cells per 100 leukocytes; blood only", "1/100")
    cblc_by_category: tuple[CblcCount, ...] | None = column("what n_cblc is made of; null in older runs")
    adequacy: Adequacy | None = column(
        "cells in the differential compared with the required number; marrow only, not for simulated photographs"
    )
    differential: tuple[CategoryShare, ...] = column("a row per category, Other last")
    other_parts: tuple[CategoryShare, ...] | None = column(
        "Other in two rows, plasma and other_without_plasma; null if plasma cells are not predicted"
    )
    lineages: tuple[LineageShare, ...] = column("a row per lineage")
    reference_source: str | None = column("source of the reference ranges; null if none are printed")
    me_numerator: Count | None = column("granulocytic + monocytic cells; marrow only")
    me_denominator: Count | None = column("erythroid cells")
    me_ratio: float | None = column("M:E; null without erythroid cells")
    me_lower: float | None = column("lower 95% limit of me_ratio")
    me_upper: float | None = column("upper 95% limit of me_ratio; also null if it has no bound")
    me_reference_low: float | None = column("lower end of the reference range")
    me_reference_high: float | None = column("upper end of the reference range")
    who_declared: str | None = column("apl, pure_erythroid_leukaemia, or null")
    who_n_least: Count | None = column("cells with calls whose codes all are myeloid blasts by the WHO's definition")
    who_n_most: Count | None = column("cells with calls some of whose codes are; null unless validated")
    who_not_learned: tuple[str, ...] | None = column(
        "raw codes that the blast estimate needs and the bundle did not learn from real cells; null if it needs none"
    )
    who_least: Share | None = column("who_n_least over all nucleated cells; in blood over all leukocytes")
    who_most: Share | None = column("who_n_most over the same cells")
    who_lower: Share | None = column("lower 95% limit of who_least, sampling error only")
    who_upper: Share | None = column("upper 95% limit of who_most, sampling error only")
    who_alt_least: Share | None = column(
        "who_least with promyelocytes, without them if who_declared is apl; null below 10% (blood 2%) promyelocytes"
    )
    who_alt_most: Share | None = column("who_most in the same way")
    who_alt_lower: Share | None = column("lower 95% limit of who_alt_least")
    who_alt_upper: Share | None = column("upper 95% limit of who_alt_most")
    lymphoid_share: Share | None = column("lymphoid over all nucleated cells")
    flags: tuple[RaisedFlag, ...] = column("quality flags that were raised")

    @property
    def has_specimen(self) -> bool:
        """Whether the specimen is known: what needs it is not shown otherwise."""
        return self.specimen.strip().casefold() in SPECIMENS


class RegionRow(Row):
    """One region of a slide's plan, read or not: a row of regions.parquet."""

    field_id: str = column("the region's field, if it was read")
    patient_id: str = column("the patient")
    path: str = column("the slide")
    sha256: str | None = column("SHA-256 of the file at path")
    um_per_px: float | None = column("scale at full resolution", "um/px")
    region_x_px: Count = column("left edge of the area read, in the slide", "px")
    region_y_px: Count = column("top edge of the area read, in the slide", "px")
    width_px: Count = column("width of the area read", "px")
    height_px: Count = column("height of the area read", "px")
    core_x0_px: Count = column("left edge of the core, whose cells belong to the region, in the slide", "px")
    core_y0_px: Count = column("top edge of the core", "px")
    core_x1_px: Count = column("right edge of the core, exclusive", "px")
    core_y1_px: Count = column("bottom edge of the core, exclusive", "px")
    place: Count | None = column("position in reading order, from 1; null if skipped")
    score: float | None = column("nuclei_share x clear_share; null if all regions are read without being measured")
    clear_share: Share | None = column("share of the core that is empty slide")
    nuclei_share: Share | None = column("share of the core that is nuclei")
    solid_share: Share | None = column("share of the core that is one piece of tissue")
    sharpness: float | None = column("steepness of the steepest edges; null if not measured or without edges", "1/um")
    reason_skipped: str | None = column("why it was not read, or enough_cells; null if it was read")


TableKind = Literal["fields", "cells", "patients", "regions"]
ROWS: dict[TableKind, type[Row]] = {
    "fields": FieldRow,
    "cells": CellRow,
    "patients": PatientRow,
    "regions": RegionRow,
}


def patient_row(values: dict[str, Any]) -> PatientRow:
    """Read a row of the patients table as a record, the source of pages, PDF and FHIR.

    Raises RunError naming the patient and the column that does not fit, or that is no finite number.
    """
    where = f"patients table, patient {values.get('patient_id')!r}"
    if column := _not_finite(values):
        message = (
            f"{where}, {column}: found NaN or infinity, expected a number or null; run `marrowscope predict` again"
        )
        raise RunError(message)
    return _checked(PatientRow, values, where)


def field_row(values: dict[str, Any]) -> FieldRow:
    """Read a row of the fields table as a record; NaN, which older runs wrote for an unknown measure, becomes null.

    Raises RunError naming the field and the column that does not fit.
    """
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
    return _checked(FieldRow, known, f"fields table, field {values.get('field_id')!r}")


def _checked(row: type[RowT], values: dict[str, Any], where: str) -> RowT:
    try:
        return row.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        message = (
            f"{where}, {'.'.join(map(str, fault['loc']))}: found {fault['input']!r}, {rule_of(fault)}; "
            "run `marrowscope predict` again"
        )
        raise RunError(message) from error


def _not_finite(value: Any, name: str = "") -> str:  # noqa: ANN401 - any value of a row
    """Name the first number in ``value`` that is not finite, nested ones by their path; empty where all are."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else name
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next((found for key, part in inner if (found := _not_finite(part, f"{name}.{key}".strip(".")))), "")


def polars_schema(row: type[Row]) -> dict[str, pl.DataType]:
    """Return the polars types of a record's columns, in their order."""
    return {name: _polars_type(field.annotation) for name, field in row.model_fields.items()}


def share_columns(row: type[Row]) -> tuple[str, ...]:
    """Return the columns of a record that are a share or a limit of one."""
    return tuple(name for name, field in row.model_fields.items() if Share in get_args(field.annotation))


def required_columns(row: type[Row]) -> frozenset[str]:
    """Return the columns that are never null."""
    return frozenset(name for name, field in row.model_fields.items() if type(None) not in get_args(field.annotation))


def _polars_type(annotation: Any) -> pl.DataType:  # noqa: ANN401 - any type hint
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _polars_type(arguments[0])
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _polars_type(inner)
    if origin is tuple:
        return pl.List(_polars_type(arguments[0]))
    if origin is Literal:
        return pl.String()
    if isinstance(annotation, type) and issubclass(annotation, Row):
        return pl.Struct(polars_schema(annotation))
    return {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}[annotation]


FIELDS = polars_schema(FieldRow)
CELLS = polars_schema(CellRow)
PATIENTS = polars_schema(PatientRow)
_REGIONS = polars_schema(RegionRow)
SCHEMAS: dict[TableKind, dict[str, pl.DataType]] = {
    "fields": FIELDS,
    "cells": CELLS,
    "patients": PATIENTS,
    "regions": _REGIONS,
}
