"""Which files of a cohort are annotations, and whose: cells are used, or left out with a reason, never moved."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.annotations import AnnotatedImage
from marrowscope.cohort.formats.coco import write_coco
from marrowscope.cohort.formats.geojson import write_geojson
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.cohort.inputs import collect_inputs
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
    (root / "settings.json").write_text('{"seed": 1, "first": "f1.png"}', encoding="utf-8")
    assert kinds(read_cohort(root)) == [("not_read", False)] * 2
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


@pytest.mark.parametrize("name", ["a.json", "p1/json/f1.json", "sub/b.JSON", "a.json.gz", "p1/json/deep/x.geojson"])
@pytest.mark.parametrize("text", ["", '{"version": "5.5.0", "shapes": [{"label": "N1", "points": [[1'])
def test_json_that_is_cut_short_is_a_fault_wherever_it_lies_and_whatever_it_names(
    root: Path, name: str, text: str
) -> None:
    (root / name).parent.mkdir(exist_ok=True, parents=True)
    data = gzip.compress(text.encode())[:-6] if name.endswith(".gz") else text.encode()
    (root / name).write_bytes(data)
    cohort = read_cohort(root)
    assert [(fault.kind, fault.where, fault.loses_data) for fault in cohort.faults] == [
        ("broken_annotation", name, True)
    ]
    assert cohort.counts.n_annotation_files_broken == 1


@pytest.mark.parametrize(
    "document",
    [
        {"images": [{"id": 1, "file_name": "x.png"}], "annotations": []},
        {"shapes": {}, "imagePath": "x.png"},
        {"type": "FeatureCollection", "features": {}},
    ],
)
def test_half_of_a_format_is_a_fault(root: Path, document: object) -> None:
    (root / "all.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    assert kinds(read_cohort(root)) == [("broken_annotation", True)]


def test_settings_of_programs_are_no_fault_and_nothing_else_is_passed_over(root: Path) -> None:
    (root / "package.json").write_text('{"name": "x"}', encoding="utf-8")
    assert kinds(read_cohort(root)) == []
    (root / "tsconfig.json").write_text('{"a": 1, // a comment\n}', encoding="utf-8")
    (root / "p1/metadata.json").write_text('{"Camera": "x"}', encoding="utf-8")
    (root / "p1/sub").mkdir()
    (root / "p1/sub/any.json").write_text('{"a": 1}', encoding="utf-8")
    cohort = read_cohort(root)
    assert kinds(cohort) == [("not_read", False)] * 3
    assert [fault.where for fault in cohort.faults] == ["p1/metadata.json", "p1/sub/any.json", "tsconfig.json"]


def test_the_files_of_a_qupath_project_are_its_own(root: Path) -> None:
    (root / "project.qpproj").touch()
    (root / "classifiers").mkdir()
    (root / "classifiers/classes.json").write_text('{"pathClasses": []}', encoding="utf-8")
    assert kinds(read_cohort(root)) == []


FOREIGN: dict[str, tuple[str, str]] = {
    "p1/ann/f1.png.json": ('{"size": {}, "objects": []}', "a Supervisely annotation"),
    "meta.json": ('{"classes": [], "tags": []}', "a Supervisely file"),
    "default.json": ('{"info": {}, "categories": {}, "items": [{"id": "p1/f1"}]}', "a Datumaro annotation"),
    "via.json": ('{"x1": {"filename": "x", "regions": [], "file_attributes": {}}}', "a VGG annotation"),
    "p1/f1.geojsonl": ('{"type": "Feature"}', "a file of lines of JSON"),
    "all.NDJSON": ("{}", "a file of lines of JSON"),
    "p1/f1.roi": ("Iout", "an ImageJ outline"),
    "via_region_data.csv": ("filename,region_shape_attributes\n", "a table of outlines or boxes"),
    "p1/f1.json.txt": ('{"shapes": []}', "JSON under another suffix"),
    "p1/f9.JSON.bak": ('{"shapes": []}', "JSON under another suffix"),
    "p1/f3.pdf": ("%PDF-1.4", "a PDF"),
    "old.7z": ("7z", "an archive"),
    "a.json.xz": ("xz", "an archive"),
    "p1/f2": ('\ufeff[\n{"shapes": []}]', "JSON under another suffix"),
    "p1/f2.label": ('{\n"shapes": []}', "JSON under another suffix"),
    "p1/f2.txt": ('{ "shapes": []}', "JSON under another suffix"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_may_hold_annotations_or_photographs_is_noted_with_what_to_do(root: Path, name: str) -> None:
    text, found = FOREIGN[name]
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    (fault,) = read_cohort(root).faults
    assert (fault.kind, fault.where, fault.found, fault.loses_data) == ("not_read", name, found, False)
    assert any(word in fault.action for word in ("export", "unpack", "rename"))


def test_json_of_another_encoding_and_suffix_is_noted(root: Path) -> None:
    (root / "p1/f1.json.txt").write_text('{"shapes": []}', encoding="utf-16")
    assert kinds(read_cohort(root)) == [("not_read", False)]


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ("a.roi", "an archive of ImageJ outlines"),
        ("annotations/x.json", "an archive that may hold annotations"),
        ("f1.PNG", "an archive of pictures"),
        ("a.bin", "an archive"),
    ],
)
def test_an_archive_is_noted_by_what_it_lists(root: Path, inside: str, found: str) -> None:
    with zipfile.ZipFile(root / "p1/f1_RoiSet.zip", "w") as archive:
        archive.writestr(inside, b"")
    (fault,) = read_cohort(root).faults
    assert (fault.kind, fault.found, fault.loses_data) == ("not_read", found, False)


def test_many_files_of_one_kind_are_one_note(root: Path) -> None:
    for number in range(5):
        (root / f"p1/f{number}.roi").touch()
    (fault,) = read_cohort(root).faults
    assert (fault.where, fault.found) == (
        "p1",
        "5 files (f0.roi, f1.roi, f2.roi and 2 more), each an ImageJ outline",
    )


@pytest.mark.parametrize(
    "name", ["notes.txt", "README", "a.ipynb", "cells.csv", "report.pdf", "p1/f1.json.bak", "p1/f1.json~", "a.xml"]
)
def test_files_of_people_are_left_alone(root: Path, name: str) -> None:
    write_labelme(root / "p1/f1.json", "f1.png", 60, 40, CELLS)
    (root / name).write_text("{}" if name == "a.ipynb" else "[section]\na = 1\n", encoding="utf-8")
    assert kinds(read_cohort(root)) == []


@pytest.mark.parametrize("patient", ["__01", "@12", "@a", "#7"])
def test_a_patient_whose_name_looks_like_a_system_s_has_its_annotations(tmp_path: Path, patient: str) -> None:
    (tmp_path / "patients.csv").write_text(f"patient_id,center,diagnosis\n{patient},A,AML\n", encoding="utf-8")
    (tmp_path / patient).mkdir()
    for name in ("f1.png", "f2.png", "f3.png"):
        noise = np.random.default_rng(int(name[1])).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        write_image(tmp_path / patient / name, noise)
    write_labelme(tmp_path / patient / "f1.json", "f1.png", 60, 40, CELLS)
    write_coco(tmp_path / "__all.coco.json", [AnnotatedImage(f"{patient}/f2.png", 60, 40, CELLS)])
    (tmp_path / "data.yaml").write_text("names: [N1]\n", encoding="utf-8")
    (tmp_path / patient / "f3.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    assert list(cells(read_cohort(tmp_path)).values()) == ["N1 L2", "N1 L2", "N1"]


@pytest.mark.parametrize("folder", ["#recycle", "@eaDir", "$RECYCLE.BIN", ".Trash"])
def test_annotations_in_a_recycle_bin_are_deleted(root: Path, folder: str) -> None:
    (root / folder / "p1").mkdir(parents=True)
    write_coco(root / folder / "old.coco.json", [AnnotatedImage("p1/f1.png", 60, 40, CELLS)])
    (root / folder / "p1/f1.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    (root / folder / "data.yaml").write_text("names: [N1]\n", encoding="utf-8")
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({}, [])


def test_annotations_behind_links_to_folders_are_read(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    disk = tmp_path_factory.mktemp("disk")
    shutil.move(root / "p2", disk / "p2")
    (root / "p2").symlink_to(disk / "p2", target_is_directory=True)
    (root / "data.yaml").write_text("names: [N1]\n", encoding="utf-8")
    (disk / "p2/f1.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    (disk / "json").mkdir()
    write_labelme(disk / "json/f1.json", "../f1.png", 60, 40, CELLS)
    (root / "p1/json").symlink_to(disk / "json", target_is_directory=True)
    (root / "p1/again").symlink_to(root / "p1", target_is_directory=True)
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort)) == ({"p1/f1": "N1 L2", "p2/f1": "N1"}, [])


@pytest.mark.parametrize("stated", ["f1.png", "p1/f1.png"])
def test_one_annotation_by_two_names_is_one(root: Path, stated: str) -> None:
    (root / "json").mkdir()
    write_labelme(root / "json/any.json", stated, 60, 40, CELLS)
    (root / "p1/json").symlink_to(root / "json", target_is_directory=True)
    cohort = read_cohort(root)
    assert (cells(cohort), kinds(cohort), cohort.counts.shapes.n_in) == ({"p1/f1": "N1 L2"}, [], 2)


def test_one_file_for_the_images_of_two_patients_is_of_both(root: Path) -> None:
    write_labelme(root / "p1/f1.json", "f1.png", 60, 40, CELLS)
    (root / "p2/f1.json").symlink_to(root / "p1/f1.json")
    assert cells(read_cohort(root)) == {"p1/f1": "N1 L2", "p2/f1": "N1 L2"}


def test_a_link_to_no_annotation_is_one_of_the_annotations(root: Path) -> None:
    (root / "p1/f1.json").symlink_to("gone.json")
    cohort = read_cohort(root)
    assert kinds(cohort) == [("dangling_link", True)]
    assert (cohort.counts.images.n_in, cohort.counts.images.n_out) == (4, 4)
    assert cohort.counts.n_annotation_files_broken == 1
    inputs = collect_inputs([root])
    assert ([fault.kind for fault in inputs.faults], inputs.n_left_out) == (["dangling_link"], 0)


@pytest.mark.parametrize("name", ["f9.png.gz", "f9.TIF.zip", "f9.svs.7z"])
def test_a_packed_photograph_is_named_and_counted(root: Path, name: str) -> None:
    (root / "p1" / name).write_bytes(b"\x1f\x8b")
    cohort = read_cohort(root)
    assert kinds(cohort) == [("unread_format", True)]
    assert cohort.counts.images.rejected == {"unread_format": 1}
    assert collect_inputs([root]).n_left_out == 1


@pytest.mark.parametrize(("stated", "n_notes"), [("p9/f1.png", 1), ("f1.png", 0), ("/data/p9/f1.png", 0)])
def test_an_image_of_another_folder_is_taken_for_the_one_beside_the_file_with_a_note(
    root: Path, stated: str, n_notes: int
) -> None:
    write_coco(root / "p1/a.json", [AnnotatedImage(stated, 60, 40, CELLS)])
    cohort = read_cohort(root)
    assert cells(cohort) == {"p1/f1": "N1 L2"}
    assert [(fault.kind, fault.loses_data) for fault in cohort.faults] == [("other_folder", False)] * n_notes
