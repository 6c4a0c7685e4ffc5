"""A run as one JSON document: the manifest, every patient and every field; and the JSON Schema of that document.

Patients and fields are the records of ``runs/tables.py``. The schema made from them is published with the package,
``data/run.schema.json`` (benchmarks/table_files.py writes it); cells, of which a run may have millions, are left to
Parquet and CSV.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from marrowscope.disk import name_files, refuse_foreign_files, write_text
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.strings import load_strings
from marrowscope.runs.folder import RUN_KIND
from marrowscope.runs.manifest import Manifest
from marrowscope.runs.parquet import read_table
from marrowscope.runs.tables import SCHEMA_VERSION, FieldRow, PatientRow, Row
from marrowscope.vocabulary import DATA_DIR

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_PATH = DATA_DIR / "run.schema.json"
_SCHEMA_ID = f"urn:marrowscope:schema:run:{SCHEMA_VERSION}"
_FILE_NAME = "run.json"
TABLES_KIND = "tables"
"""The kind of a folder made for a run's tables in other formats."""
KINDS_WITH_TABLES = (TABLES_KIND, RUN_KIND, "report")
"""Kinds of folders to which those tables are written; in any other folder, a file of that name is something else."""


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


def _run_document(run_dir: Path) -> RunDocument:
    """Read a run into its document. Raises RunError if ``run_dir`` is not a finished run."""
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
    """Write ``run.json`` as a whole to ``out`` (default: the run's folder) and return its path. NaN becomes null.

    Raises RunError if ``run_dir`` is not a finished run, or if there is already a ``run.json`` that is not ours.
    """
    text = _run_document(run_dir).model_dump_json(indent=1)
    folder = out or run_dir
    refuse_foreign_files(folder, KINDS_WITH_TABLES, [_FILE_NAME])
    name_files(folder, TABLES_KIND, [_FILE_NAME])
    path = folder / _FILE_NAME
    write_text(path, text + "\n")
    return path


def schema_text() -> str:
    """Return the JSON Schema (draft 2020-12) of the document, as in the published file."""
    schema = RunDocument.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": _SCHEMA_ID}
    return json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"
