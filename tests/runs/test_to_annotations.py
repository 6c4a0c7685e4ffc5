"""A run's contours go out in every format as a cohort that can be read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.disk.folders import MARKER_NAME
from marrowscope.errors import InputError, RunError
from marrowscope.imaging import sha256_file, write_image
from marrowscope.runs.manifest import RunCounts, write_manifest
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.runs.to_annotations import export_run, label_of_call
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import bare_manifest, state_tables

if TYPE_CHECKING:
    from marrowscope.runs.schemas import TableKind

VOCABULARY = load_vocabulary()
CONTOUR = [5.25, 5.5, 15.125, 5.0, 15.0, 15.75, 5.0, 15.0]

MANIFEST = bare_manifest(
    RunCounts(
        patients=2,
        images=4,
        images_read=3,
        images_failed=1,
        contours=5,
        rejected={"edge": 1},
        cells=4,
        countable=4,
        cblc=2,
        contradictions=0,
    ),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two patients; one image failed, one contour was rejected, one call leaves the code open."""
    images = tmp_path / "images"
    for number, name in enumerate(["p1/f1.jpg", "p1/f2.jpg", "p2/f1.jpg"]):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        write_image(images / name, noise)
    fields: list[dict[str, object]] = [
        {"field_id": "p1/f1", "patient_id": "p1", "path": str(images / "p1/f1.jpg"), "um_per_px": 0.2},
        {"field_id": "p1/f2", "patient_id": "p1", "path": str(images / "p1/f2.jpg"), "um_per_px": 0.2},
        {"field_id": "p1/f3", "patient_id": "p1", "path": str(images / "p1/f3.jpg"), "error": "broken"},
        {"field_id": "p2/f1", "patient_id": "p2", "path": str(images / "p2/f1.jpg"), "um_per_px": 0.15},
    ]
    calls = [
        ("p1/f1", "N", True, True, None),
        ("p1/f1", "L", False, True, None),
        ("p1/f1", "N", True, True, "edge"),
        ("p1/f2", "Other", True, True, None),
        ("p2/f1", "M", False, True, None),
    ]
    cells = [
        {
            "cell_id": f"cell-{number}",
            "field_id": field_id,
            "patient_id": field_id[:2],
            "contour_xy": [value + 3 * number for value in CONTOUR],
            "score": 0.9,
            "category": category,
            "is_cblc": is_cblc,
            "is_countable": is_countable,
            "p_cblc": 0.5,
            "contradiction": False,
            "reject_reason": reason,
        }
        for number, (field_id, category, is_cblc, is_countable, reason) in enumerate(calls)
    ]
    patients = [
        {"patient_id": "p1", "center": "A", "diagnosis": "AML", "specimen": "marrow"},
        {"patient_id": "p2", "center": "B", "diagnosis": None, "specimen": "blood"},
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    sized = [row | {"width_px": 60, "height_px": 40, "sha256": _hash(str(row["path"]))} for row in fields]
    write_table(folder / "fields.parquet", pl.DataFrame(sized), "fields")
    write_table(folder / "cells.parquet", pl.DataFrame(cells), "cells")
    write_table(folder / "patients.parquet", pl.DataFrame(patients), "patients")
    write_manifest(folder, MANIFEST)
    state_tables(folder)
    return folder


def _hash(path: str) -> str | None:
    return sha256_file(Path(path)) if Path(path).is_file() else None


def restate(run: Path, field_id: str, **values: str) -> None:
    """Write other values into one row of fields.parquet, and state the table as whoever made it would."""
    path = run / "fields.parquet"
    changed = [
        pl.when(pl.col("field_id") == field_id).then(pl.lit(value)).otherwise(name).alias(name)
        for name, value in values.items()
    ]
    write_table(path, read_table(path, "fields").with_columns(changed), "fields")
    state_tables(run)


def rename_patient(run: Path, patient_id: str) -> None:
    """Give p2 another id in every table of the run."""
    for kind in ("fields", "cells", "patients"):
        path = run / f"{kind}.parquet"
        new = pl.col("patient_id").replace("p2", patient_id)
        write_table(path, read_table(path, kind).with_columns(new), kind)
    state_tables(run)


@pytest.mark.parametrize("file_format", ["labelme", "coco", "geojson", "yolo", "labelstudio"])
def test_export_is_a_cohort(run: Path, tmp_path: Path, file_format: str) -> None:
    out = tmp_path / "out"
    done = export_run(run, out, file_format, VOCABULARY)
    assert (done.n_images, done.n_cells, done.n_rejected, done.n_to_name) == (3, 4, 1, 1)
    cohort = read_cohort(out)
    assert [(fault.kind, fault.loses_data) for fault in cohort.faults] == [("to_name", False)]
    assert "1 cell whose label leaves the code open (1 'Other?')" in cohort.faults[0].sentence()
    assert (cohort.counts.shapes.n_in, cohort.counts.shapes.rejected) == (4, {"to_name": 1})
    assert [(p.patient_id, p.center, p.diagnosis, p.specimen) for p in cohort.patients] == [
        ("p1", "A", "AML", "marrow"),
        ("p2", "B", "unknown", "blood"),
    ]
    assert {field.field_id: [a.code for a in field.annotations] for field in cohort.fields} == {
        "p1/f1": ["N", "L2"],
        "p1/f2": [],
        "p2/f1": ["M0"],
    }
    assert [field.um_per_px for field in cohort.fields] == [0.2, 0.2, 0.15]
    first = cohort.fields[0].annotations[0]
    np.testing.assert_allclose(first.contour_xy, np.reshape(CONTOUR, (-1, 2)), atol=1e-9)
    assert first.cell_id == ("" if file_format == "yolo" else "cell-0")


def test_export_without_images_writes_annotations_only(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_run(run, out, "labelme", VOCABULARY, copy_images=False)
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert written == [".marrowscope.json", "p1/f1.json", "p1/f2.json", "p2/f1.json", "patients.csv"]


def test_occupied_folder_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="out: found files that are not a marrowscope annotated cohort, expected a"):
        export_run(run, tmp_path / "out", "labelme", VOCABULARY)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_that_was_corrected_or_is_another_one_stays(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_run(run, out, "labelme", VOCABULARY)
    labels = out / "p1/f1.json"
    labels.write_text(labels.read_text(encoding="utf-8").replace('"N"', '"N1"'), encoding="utf-8")
    before = contents(out)
    for file_format in ("labelme", "coco"):
        with pytest.raises(InputError, match=r"out: found an earlier annotated cohort, .* folder; choose another$"):
            export_run(run, out, file_format, VOCABULARY)
    assert contents(out) == before
    assert not (tmp_path / "out.part").exists()


def test_images_that_are_gone_are_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "images/p1/f2.jpg").unlink()
    with pytest.raises(InputError, match=r"f2.jpg: not found \(1 of 3 images missing\)"):
        export_run(run, tmp_path / "out", "labelme", VOCABULARY)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `marrowscope predict` first"):
        export_run(tmp_path, tmp_path / "out", "labelme", VOCABULARY)


@pytest.mark.parametrize(
    ("category", "is_cblc", "is_countable", "label"),
    [
        ("N1", True, True, "N1"),
        ("M", True, True, "M"),
        ("M", False, True, "M0"),
        ("E", False, True, "E"),
        ("L", False, True, "L2"),
        ("Other", False, False, "V"),
        ("Other", True, True, "Other?"),
        ("Other", False, True, "Other?"),
        ("N5", True, True, "N5?"),
        (None, False, False, "?"),
    ],
)
def test_label_of_a_call(category: str | None, label: str, *, is_cblc: bool, is_countable: bool) -> None:
    assert label_of_call(category, is_cblc=is_cblc, is_countable=is_countable, vocabulary=VOCABULARY) == label


def test_a_predicted_lymphoid_cell_is_never_called_a_lymphoblast() -> None:
    assert label_of_call("L", is_cblc=False, is_countable=True, vocabulary=VOCABULARY) != "L"


@pytest.mark.parametrize(
    "patient_id", ["../sibling", "/absolute/x", "a/b", "..", "C:\\x", "nul", "P1.", "x" * 300, "e\u0301", "a\nb", "P1"]
)
@pytest.mark.parametrize("file_format", ["labelme", "coco", "geojson", "yolo", "labelstudio"])
def test_a_patient_id_is_never_a_path(run: Path, tmp_path: Path, patient_id: str, file_format: str) -> None:
    rename_patient(run, patient_id)
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "out"
    export_run(run, out, file_format, VOCABULARY)
    assert all(path.is_relative_to(out) for path in set(tmp_path.rglob("*")) - before)
    cohort = read_cohort(out)
    assert [fault.kind for fault in cohort.faults] == ["to_name"]
    assert sum(len(field.annotations) for field in cohort.fields) == 3
    assert len({patient.patient_id.casefold() for patient in cohort.patients}) == 2
    assert [patient.extra["run_patient_id"] for patient in cohort.patients] == ["p1", patient_id.strip()]


def test_ids_that_are_names_stay_and_have_no_second_column(run: Path, tmp_path: Path) -> None:
    rename_patient(run, "病人 7")
    export_run(run, tmp_path / "out", "labelme", VOCABULARY)
    assert (tmp_path / "out" / "病人 7" / "f1.jpg").is_file()
    assert (
        (tmp_path / "out" / "patients.csv")
        .read_text(encoding="utf-8")
        .startswith("patient_id,center,diagnosis,specimen,um_per_px\n")
    )


def test_a_foreign_file_is_not_copied(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    restate(run, "p1/f1", path=str(secret))
    with pytest.raises(InputError, match=r"secret.txt: found SHA-256 \w+, expected \w+ of p1/f1 in fields.parquet"):
        export_run(run, tmp_path / "out", "labelme", VOCABULARY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/proc", "nowhere/../x", "a\0b", "x" * 5000])
def test_a_device_is_not_opened(run: Path, tmp_path: Path, path: str) -> None:
    restate(run, "p1/f1", path=path)
    with pytest.raises(InputError, match="not found"):
        export_run(run, tmp_path / "out", "labelme", VOCABULARY)


@pytest.mark.parametrize("name", ["..", "con.jpg", "a\nb.jpg", "x\u202e.jpg", "..jpg", "f2.png"])
def test_an_images_name_is_never_a_path(run: Path, tmp_path: Path, name: str) -> None:
    restate(run, "p1/f1", path=f"{tmp_path}/images/{name}")
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "out"
    export_run(run, out, "labelme", VOCABULARY, copy_images=False)
    written = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(out) for path in written)
    assert sum(path.suffix == ".json" and path.name != MARKER_NAME for path in written) == 3


def test_two_images_of_one_name_are_refused(run: Path, tmp_path: Path) -> None:
    restate(run, "p1/f1", path=f"{tmp_path}/other/f2.jpg")
    with pytest.raises(RunError, match="expected each image of a patient to have its own name"):
        export_run(run, tmp_path / "out", "labelme", VOCABULARY, copy_images=False)


@pytest.mark.parametrize(
    ("table", "column"), [("fields", "patient_id"), ("fields", "path"), ("patients", "patient_id")]
)
def test_a_row_without_a_name_is_refused(run: Path, tmp_path: Path, table: TableKind, column: str) -> None:
    path = run / f"{table}.parquet"
    write_table(path, read_table(path, table).with_columns(pl.lit(None, pl.String).alias(column)), table)
    state_tables(run)
    with pytest.raises(RunError, match=rf"{table}\.parquet: found \d rows that cannot be used.*{column}.* in each row"):
        export_run(run, tmp_path / "out", "labelme", VOCABULARY)


def test_a_patient_of_the_fields_that_is_in_no_row_of_the_patients_stays_inside(run: Path, tmp_path: Path) -> None:
    restate(run, "p1/f1", patient_id="../../stranger")
    export_run(run, tmp_path / "out", "labelme", VOCABULARY)
    assert len(list((tmp_path / "out").glob("stranger-*/f1.json"))) == 1
