"""What an older run lacks is said, and the run is reported and evaluated all the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.cli.main import main
from marrowscope.evaluate import EvaluateConfig, evaluate_run
from marrowscope.records import Annotation, Field, Patient
from marrowscope.runs.manifest import read_manifest, write_manifest
from marrowscope.runs.older import older_run_remarks
from marrowscope.runs.parquet import read_table
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import state_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun

SCHEMA_3_RUN = Path(__file__).parent / "fixtures" / "schema_3_run"
FORMATS = ("html", "csv", "json", "fhir")


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    """Give a copy of the run of version 3."""
    return Path(shutil.copytree(SCHEMA_3_RUN, tmp_path / "run"))


def without(run: Path, table: str, *columns: str) -> None:
    """Take columns out of a table, as if the version that wrote it had not had them."""
    path = run / f"{table}.parquet"
    metadata = {name: text for name, text in pl.read_parquet_metadata(path).items() if name.startswith("marrowscope")}
    pl.read_parquet(path).drop(columns).write_parquet(path, metadata=metadata)


def report(run: Path, out: Path, *formats: str) -> None:
    """Write the run in every one of ``formats``; nothing is missing but the pictures, which the fixture lacks."""
    options = [word for name in formats for word in ("--format", name)]
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run), "--out", str(out), "--workers", "1", *options])
    assert stopped.value.code == 1


NO_HASHES = ("manifest.json: found no SHA-256 of the tables, which older runs do not have; it is taken as not known",)


UNKNOWN = "which older runs do not have; it is taken as not known"
STANDING = (
    "state, state_reason, center_n_reviewed, center_n_outside, depth, fitting_um_per_px, {}threshold_n_patients, "
    "threshold_simulated"
)
LATER = (
    f"fields.parquet: found no simulated, n_rejected_overlap, {UNKNOWN}",
    f"patients.parquet: found no {STANDING.format('')}, {UNKNOWN}",
)


def test_a_run_of_version_3_lacks_the_hashes_of_its_tables_and_later_columns(older_run: Path) -> None:
    assert older_run_remarks(older_run) == (*NO_HASHES, *LATER)
    state_tables(older_run)
    assert older_run_remarks(older_run) == LATER


def test_a_run_of_version_3_is_reported_in_every_format(
    older_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(older_run, tmp_path / "out", *FORMATS)
    page = (tmp_path / "out" / "patients" / "P0006.html").read_text(encoding="utf-8")
    assert "<strong>6</strong> of <strong>18</strong>" in page
    assert (tmp_path / "out" / "run.json").is_file()
    assert (tmp_path / "out" / "fhir" / "P0001.json").is_file()
    assert capsys.readouterr().err.count("Older run") == 3


def test_a_run_of_version_3_is_typeset(older_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("typst", reason="no typst: install the extra pdf")
    report(older_run, tmp_path / "out", "pdf")
    assert (tmp_path / "out" / "pdf" / "P0001.pdf").read_bytes().startswith(b"%PDF")


def test_a_run_of_version_3_is_evaluated(older_run: Path) -> None:
    fields = read_table(older_run / "fields.parquet", "fields")
    cells = read_table(older_run / "cells.parquet", "cells").filter(pl.col("reject_reason").is_null())
    annotated = []
    for row in fields.iter_rows(named=True):
        own = cells.filter(pl.col("field_id") == row["field_id"])
        shapes = [
            Annotation("N" if cell["is_cblc"] else "N5", pl.Series(cell["contour_xy"]).to_numpy().reshape(-1, 2), index)
            for index, cell in enumerate(own.iter_rows(named=True))
        ]
        annotated.append(
            Field(
                field_id=row["field_id"],
                patient_id=row["patient_id"],
                center="S1",
                annotated=True,
                path=Path(row["path"]),
                sha256=row["sha256"],
                width_px=row["width_px"],
                height_px=row["height_px"],
                um_per_px=row["um_per_px"],
                annotations=tuple(shapes),
            )
        )
    patients = [Patient(name, "S1", "control") for name in ("P0001", "P0006")]
    config = EvaluateConfig(n_resamples=0)
    evaluation = evaluate_run(older_run, patients, annotated, load_vocabulary(), config=config)
    assert evaluation.linked.expert.height == cells.height
    assert evaluation.linked.expert["cell_id"].null_count() == 0


def test_columns_that_came_later_are_named_and_the_run_is_reported(
    older_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without(older_run, "patients", "design_effect", "me_upper")
    without(older_run, "fields", "stain_distance")
    remarks = older_run_remarks(older_run)
    assert remarks == (
        *NO_HASHES,
        f"fields.parquet: found no simulated, n_rejected_overlap, stain_distance, {UNKNOWN}",
        f"patients.parquet: found no {STANDING.format('design_effect, ')}, me_upper, {UNKNOWN}",
    )
    report(older_run, tmp_path / "out", *FORMATS)
    told = " ".join(capsys.readouterr().err.split())
    assert all(remark in told for remark in remarks)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert all(remark in page for remark in remarks)


def test_hashes_that_are_not_stated_are_named(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run().folder
    (remark,) = older_run_remarks(run)
    assert remark.startswith("manifest.json: found no SHA-256 of its vocabulary, which")
    manifest = read_manifest(run)
    bundle = manifest.bundle.model_copy(update={"sha256": ""})
    write_manifest(run, manifest.model_copy(update={"bundle": bundle}))
    assert older_run_remarks(run)[0].startswith("manifest.json: found no SHA-256 of the bundle and its vocabulary,")
