"""A run as one JSON document: the manifest, every patient and every field; and the JSON Schema of that document.

Patients and fields are the records of ``runs/schemas.py``. The schema made from them is published with the package,
``data/run.schema.json`` (benchmarks/table_files.py writes it); cells, of which a run may have millions, are left to
Parquet and CSV.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from marrowscope.disk import name_files, refuse_foreign_files, write_text
from marrowscope.report.patient_tables import read_patients
from marrowscope.report.problems import PatientProblem, attempt, tell
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.strings import load_strings
from marrowscope.runs.folder import RUN_KIND
from marrowscope.runs.manifest import Manifest
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import SCHEMA_VERSION, FieldRow, PatientRow, Row, field_row
from marrowscope.vocabulary import DATA_DIR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCHEMA_PATH = DATA_DIR / "run.schema.json"
_SCHEMA_ID = f"urn:marrowscope:schema:run:{SCHEMA_VERSION}"
_FILE_NAME = "run.json"
TABLES_KIND = "tables"
"""The kind of a folder made for a run's tables in other formats."""
KINDS_WITH_TABLES = (TABLES_KIND, RUN_KIND, "report")
"""Kinds of folders to which those tables are written; in any other folder, a file of that name is something else."""


class LeftOut(Row):
    """A row of a table that this document lacks, since it cannot be read: a patient's own, or one of their fields."""

    patient_id: str = Field(description="the patient")
    reason: str = Field(description="what was found, what was expected, and what to do")


class RunDocument(Row):
    """A run of `marrowscope predict`. For research use only; it does not diagnose."""

    document: Literal["marrowscope-run"] = "marrowscope-run"
    schema_version: int = Field(
        default=SCHEMA_VERSION, description="version of the tables", json_schema_extra={"const": SCHEMA_VERSION}
    )
    research_use: str
    created_utc: AwareDatetime = Field(description="when the run was made")
    manifest: Manifest
    patients: tuple[PatientRow, ...]
    fields: tuple[FieldRow, ...]
    left_out: tuple[LeftOut, ...] = Field(description="rows of patients and fields that cannot be read; empty if none")


def _run_document(run_dir: Path) -> tuple[RunDocument, list[PatientProblem]]:
    """Read a run into its document, and what does not fit into it. Raises RunError when ``run_dir`` is no finished run.

    A row that does not fit is left out: of a patient's row, or of one field's.
    """
    manifest = reportable_manifest(run_dir)
    rows, problems = read_patients(read_table(run_dir / "patients.parquet", "patients"))
    fields: list[FieldRow] = []
    for values in read_table(run_dir / "fields.parquet", "fields").iter_rows(named=True):
        read = attempt(str(values["patient_id"]), partial(field_row, values))
        if isinstance(read, PatientProblem):
            problems.append(read)
        else:
            fields.append(read)
    document = RunDocument(
        research_use=load_strings()("research_use"),
        created_utc=datetime.fromisoformat(manifest.created_utc),
        manifest=manifest,
        patients=tuple(rows),
        fields=tuple(fields),
        left_out=tuple(LeftOut(patient_id=problem.patient_id, reason=problem.reason) for problem in problems),
    )
    return document, problems


def write_json(
    run_dir: Path, out: Path | None = None, *, on_problem: Callable[[PatientProblem], None] | None = None
) -> Path:
    """Write ``run.json`` to ``out`` (default: the run's folder), whole; gives its path.

    The NaN of an unknown measure of a field becomes null. A row that cannot be read is named under ``left_out`` and
    goes to ``on_problem``; without it, ReportError is raised at the end. Raises RunError when ``run_dir`` is no
    finished run, or a ``run.json`` is there that is not ours.
    """
    document, problems = _run_document(run_dir)
    text = document.model_dump_json(indent=1)
    folder = out or run_dir
    refuse_foreign_files(folder, KINDS_WITH_TABLES, [_FILE_NAME])
    name_files(folder, TABLES_KIND, [_FILE_NAME])
    path = folder / _FILE_NAME
    write_text(path, text + "\n")
    tell(problems, on_problem)
    return path


def schema_text() -> str:
    """Return the JSON Schema (draft 2020-12) of the document, as in the published file: a line for each record."""
    schema = RunDocument.model_json_schema(mode="serialization")
    records = schema.pop("$defs")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": _SCHEMA_ID}
    lines = [f"{_compact(name)}:{_compact(_untitled(value))}" for name, value in (head | schema).items()]
    parts = ",\n".join(f"{_compact(name)}:{_compact(_untitled(value))}" for name, value in records.items())
    return "{\n" + ",\n".join([*lines, '"$defs":{\n' + parts + "\n}"]) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _untitled(schema: object) -> object:
    """Return a schema without the titles that were made from the names, which the keys say already."""
    if isinstance(schema, dict):
        kept = {name: value for name, value in schema.items() if name != "title" or not isinstance(value, str)}
        return {name: _untitled(value) for name, value in kept.items()}
    return [_untitled(item) for item in schema] if isinstance(schema, list) else schema
