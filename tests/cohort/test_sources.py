"""Which files of a cohort are annotations, and whose: cells are used, or left out with a reason, never moved."""

from __future__ import annotations

import gzip
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.annotations import AnnotatedImage
from marrowscope.cohort.formats.coco import write_coco
from marrowscope.cohort.formats.geojson import write_geojson
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.imaging import write_image
from marrowscope.records import Annotation

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.cohort import Cohort

SQUARE = np.array([[5.0, 5.0], [15.0, 5.0], [15.0, 15.0], [5.0, 15.0]])
CELLS = (Annotation("N1", SQUARE, 0), Annotation("L2", SQUARE + 20, 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients, two images each, no annotation."""
    (tmp_path / "patients.csv").write_text(
        "patient_id,center,diagnosis,um_per_px\np1,A,AML,0.2\np2,B,AML,0.2\n", encoding="utf-8"
    )
    for number, name in enumerate(("p1/f1.png", "p1/f2.png", "p2/f1.png", "p2/f2.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        write_image(tmp_path / name, noise)
    return tmp_path


def cells(cohort: Cohort) -> dict[str, str]:
    """Give the codes of every annotated image."""
    return {
        field.field_id: " ".join(item.code for item in field.annotations) for field in cohort.fields if field.annotated
    }


def kinds(cohort: Cohort) -> list[tuple[str, bool]]:
    """Give the faults, with what they lose."""
    return [(fault.kind, fault.loses_data) for fault in cohort.faults]


@pytest.mark.parametrize("name", ["instances_default.json", "A.JSON", "a.coco.json", "annotations/instances.json"])
def test_a_file_for_all_images_is_found_by_its_content(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    write_coco(root / name, [AnnotatedImage("p1/f1.png", 60, 40, CELLS), AnnotatedImage("p2/f1.png", 60, 40, ())])
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({"p1/f1": "N1 L2", "p2/f1": ""}, [])


@pytest.mark.parametrize(
    "name", ["f1.geojson", "f1.GeoJSON", "f1.png.geojson", "f1.geojson.gz", "f1.JSON", "f1.json.gz"]
)
def test_a_file_that_names_no_image_belongs_to_the_image_of_its_name(root: Path, name: str) -> None:
    write_geojson(root / "text", "", 60, 40, CELLS)
    data = (root / "text").read_bytes()
    (root / "text").unlink()
    (root / "p1" / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({"p1/f1": "N1 L2"}, [])


def test_a_file_of_another_name_belongs_to_the_image_it_names(root: Path) -> None:
    (root / "p1/labels").mkdir()
    write_labelme(root / "p1/labels/corrected.json", "../f1.png", 60, 40, CELLS)
    write_labelme(root / "p1/second reader.json", "C:\\scans\\f2.png", 60, 40, CELLS[:1])
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({"p1/f1": "N1 L2", "p1/f2": "N1"}, [])


def test_a_file_that_names_another_image_that_is_there_is_a_fault(root: Path) -> None:
    write_labelme(root / "p1/f1.json", "f2.png", 60, 40, CELLS)
    write_labelme(root / "p2/f1.json", "../p1/f1.png", 60, 40, CELLS[:1])
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({}, [("unclear_image", True)] * 2)
    assert cohort.counts.shapes.rejected == {"image_rejected": 3}
    assert cohort.faults[0].sentence() == (
        "p1/f1.json: found the name f2.png in the annotation of f1.png, expected one image; "
        "state which is meant: p1/f1.png or p1/f2.png"
    )


def test_a_file_renamed_with_its_image_keeps_it(root: Path) -> None:
    write_labelme(root / "p1/f1.json", "old name.png", 60, 40, CELLS)
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({"p1/f1": "N1 L2"}, [])


def test_no_cell_moves_to_another_patient(root: Path) -> None:
    write_labelme(root / "p1/f2.json", "f2.png", 60, 40, CELLS)
    (root / "p1/f2.png").unlink()
    write_coco(root / "p1/f1.json", [AnnotatedImage(f"p2/{name}.png", 60, 40, CELLS) for name in ("f8", "f9")])
    write_coco(root / "a.coco.json", [AnnotatedImage("p3/f1.png", 60, 40, CELLS)])
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({}, [("annotation_without_image", True)] * 4)
    assert cohort.counts.shapes.rejected == {"image_rejected": 8}


def test_two_images_of_one_name_are_a_fault_of_a_file_that_names_none(root: Path) -> None:
    shutil.copy(root / "p2/f2.png", root / "p1/f1.jpg")
    write_geojson(root / "p1/f1.geojson", "", 60, 40, CELLS)
    assert ("unclear_image", True) in kinds(read_cohort(root))


def test_other_json_is_left_alone_and_noted_where_it_names_an_image(root: Path) -> None:
    (root / "settings.json").write_text('{"seed": 1}', encoding="utf-8")
    assert kinds(read_cohort(root)) == []
    (root / "via.json").write_text(json.dumps({"f1.png": {"regions": []}}), encoding="utf-8")
    cohort = read_cohort(root)
    assert kinds(cohort) == [("not_read", False)]
    assert cohort.faults[0].where == "via.json"
    (root / "instances_default.json").write_text('{"images": [{"file_name": "p1/f1.png"', encoding="utf-8")
    assert ("broken_annotation", True) in kinds(read_cohort(root))


def test_hidden_files_and_folders_of_other_programs_are_nobodys(root: Path) -> None:
    for name in ("._f1.json", "@eaDir/f1.json", ".labels/f1.json", "__MACOSX/f1.json"):
        (root / "p1" / name).parent.mkdir(exist_ok=True)
        (root / "p1" / name).write_bytes(b"\x00\x05\x16\x07")
    assert kinds(read_cohort(root)) == []


def test_labels_that_are_all_zero_are_noted(root: Path) -> None:
    write_labelme(root / "p1/f1.json", "f1.png", 60, 40, [Annotation("0", SQUARE, 0)])
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({"p1/f1": "0"}, [("class_number", False)])
    write_labelme(root / "p1/f2.json", "f2.png", 60, 40, CELLS)
    assert kinds(read_cohort(root)) == []


def test_labels_that_are_all_zero_in_one_folder_or_file_are_noted(root: Path) -> None:
    zero = [Annotation("0", SQUARE, 0)]
    write_labelme(root / "p1/f1.json", "f1.png", 60, 40, CELLS)
    write_labelme(root / "p2/f1.json", "f1.png", 60, 40, zero)
    cohort = read_cohort(root)
    assert [(fault.kind, fault.where) for fault in cohort.faults] == [("class_number", "p2/f1.json")]
    assert "found no label but '0' in this folder" in cohort.faults[0].sentence()
    (root / "p2/f1.json").unlink()
    names = ("p1/f2.png", "p2/f1.png")
    write_coco(root / "a.coco.json", [AnnotatedImage(name, 60, 40, tuple(zero)) for name in names])
    cohort = read_cohort(root)
    assert [(fault.kind, fault.where) for fault in cohort.faults] == [("class_number", "a.coco.json")]
    assert "found no label but '0' in this file" in cohort.faults[0].sentence()
