"""A run as one JSON document: the manifest, every patient and every field; and the JSON Schema of that document.

The models mirror the tables of ``tables.py``, column by column. The schema made from them is published with the
package, ``data/run.schema.json``; cells, of which a run may have millions, are left to Parquet and CSV.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from marrowscope.disk import name_files, refuse_foreign_files, write_text
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.strings import load_strings
from marrowscope.runs.folder import RUN_KIND
from marrowscope.runs.manifest import Manifest
from marrowscope.runs.tables import read_table
from marrowscope.vocabulary import DATA_DIR

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_PATH = DATA_DIR / "run.schema.json"
SCHEMA_ID = "urn:marrowscope:schema:run:2"
FILE_NAME = "run.json"
TABLES_KIND = "tables"
"""What a folder is called that was made for a run's tables in other formats."""
KINDS_WITH_TABLES = (TABLES_KIND, RUN_KIND, "report")
"""Folders into which those tables are written; a file of that name in any other is something else."""


Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
"""A ratio, 0-1, never percent."""


class _Record(BaseModel):
    """Base of the models: frozen, a column without a definition refused; every key stands in the document."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Rejected(_Record):
    """Contours that a quality rule refused."""

    reason: str = Field(description="the rule")
    n: Count


class _Reference(_Record):
    reference_low: Share | None = Field(description="lower end of the reference range; adult marrow only")
    reference_high: Share | None = Field(description="upper end of the reference range; adult marrow only")
    reference_mark: str | None = Field(description="S taken from a source, K general knowledge, I inference")


class CategoryShare(_Reference):
    """One category of the differential."""

    category: str
    lineage: str
    n: Count = Field(description="cells of the category")
    n_countable: Count = Field(description="of them in the denominator of the CBLC ratio")
    share: Share | None = Field(description="n_countable over all countable cells")
    n_nucleated: Count = Field(description="of them in the nucleated differential")
    share_nucleated: Share | None = Field(description="n_nucleated over all nucleated cells")
    lower: Share | None = Field(description="lower 95% limit of share_nucleated")
    upper: Share | None = Field(description="upper 95% limit of share_nucleated")


class LineageShare(_Reference):
    """One lineage of the differential."""

    lineage: str
    n: Count
    share: Share | None = Field(description="n over all nucleated cells")
    lower: Share | None = Field(description="lower 95% limit of share")
    upper: Share | None = Field(description="upper 95% limit of share")


class RaisedFlag(_Record):
    """A quality flag that was raised."""

    flag: str
    value: float | None = Field(description="what was measured")
    limit: float | None = Field(description="the limit it broke")
    n_fields: Count | None = Field(description="fields that raised it; null for a flag of the patient's own")


class PatientRecord(_Record):
    """One patient: a row of patients.parquet."""

    patient_id: str
    center: str
    diagnosis: str = Field(description="as stated in patients.csv")
    specimen: str
    age_group: str | None
    n_fields: Count
    n_fields_failed: Count
    n_fields_counted: Count | None = Field(description="fields with a countable cell")
    n_contours: Count
    n_rejected: Count
    rejected: tuple[Rejected, ...]
    n_cells: Count
    n_countable: Count = Field(description="denominator of the CBLC ratio")
    n_not_countable: Count
    n_cblc: Count = Field(description="numerator of the CBLC ratio")
    n_contradictions: Count = Field(description="cells whose heads contradict each other")
    cblc_ratio: Share | None = Field(description="n_cblc over n_countable")
    cblc_ratio_lower: Share | None = Field(description="Wilson's lower 95% limit, cells taken as independent")
    cblc_ratio_upper: Share | None = Field(description="Wilson's upper 95% limit, cells taken as independent")
    ratio_all_unclassified_not_cblc: Share | None = Field(description="cells that are not countable in the denominator")
    ratio_all_unclassified_cblc: Share | None = Field(description="cells that are not countable in both")
    corrected_ratio: Share | None = Field(description="corrected for classifier and detection error")
    corrected_lower: Share | None = Field(description="lower 95% limit of corrected_ratio")
    corrected_upper: Share | None = Field(description="upper 95% limit of corrected_ratio")
    correction: str | None = Field(description="name of the method")
    correction_note: Literal["none_called", "within_false_positive_rate", "rates_too_close"] | None
    design_effect: float | None = Field(description="variance of the counted share over that of independent cells")
    threshold: Share | None = Field(description="study threshold of the bundle")
    threshold_lower: Share | None
    threshold_upper: Share | None
    confidence_above: Share | None = Field(description="share of the drawn ratios above the threshold")
    call: Literal["above", "below", "indeterminate", "no_call", "withheld"] | None
    call_reason: Literal["few_cells", "few_fields", "lymphoid", "rates_too_close", "no_countable_cell"] | None
    call_depends_on_threshold: bool | None = Field(description="the call changes within the threshold's interval")
    n_nucleated: Count = Field(description="denominator of the differential")
    adequacy: Literal["under_300", "300_to_499", "500_or_more"] | None = Field(description="adult marrow only")
    differential: tuple[CategoryShare, ...]
    lineages: tuple[LineageShare, ...]
    reference_source: str | None
    me_numerator: Count | None = Field(description="granulocytic + monocytic cells; adult marrow only")
    me_denominator: Count | None = Field(description="erythroid cells")
    me_ratio: float | None
    me_lower: float | None
    me_upper: float | None = Field(description="null also where the upper limit is not bounded")
    me_reference_low: float | None
    me_reference_high: float | None
    who_declared: str | None = Field(description="apl, pure_erythroid_leukaemia, or null")
    who_n_least: Count = Field(description="cells called as codes that the WHO's definition counts as myeloid blasts")
    who_n_most: Count = Field(description="cells that may be")
    who_least: Share | None
    who_most: Share | None
    who_lower: Share | None = Field(description="lower 95% limit of who_least")
    who_upper: Share | None = Field(description="upper 95% limit of who_most")
    lymphoid_share: Share | None
    flags: tuple[RaisedFlag, ...]


class FieldRecord(_Record):
    """One field of view: a row of fields.parquet."""

    field_id: str
    patient_id: str
    center: str
    path: str = Field(description="where the image was when it was predicted")
    sha256: str | None
    width_px: Count | None
    height_px: Count | None
    region_x_px: Count | None = Field(description="left edge in its slide; null for a photograph")
    region_y_px: Count | None = Field(description="top edge in its slide; null for a photograph")
    um_per_px: float | None
    status: str = Field(description="ok or failed")
    error: str | None
    n_contours: Count | None
    n_rejected_too_small: Count | None
    n_rejected_too_large: Count | None
    n_rejected_not_round: Count | None
    n_rejected_edge: Count | None
    n_split: Count | None = Field(description="masks of several parts, of which the largest was kept")
    n_cells: Count | None
    sharpness: float | None
    background: float | None
    clipped: float | None
    od_red: float | None
    od_green: float | None
    od_blue: float | None
    stain_distance: float | None
    flags: tuple[str, ...] | None = Field(description="quality flags that this field raised")


class RunDocument(_Record):
    """A run of `marrowscope predict`. For research use only; it does not diagnose."""

    document: Literal["marrowscope-run"] = "marrowscope-run"
    schema_version: Literal[3] = Field(default=3, description="version of the tables of tables.py")
    research_use: str
    created_utc: AwareDatetime = Field(description="when the run was made")
    manifest: Manifest
    patients: tuple[PatientRecord, ...]
    fields: tuple[FieldRecord, ...]


def run_document(run_dir: Path) -> RunDocument:
    """Read a run into its document. Raises RunError when ``run_dir`` is no finished run."""
    manifest = reportable_manifest(run_dir)
    return RunDocument.model_validate(
        {
            "research_use": load_strings()("research_use"),
            "created_utc": manifest.created_utc,
            "manifest": manifest,
            "patients": read_table(run_dir / "patients.parquet", "patients").to_dicts(),
            "fields": read_table(run_dir / "fields.parquet", "fields").to_dicts(),
        }
    )


def write_json(run_dir: Path, out: Path | None = None) -> Path:
    """Write ``run.json`` to ``out`` (default: the run's folder), whole; gives its path. NaN becomes null.

    Raises RunError when ``run_dir`` is no finished run, or a ``run.json`` is there that is not ours.
    """
    text = run_document(run_dir).model_dump_json(indent=1)
    folder = out or run_dir
    refuse_foreign_files(folder, KINDS_WITH_TABLES, [FILE_NAME])
    name_files(folder, TABLES_KIND, [FILE_NAME])
    path = folder / FILE_NAME
    write_text(path, text + "\n")
    return path


def schema_text() -> str:
    """Give the JSON Schema (draft 2020-12) of the document, as the published file holds it."""
    schema = RunDocument.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"
