"""A run's tables and manifest, read, evaluated, reported and exported; an unfinished run's parts; an evaluation."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.cohort.formats import annotation_formats
from marrowscope.evaluate.document import read_document
from marrowscope.evaluate.evaluation import evaluate_run
from marrowscope.evaluate.link import EvaluateConfig
from marrowscope.evaluate.output import write_evaluation
from marrowscope.evaluate.written_tables import read_tables
from marrowscope.geometry import MAX_COORDINATE_PX
from marrowscope.imaging import sha256_file
from marrowscope.records import Annotation, Field, FoundCell, FoundField, InputImage, Patient
from marrowscope.report.evaluation_page import write_evaluation_page
from marrowscope.report.html import write_report
from marrowscope.runs.finished_fields import FOLDER, FinishedFields
from marrowscope.runs.parquet import read_table
from marrowscope.runs.parts import RunParts
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.runs.to_annotations import export_run
from marrowscope.vocabulary import load_vocabulary
from tests import fake_runs
from tests.damage.kinds import Kind, is_finite
from tests.damage.mutations import damaged_bytes, damaged_csv, damaged_json, damaged_rows, damaged_table

if TYPE_CHECKING:
    from marrowscope.runs.schemas import TableKind

TIMES = 8
"""A report takes longer than a file: that many times fewer of them are tried."""
_TABLES: tuple[TableKind, ...] = ("fields", "cells", "patients")
_PEOPLE = (Patient("P1", "A", "control"), Patient("P2", "B", "AML"))


def run_kinds(root: Path) -> list[Kind]:
    """Write a run of two patients and its evaluation, and an unfinished run of three parts."""
    run = fake_runs.make_run(root / "fake", list(_PEOPLE))
    folder, config = run.folder, EvaluateConfig(n_resamples=10)
    fields = [_annotated(row, run.cells) for row in run.fields if row["status"] == "ok"]
    vocabulary = load_vocabulary()
    evaluation = root / "evaluation"
    write_evaluation(evaluate_run(folder, _PEOPLE, fields, vocabulary, config=config), evaluation)
    valid = {name: sha256_file(folder / f"{name}.parquet") for name in _TABLES}
    format_names = [item.name for item in annotation_formats()]

    def hash_is_checked(_: bytes) -> bool:
        read_checked_manifest(folder)
        return all(sha256_file(folder / f"{name}.parquet") == valid[name] for name in _TABLES)

    def tables_are_read(_: bytes) -> bool:
        read_checked_manifest(folder)
        for name in _TABLES:
            read_table(folder / f"{name}.parquet", name)
        return True

    def is_evaluated(_: bytes) -> bool:
        found = evaluate_run(folder, _PEOPLE, fields, vocabulary, config=config)
        shutil.rmtree(root / "again", ignore_errors=True)
        write_evaluation(found, root / "again")
        return all(_can_be_scored(read_table(folder / f"{name}.parquet", name), name) for name in _TABLES)

    def is_reported(_: bytes) -> bool:
        write_report(folder, root / "report", on_problem=lambda _: None)
        return True

    def is_exported(data: bytes) -> bool:
        out = root / "exported"
        shutil.rmtree(out, ignore_errors=True)
        name = format_names[len(data) % len(format_names)]
        done = export_run(folder, out, name, vocabulary, copy_images=False)
        kept = read_table(folder / "cells.parquet", "cells").filter(pl.col("reject_reason").is_null())
        shown = read_table(folder / "fields.parquet", "fields").filter(pl.col("error").is_null())["field_id"]
        return done.n_cells == kept.filter(pl.col("field_id").is_in(shown.to_list())).height

    def restate(_: bytes) -> None:
        fake_runs.state_tables(folder)

    made = []
    for name in _TABLES:
        path = folder / f"{name}.parquet"
        made += [
            Kind(f"run {name}, hash wrong", path, damaged_table, hash_is_checked, is_text=False, every=2),
            Kind(f"run {name}, read", path, damaged_table, tables_are_read, restate, is_text=False),
            Kind(f"run {name}, evaluated", path, damaged_rows, is_evaluated, restate, is_text=False, every=TIMES),
            Kind(f"run {name}, reported", path, damaged_rows, is_reported, restate, is_text=False, every=TIMES),
            Kind(f"run {name}, exported", path, damaged_rows, is_exported, restate, is_text=False, every=2),
        ]
    manifest = folder / "manifest.json"
    made += [
        Kind("run manifest, read", manifest, damaged_json, hash_is_checked),
        Kind("run manifest, evaluated", manifest, damaged_json, is_evaluated, every=TIMES),
        Kind("run manifest, reported", manifest, damaged_json, is_reported, every=TIMES),
        Kind("run manifest, exported", manifest, damaged_json, is_exported, every=TIMES),
    ]
    return [*made, *_parts(root, run), _found_fields(root), *_evaluations(evaluation)]


def _parts(root: Path, run: fake_runs.FakeRun) -> list[Kind]:
    """Write an unfinished run: what a next call takes of its parts is whole, and what follows a damaged one is not."""
    folder, fingerprint = root / "run.part", {"input": "x"}
    parts = RunParts(folder, fingerprint)
    for row in run.fields:
        own = [cell for cell in run.cells if cell["field_id"] == row["field_id"]]
        parts.write([row], own, {row["field_id"]: "0123456789abcdef" * 4})
    middle = folder / "parts" / "00001"

    def is_resumed(_: bytes) -> bool:
        again = RunParts(folder, fingerprint)
        again.read_fingerprints()
        again.n_cells_by_field()
        n_read = sum(len(fields) for fields, _ in again.read())
        again.join(root)
        read_table(root / "cells.parquet", "cells")
        return again.n_whole == 1 or (again.n_whole == len(run.fields) and n_read >= again.n_whole - 1)

    return [
        Kind(f"unfinished run, {name}", middle.with_suffix(f".{name}"), damage, is_resumed, is_text=is_text, every=2)
        for name, damage, is_text in (
            ("prints", damaged_json, True), ("fields", damaged_table, False), ("cells", damaged_table, False),
        )
    ]  # fmt: skip


def _found_fields(root: Path) -> Kind:
    """Write single fields of an unfinished run: what a next call takes of them is what was found."""
    folder = root / "found.part"
    folder.mkdir()
    images = [InputImage(f"P1/{index}", "P1", Path(f"{index}.png"), 0.15) for index in range(3)]
    contour = np.array([[1.5, 2.0], [9.0, 2.5], [5.0, 8.25]])
    kept = FoundCell(contour, 0.9, 31.5, 0.8, None, morphology={"nc_ratio": 0.5})
    cells = (kept, FoundCell(contour, 0.4, 1.0, 0.1, "edge"))
    found = [FoundField(image, "ab" * 32, 0.15, 480, 360, cells, {"sharpness": 0.25}) for image in images]
    finished = FinishedFields(folder)
    for field in found:
        finished.add(field)
    finished.close()
    (path,) = (folder / FOLDER).iterdir()

    def is_taken(_: bytes) -> bool:
        again = FinishedFields(folder)
        taken = [again.take(image) for image in images]
        return all(one is None or repr(one) == repr(field) for one, field in zip(taken, found, strict=True))

    return Kind("unfinished run, found fields", path, damaged_bytes, is_taken, is_text=False)


def _evaluations(evaluation: Path) -> list[Kind]:
    def document_is_read(_: bytes) -> bool:
        return is_finite(read_document(evaluation).model_dump(mode="json"))

    def csv_is_read(_: bytes) -> bool:
        read_tables(evaluation)
        return True

    def is_drawn(_: bytes) -> bool:
        write_evaluation_page(evaluation)
        return True

    made = [Kind("evaluation metrics.json", evaluation / "metrics.json", damaged_json, document_is_read)]
    names = ("patients.csv", "metrics.csv")
    made += [Kind(f"evaluation {name}", evaluation / name, damaged_csv, csv_is_read) for name in names]
    return made + [
        Kind(f"evaluation {name}, drawn", evaluation / name, damage, is_drawn, every=TIMES)
        for name, damage in (
            ("metrics.json", damaged_json), ("patients.csv", damaged_csv), ("calls.csv", damaged_csv),
            ("confusion.csv", damaged_csv), ("per_class.csv", damaged_csv), ("reliability.csv", damaged_csv),
            ("roc.csv", damaged_csv), ("normal_blasts.csv", damaged_csv), ("risk_coverage.csv", damaged_csv),
            ("recall_by_class.csv", damaged_csv),
        )
    ]  # fmt: skip


def _can_be_scored(table: pl.DataFrame, kind: str) -> bool:
    """Say whether no row of a table stands twice or holds a number that is none, cell by cell in plain Python."""
    ids = table[{"fields": "field_id", "cells": "cell_id", "patients": "patient_id"}[kind]].to_list()
    if len(set(ids)) != len(ids):
        return False
    if kind != "cells":
        return True
    for row in table.to_dicts():
        numbers = [*row["contour_xy"], *(row["p_category"] or [])] if row["contour_xy"] else [math.nan]
        numbers += [row[name] for name in ("p_cblc", "p_countable", "score") if row[name] is not None]
        if not all(number is not None and math.isfinite(number) for number in numbers) or len(row["contour_xy"]) % 2:
            return False
        if max(map(abs, row["contour_xy"])) > MAX_COORDINATE_PX:
            return False
        if row["reject_reason"] is None and row["category"] not in load_vocabulary().categories:
            return False
    return True


def _annotated(row: dict[str, Any], cells: list[dict[str, Any]]) -> Field:
    own = [cell for cell in cells if cell["field_id"] == row["field_id"] and "category" in cell]
    drawn = tuple(
        Annotation("N" if cell["is_cblc"] else "L", np.reshape(cell["contour_xy"], (-1, 2)), index)
        for index, cell in enumerate(own)
    )
    names = ("field_id", "patient_id", "center", "sha256", "width_px", "height_px", "um_per_px")
    return Field(**{name: row[name] for name in names}, path=Path(row["path"]), annotated=True, annotations=drawn)
