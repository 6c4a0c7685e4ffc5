"""A small cohort on disk, broken in every way it can be: each fault is named, counted, and hides no other."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from marrowscope.cohort import read_cohort, require_clean
from marrowscope.cohort.annotations import AnnotatedImage
from marrowscope.cohort.formats.coco import write_coco
from marrowscope.cohort.formats.geojson import write_geojson
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.cohort.summary import count_by_center, count_by_code, count_by_diagnosis, summarize
from marrowscope.errors import CohortError
from marrowscope.geometry import area
from marrowscope.imaging import read_image, sha256_file, write_image
from marrowscope.records import Annotation
from marrowscope.vocabulary import CenterMappings, load_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.cohort import Cohort
    from marrowscope.records import ContourArray, Fault

WIDTH, HEIGHT = 60, 40
CSV = "patient_id,center,diagnosis,specimen,um_per_px\np1,A,AML,marrow,0.2\np2,B,control,blood,0.15\n"


def square(x: float, y: float, side: float = 10.0) -> ContourArray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])


def annotate(image: Path, *shapes: tuple[str, object], **members: object) -> None:
    """Write the LabelMe file of ``image``; ``members`` replace members of the document."""
    annotations = [Annotation(label, np.array(points, dtype=float), 0) for label, points in shapes]
    path = image.with_suffix(".json")
    write_labelme(path, image.name, WIDTH, HEIGHT, annotations)
    if members:
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | members), encoding="utf-8")


def add_image(path: Path, seed: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_image(path, noise)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients of two centers, two annotated images each, without a fault."""
    (tmp_path / "patients.csv").write_text(CSV, encoding="utf-8")
    for number, (patient, stem, shapes) in enumerate(
        [
            ("p1", "f1", [("N", square(5, 5)), ("N5", square(30, 5))]),
            ("p1", "f2", [("N1", square(5, 5))]),
            ("p2", "f1", [("N5", square(5, 5)), ("V", square(30, 20)), ("J1", square(30, 5))]),
            ("p2", "f2", []),
        ]
    ):
        annotate(add_image(tmp_path / patient / f"{stem}.png", number), *shapes)
    return tmp_path


def only(cohort: Cohort, kind: str) -> Fault:
    """Give the one fault, which has to be of ``kind``."""
    assert [fault.kind for fault in cohort.faults] == [kind]
    return cohort.faults[0]


def test_clean_cohort(root: Path) -> None:
    cohort = require_clean(read_cohort(root))
    assert cohort.faults == ()
    assert [(patient.patient_id, patient.specimen) for patient in cohort.patients] == [
        ("p1", "marrow"),
        ("p2", "blood"),
    ]
    assert [field.field_id for field in cohort.fields] == ["p1/f1", "p1/f2", "p2/f1", "p2/f2"]
    field = cohort.fields[0]
    assert (field.center, field.width_px, field.height_px, field.um_per_px) == ("A", WIDTH, HEIGHT, 0.2)
    assert field.sha256 == sha256_file(field.path)
    assert [(item.code, item.shape_index) for item in field.annotations] == [("N", 0), ("N5", 1)]
    np.testing.assert_array_equal(field.annotations[0].contour_xy, square(5, 5))
    assert cohort.fields[3].annotated
    assert cohort.fields[3].annotations == ()
    counts = cohort.counts
    assert (counts.patients.n_in, counts.images.n_in, counts.shapes.n_in) == (2, 4, 6)
    assert (counts.patients.n_out, counts.images.n_out, counts.shapes.n_out) == (2, 4, 6)


def test_counts_by_center_diagnosis_and_code(root: Path) -> None:
    cohort = read_cohort(root)
    a, b = count_by_center(cohort)
    assert (a.name, a.n_patients, a.n_images, a.n_cells, a.n_countable, a.n_cblc) == ("A", 1, 2, 3, 3, 2)
    assert (b.name, b.n_patients, b.n_annotated_images, b.n_cells, b.n_countable, b.n_cblc) == ("B", 1, 2, 3, 2, 1)
    assert [row.name for row in count_by_diagnosis(cohort)] == ["AML", "control"]
    by_code = {row.code: row for row in count_by_code(cohort)}
    assert list(by_code) == ["N", "N1", "N5", "J1", "V"]
    assert by_code["N5"].by_center == {"A": 1, "B": 1}
    assert by_code["N5"].by_diagnosis == {"AML": 1, "control": 1}
    summary = json.loads(json.dumps(summarize(cohort)))
    assert summary["vocabulary"]["name"] == "marrow-37"
    assert summary["counts"]["shapes"] == {"n_in": 6, "n_out": 6, "rejected": {}, "changed": {}}


def test_decoding_is_optional_and_gives_the_same(root: Path) -> None:
    assert read_cohort(root, decode=False).counts == read_cohort(root).counts


def test_progress_reaches_the_end(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    read_cohort(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# Images ---------------------------------------------------------------------------------------------------------


def test_pictures_that_are_not_read_are_counted_and_take_no_annotation(root: Path) -> None:
    (root / "p1/f1.nd2").touch()
    (root / "p1/f9.heic").touch()
    before = read_cohort(root)
    assert before.counts.images.rejected == {"unread_format": 2}
    assert [fault.where for fault in before.faults if fault.kind == "unread_format"] == ["p1/f1.nd2", "p1/f9.heic"]
    (root / "p1/f1.nd2").unlink()
    (root / "p1/f9.heic").unlink()
    after = read_cohort(root)
    shown = [[(item.field_id, len(item.annotations)) for item in cohort.fields] for cohort in (before, after)]
    assert shown[0] == shown[1]
    assert before.counts.images.n_in == after.counts.images.n_in + 2


def test_zero_byte_image(root: Path) -> None:
    (root / "p1/f1.png").write_bytes(b"")
    cohort = read_cohort(root)
    fault = only(cohort, "empty_file")
    assert fault.sentence() == (
        "p1/f1.png: found a file of 0 bytes, expected an image; export the image again or remove it"
    )
    assert cohort.counts.images.rejected == {"empty_file": 1}
    assert cohort.counts.shapes.rejected == {"image_rejected": 2}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.filterwarnings("ignore")
def test_truncated_image(root: Path, suffix: str) -> None:
    path = add_image(root / "p1/f3.png", 9)
    image = cv2.imread(str(path))
    assert image is not None
    path.unlink()
    data = cv2.imencode(suffix, image)[1].tobytes()
    path.with_suffix(suffix).write_bytes(data[: len(data) // 2])
    fault = only(read_cohort(root), "unreadable_image")
    assert fault.where == f"p1/f3{suffix}"
    assert f"found {len(data) // 2} bytes that do not decode, expected a complete image" in fault.sentence()


def test_text_named_like_an_image(root: Path) -> None:
    (root / "p1/f3.jpg").write_text("not an image", encoding="utf-8")
    assert only(read_cohort(root), "unreadable_image").loses_data


def test_patient_whose_only_image_is_unreadable_is_counted(root: Path) -> None:
    shutil.rmtree(root / "p2")
    (root / "p2").mkdir()
    (root / "p2/f1.png").write_bytes(b"x")
    cohort = read_cohort(root)
    assert [patient.patient_id for patient in cohort.patients] == ["p1"]
    assert cohort.counts.patients.rejected == {"no_usable_image": 1}


def test_duplicate_image_across_patients_is_a_leak(root: Path) -> None:
    shutil.copy(root / "p1/f1.png", root / "p2/copy.png")
    cohort = read_cohort(root)
    assert [(fault.kind, fault.where) for fault in cohort.faults] == [
        ("duplicate_across_patients", "p1/f1.png"),
        ("duplicate_across_patients", "p2/copy.png"),
    ]
    assert cohort.faults[0].sentence() == (
        "p1/f1.png: found the same content as p2/copy.png, expected an image to belong to one patient; find out whose "
        "it is and remove the others, or it would leak between training and test"
    )
    assert cohort.counts.images.rejected == {"duplicate_across_patients": 2}


def test_duplicate_image_of_one_patient_keeps_the_annotated_one(root: Path) -> None:
    shutil.copy(root / "p1/f1.png", root / "p1/a_copy.png")
    cohort = read_cohort(root)
    fault = only(cohort, "duplicate_image")
    assert fault.where == "p1/a_copy.png"
    assert "found the same content as p1/f1.png, expected each image once" in fault.sentence()
    assert cohort.counts.shapes.n_out == 6


def test_two_images_that_differ_in_suffix_only(root: Path) -> None:
    add_image(root / "p2/f2.jpg", 8)
    cohort = read_cohort(root)
    fault = only(cohort, "same_name")
    assert fault.where == "p2/f2.png"
    assert "found the same name as p2/f2.jpg except for the suffix" in fault.sentence()


def test_images_without_patient(root: Path) -> None:
    annotate(add_image(root / "p9/f1.png", 7), ("N", square(5, 5)))
    add_image(root / "p9/f2.png", 8)
    cohort = read_cohort(root)
    assert only(cohort, "images_without_patient").sentence() == (
        "p9: found 2 images of no patient in patients.csv, expected a folder named after a patient_id; add the "
        "patient to patients.csv or move the folder away"
    )
    assert cohort.counts.images.rejected == {"images_without_patient": 2}
    assert cohort.counts.shapes.rejected == {"image_rejected": 1}


def test_image_beside_patients_csv(root: Path) -> None:
    add_image(root / "loose.png", 7)
    fault = only(read_cohort(root), "images_without_patient")
    assert fault.where == "."


def test_images_in_a_subfolder(root: Path) -> None:
    add_image(root / "p1/deeper/f1.png", 7)
    cohort = read_cohort(root)
    assert only(cohort, "images_in_subfolder").sentence() == (
        "p1/deeper: found 1 image in a subfolder, expected images directly in p1; move them up or remove them"
    )
    assert cohort.counts.images.rejected == {"images_in_subfolder": 1}


def test_hidden_files_and_folders_are_nobodys(root: Path) -> None:
    add_image(root / "__MACOSX/f1.png", 7)
    (root / "p1/._f1.png").write_bytes(b"x")
    (root / "p1/._f1.json").write_bytes(b"x")
    assert read_cohort(root).faults == ()


# patients.csv ---------------------------------------------------------------------------------------------------


def test_patient_without_folder_and_with_an_empty_one(root: Path) -> None:
    (root / "patients.csv").write_text(CSV + "p3,B,AML,,\np4,B,AML,,\n", encoding="utf-8")
    (root / "p4").mkdir()
    cohort = read_cohort(root)
    assert [fault.sentence() for fault in cohort.faults] == [
        "p3: found no folder p3, expected a folder of images; add the images or remove the row from patients.csv",
        (
            "p4: found a folder without an image, expected a folder of images; "
            "add the images or remove the row from patients.csv"
        ),
    ]
    assert cohort.counts.patients.rejected == {"patient_without_images": 2}


def test_no_scale_is_noted_and_loses_nothing(root: Path) -> None:
    (root / "patients.csv").write_text(CSV.replace("0.2", "").replace("0.15", ""), encoding="utf-8")
    cohort = require_clean(read_cohort(root))
    assert [fault.kind for fault in cohort.faults] == ["no_scale", "no_scale"]
    assert cohort.faults[0].sentence() == (
        "p1: found 2 images without a scale, expected micrometers per pixel; fill the column um_per_px of patients.csv "
        "or set --um-per-px; the networks need a physical scale"
    )
    assert {field.um_per_px for field in read_cohort(root, um_per_px=0.3).fields} == {0.3}
    assert read_cohort(root, um_per_px=0.3).faults == ()


def test_scale_of_patients_csv_goes_before_the_default(root: Path) -> None:
    assert [field.um_per_px for field in read_cohort(root, um_per_px=0.3).fields] == [0.2, 0.2, 0.15, 0.15]


def test_scale_in_the_image_goes_before_patients_csv_and_is_noted_where_it_differs(root: Path) -> None:
    path = root / "p1/f1.png"
    body = b"pHYs" + struct.pack(">IIB", 2_000_000, 2_000_000, 1)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk + data[33:])
    cohort = require_clean(read_cohort(root))
    assert cohort.fields[0].um_per_px == pytest.approx(0.5)
    assert only(cohort, "scale_disagrees").sentence() == (
        "p1/f1.png: found 0.5 um per px in the image's metadata, expected 0.2 as in patients.csv; correct the wrong "
        "one; the image's own scale is used"
    )


@pytest.mark.parametrize("has_column", [True, False])
def test_scale_in_the_image_that_is_not_the_default_is_noted_where_no_table_states_one(
    root: Path, *, has_column: bool
) -> None:
    if not has_column:
        (root / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\np2,B,MDS\n", encoding="utf-8")
    path = root / "p1/f1.png"
    Image.open(path).save(path, dpi=(25_400 / 0.2,) * 2)
    cohort = read_cohort(root, um_per_px=0.5)
    if has_column:  # the table's scale is the image's own, and the default is used for no image of it
        assert not [fault for fault in cohort.faults if fault.kind == "scale_disagrees"]
    else:
        assert "expected 0.5 as in --um-per-px" in only(cohort, "scale_disagrees").sentence()


# Annotation files -----------------------------------------------------------------------------------------------


def test_broken_json(root: Path) -> None:
    (root / "p1/f1.json").write_text('{"shapes": [', encoding="utf-8")
    cohort = read_cohort(root)
    fault = only(cohort, "broken_annotation")
    assert fault.where == "p1/f1.json"
    assert "found broken JSON" in fault.sentence()
    assert cohort.counts.n_annotation_files_broken == 1
    assert not cohort.fields[0].annotated
    assert cohort.counts.images.n_out == 4


def test_annotation_without_image(root: Path) -> None:
    (root / "p1/f1.png").unlink()
    cohort = read_cohort(root)
    fault = only(cohort, "annotation_without_image")
    assert "found an annotation of f1.png, which does not exist, expected its image" in fault.sentence()
    assert cohort.counts.shapes.rejected == {"image_rejected": 2}


def test_image_named_in_the_annotation_goes_before_the_files_name(root: Path) -> None:
    (root / "p1/f1.json").rename(root / "p1/corrected.json")
    cohort = read_cohort(root)
    assert cohort.faults == ()
    assert len(cohort.fields[0].annotations) == 2


def test_second_annotation_of_an_image(root: Path) -> None:
    shutil.copy(root / "p1/f1.json", root / "p1/g1.json")
    cohort = read_cohort(root)
    fault = only(cohort, "second_annotation")
    assert fault.where == "p1/g1.json"
    assert "found a second annotation of f1.png (p1/f1.json is one)" in fault.sentence()
    assert cohort.counts.shapes.rejected == {"image_rejected": 2}


def test_wrong_image_size(root: Path) -> None:
    annotate(root / "p1/f1.png", ("N", square(5, 5)), imageWidth=2 * WIDTH)
    cohort = read_cohort(root)
    fault = only(cohort, "wrong_image_size")
    assert "found an annotation for an image of 120 x 40 px, expected 60 x 40 px, the size of p1/f1.png" in (
        fault.sentence()
    )
    assert cohort.counts.shapes.rejected == {"wrong_image_size": 1}
    assert not cohort.fields[0].annotated


def test_size_that_is_not_stated_is_not_checked(root: Path) -> None:
    annotate(root / "p1/f1.png", ("N", square(5, 5)), imageWidth=None, imageHeight=None)
    assert read_cohort(root).faults == ()


def test_not_exhaustive_image(root: Path) -> None:
    annotate(root / "p1/f1.png", ("N", square(5, 5)), flags={"exhaustive": False})
    cohort = read_cohort(root)
    assert cohort.faults == ()
    assert [field.exhaustive for field in cohort.fields] == [False, True, True, True]
    assert count_by_center(cohort)[0].n_not_exhaustive == 1


def test_image_without_annotation_is_kept_and_says_so(root: Path) -> None:
    (root / "p1/f1.json").unlink()
    cohort = read_cohort(root)
    assert cohort.faults == ()
    assert [field.annotated for field in cohort.fields] == [False, True, True, True]


def test_coco_file_for_the_whole_cohort(root: Path) -> None:
    before = read_cohort(root)
    for path in root.glob("*/*.json"):
        path.unlink()
    write_coco(
        root / "annotations.coco.json",
        [AnnotatedImage(f"{field.field_id}.png", WIDTH, HEIGHT, field.annotations) for field in before.fields],
    )
    after = read_cohort(root)
    assert after.faults == ()
    assert after.cells() == before.cells()


def test_bare_name_in_a_coco_file_has_to_be_of_one_image(root: Path) -> None:
    for path in root.glob("*/*.json"):
        path.unlink()
    add_image(root / "p1/alone.png", 9)
    shapes = (Annotation("N", square(5, 5), 0),)
    write_coco(
        root / "annotations.coco.json",
        [AnnotatedImage(name, WIDTH, HEIGHT, shapes) for name in ("alone.png", "f1.png", "p9/f2.png")],
    )
    cohort = read_cohort(root)
    assert [fault.kind for fault in cohort.faults] == ["unclear_image", "annotation_without_image"]
    assert "found the name f1.png, expected one image; state which is meant: p1/f1.png or p2/f1.png" in (
        cohort.faults[0].sentence()
    )
    assert {field.field_id: len(field.annotations) for field in cohort.fields if field.annotated} == {"p1/alone": 1}
    assert cohort.counts.shapes.rejected == {"image_rejected": 2}


def test_geojson_beside_the_image_and_for_the_cohort(root: Path) -> None:
    before = read_cohort(root)
    for path in root.glob("*/*.json"):
        path.unlink()
    for field in before.fields[:3]:
        write_geojson(field.path.with_suffix(".geojson"), "", WIDTH, HEIGHT, field.annotations)
    last = before.fields[3]
    write_geojson(root / "rest.geojson", f"{last.field_id}.png", WIDTH, HEIGHT, last.annotations)
    after = read_cohort(root)
    assert after.faults == ()
    assert after.cells() == before.cells()
    assert all(field.annotated for field in after.fields)


# Shapes ---------------------------------------------------------------------------------------------------------


def shapes_of_first(root: Path, *shapes: tuple[str, object], **members: object) -> Cohort:
    """Read the cohort with these shapes in its first image."""
    annotate(root / "p1/f1.png", *shapes, **members)
    return read_cohort(root)


def test_unknown_code_names_file_shape_and_nearest(root: Path) -> None:
    cohort = shapes_of_first(root, ("N", square(5, 5)), ("N7x", square(30, 5)))
    fault = only(cohort, "unknown_code")
    assert fault.sentence().startswith(
        "p1/f1.json, shape 1: found label 'N7x', expected a code of vocabulary marrow-37 (the nearest is 'N"
    )
    assert fault.loses_data
    assert cohort.counts.shapes.rejected == {"unknown_code": 1}
    assert not cohort.fields[0].exhaustive


@pytest.mark.parametrize(
    ("points", "found"),
    [
        (np.zeros((0, 2)), "a polygon of 0 points, expected at least 3"),
        ([[1, 1], [5, 5]], "a polygon of 2 points, expected at least 3"),
        ([[1, 1], [5, 5], [9, 9]], "a polygon without area, expected at least 1 square px"),
        (square(5, 5, 0.5), "a polygon without area"),
    ],
)
def test_empty_polygon(root: Path, points: object, found: str) -> None:
    cohort = shapes_of_first(root, ("N", points))
    fault = only(cohort, "empty_polygon")
    assert found in fault.sentence()
    assert (fault.shape_index, fault.loses_data) == (0, True)
    assert cohort.counts.shapes.rejected == {"empty_polygon": 1}


def test_self_crossing_polygon_is_repaired_and_counted(root: Path) -> None:
    cohort = shapes_of_first(root, ("N", [[0, 0], [10, 10], [10, 0], [0, 6]]))
    fault = only(cohort, "self_crossing")
    assert not fault.loses_data
    assert "it is repaired by keeping its largest part, 31 square px" in fault.sentence()
    assert cohort.counts.shapes.changed == {"self_crossing": 1}
    assert area(cohort.fields[0].annotations[0].contour_xy) == pytest.approx(31.25)
    assert cohort.fields[0].exhaustive
    require_clean(cohort)


def test_polygon_outside_of_the_image(root: Path) -> None:
    cohort = shapes_of_first(root, ("N", square(100, 5)))
    fault = only(cohort, "outside_image")
    assert "found a polygon around x 100-110, y 5-15, expected inside the image of 60 x 40 px" in fault.sentence()
    assert cohort.counts.shapes.rejected == {"outside_image": 1}


def test_polygon_that_stands_out_is_clipped_and_counted(root: Path) -> None:
    cohort = shapes_of_first(root, ("N", square(55, 5)))
    fault = only(cohort, "clipped_polygon")
    assert not fault.loses_data
    assert "found a polygon that extends 6.0 px outside" in fault.sentence()
    assert cohort.counts.shapes.changed == {"clipped_polygon": 1}
    assert area(cohort.fields[0].annotations[0].contour_xy) == pytest.approx(4.5 * 10)


def test_polygon_on_the_edge_is_left_alone(root: Path) -> None:
    cohort = shapes_of_first(root, ("N", square(WIDTH - 10, HEIGHT - 10)))
    assert cohort.faults == ()
    np.testing.assert_array_equal(cohort.fields[0].annotations[0].contour_xy, square(WIDTH - 10, HEIGHT - 10))


def test_cell_annotated_twice_is_noted(root: Path) -> None:
    cohort = shapes_of_first(root, ("N", square(5, 5)), ("N1", square(5.2, 5)))
    fault = only(cohort, "duplicate_polygon")
    assert not fault.loses_data
    assert "shape 1: found N1 with the same outline as shape 0 (N), expected each cell once" in fault.sentence()
    assert len(cohort.fields[0].annotations) == 2


def test_shape_of_another_kind(root: Path) -> None:
    shapes = [{"label": "N", "points": [[5, 5]], "shape_type": "point"}]
    cohort = shapes_of_first(root, shapes=shapes)
    assert only(cohort, "shape_type").loses_data
    assert cohort.counts.shapes.rejected == {"shape_type": 1}


def test_rectangle_is_converted_and_counted(root: Path) -> None:
    shapes = [{"label": "N", "points": [[5, 5], [15, 25]], "shape_type": "rectangle"}]
    cohort = shapes_of_first(root, shapes=shapes)
    assert not only(cohort, "converted_shape").loses_data
    assert cohort.counts.shapes.changed == {"converted_shape": 1}
    assert area(cohort.fields[0].annotations[0].contour_xy) == 200


def test_broken_shape(root: Path) -> None:
    cohort = shapes_of_first(root, shapes=[{"label": "N", "points": "none"}])
    assert only(cohort, "broken_shape").loses_data
    assert cohort.counts.shapes.rejected == {"broken_shape": 1}


def test_a_shape_with_two_faults_shows_both_and_counts_once(root: Path) -> None:
    cohort = shapes_of_first(root, ("myelo", square(200, 5)))
    assert {fault.kind for fault in cohort.faults} == {"unknown_code", "outside_image"}
    assert cohort.counts.shapes.rejected == {"unknown_code": 1}


# Mappings and refusal -------------------------------------------------------------------------------------------


def test_mapping_translates_drops_and_refuses(root: Path) -> None:
    for path in root.glob("*/*.json"):
        path.unlink()
    annotate(
        root / "p1/f1.png",
        ("SNE", square(5, 5)),
        ("PLATELET", square(20, 5)),
        ("SNEE", square(35, 5)),
    )
    cohort = read_cohort(root, mapping=load_mapping("barcelona-13"))
    assert [item.code for item in cohort.fields[0].annotations] == ["N5"]
    assert cohort.counts.shapes.rejected == {"dropped_by_mapping": 1, "unknown_code": 1}
    fault = only(cohort, "unknown_code")
    assert "expected a label of mapping barcelona-13 2 (the nearest is 'SNE')" in fault.sentence()


def test_a_coarse_label_is_kept_counted_and_read_again(root: Path) -> None:
    annotate(root / "p1/f1.png", ("BLA", square(5, 5)), ("EOS", square(30, 5)))
    annotate(root / "p1/f2.png", ("BLA", square(5, 5)))
    mappings = CenterMappings(None, {"A": load_mapping("munich-marrow-21")})
    cohort = require_clean(read_cohort(root, mapping=mappings))
    blast = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"
    assert [item.code for field in cohort.fields for item in field.annotations] == [
        blast, "E", blast, "N5", "V", "J1",
    ]  # fmt: skip
    row = count_by_code(cohort)[-1]
    assert (row.code, row.category, row.n_cells, row.by_center) == (blast, "N, M, Other, L", 2, {"A": 2})
    a, b = count_by_center(cohort)
    assert (a.n_cells, a.n_countable, a.n_cblc, a.n_undecided) == (3, 3, 2, 0)
    assert (b.n_cells, b.n_countable, b.n_cblc, b.n_undecided) == (3, 2, 1, 0)
    for path, field in ((field.path, field) for field in cohort.fields[:2]):
        write_labelme(path.with_suffix(".json"), path.name, WIDTH, HEIGHT, field.annotations)
    again = require_clean(read_cohort(root))
    assert [field.annotations[0].code for field in again.fields[:2]] == [blast, blast]
    assert again.cells() == cohort.cells()


def test_an_undecided_cell_is_counted_as_such(root: Path) -> None:
    annotate(root / "p1/f2.png", ("IG{N1,N2,N3}", square(5, 5)), ("X{J,J2}", square(30, 5)))
    cohort = require_clean(read_cohort(root))
    a = count_by_center(cohort)[0]
    assert (a.n_cells, a.n_countable, a.n_cblc, a.n_undecided) == (4, 3, 1, 2)


def test_a_coarse_label_that_cannot_be_loses_its_cell(root: Path) -> None:
    cohort = shapes_of_first(root, ("BLA{N,Q}", square(5, 5)))
    sentence = only(cohort, "unknown_code").sentence()
    assert "shape 0: found label 'BLA{N,Q}', expected a code of vocabulary marrow-37, or a coarse label" in sentence
    assert "found label 'Q'" in sentence


def test_what_a_source_can_label_comes_from_its_mapping(root: Path) -> None:
    mapping = load_mapping("marrow-cells")
    annotate(root / "p1/f2.png", ("N", square(5, 5)))
    fields = read_cohort(root, mapping=CenterMappings(None, {"A": mapping})).fields
    assert [field.can_label for field in fields] == [mapping.can_label, mapping.can_label, (), ()]


def test_dropping_on_purpose_leaves_the_image_exhaustive(root: Path) -> None:
    for path in root.glob("*/*.json"):
        path.unlink()
    annotate(root / "p1/f1.png", ("PLATELET", square(20, 5)))
    cohort = require_clean(read_cohort(root, mapping=load_mapping("barcelona-13")))
    assert cohort.fields[0].exhaustive
    assert cohort.counts.shapes.rejected == {"dropped_by_mapping": 1}


def test_every_fault_at_once(root: Path) -> None:
    (root / "patients.csv").write_text(CSV + "p3,,AML,,abc\n", encoding="utf-8")
    (root / "p2/f2.png").write_bytes(b"")
    (root / "p1/f2.json").write_text("{", encoding="utf-8")
    cohort = shapes_of_first(root, ("N", square(100, 5)), ("Q9", square(5, 5)), ("N", [[1, 1], [2, 2]]))
    assert sorted(fault.kind for fault in cohort.faults) == [
        "bad_um_per_px",
        "broken_annotation",
        "empty_cell",
        "empty_file",
        "empty_polygon",
        "outside_image",
        "patient_without_images",
        "unknown_code",
    ]


def test_require_clean_lists_the_faults_and_how_many_more(root: Path) -> None:
    cohort = shapes_of_first(root, *[("Q9", square(5 + 2 * number, 5, 1.5)) for number in range(23)])
    with pytest.raises(CohortError) as caught:
        require_clean(cohort)
    message = str(caught.value)
    assert "found 23 faults that would lose data, expected none" in message
    assert "p1/f1.json, shape 19: found label 'Q9'" in message
    assert message.endswith("and 3 more")
    assert len(caught.value.faults) == 23


def test_no_patients_csv(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"found no patients.csv, expected a cohort folder with patients.csv"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(("pack", "n_patients", "n_images", "n_cells"), [("blood-control", 54, 638, 7467)])
def test_real_cohort(packs_dir: Path, pack: str, n_patients: int, n_images: int, n_cells: int) -> None:
    cohort = require_clean(read_cohort(packs_dir / pack, decode=False))
    assert (len(cohort.patients), len(cohort.fields), cohort.counts.shapes.n_out) == (n_patients, n_images, n_cells)
    assert {patient.specimen for patient in cohort.patients} == {"blood"}


def test_a_photograph_in_another_encoding_is_noted_within_and_across_patients(root: Path) -> None:
    for name in ("p1/f9.png", "p2/f9.webp"):
        image = read_image(root / "p1/f1.png")
        write_image(root / name, image[::-1].copy() if name.endswith("png") else image, quality=100)
    cohort = read_cohort(root)
    assert [(fault.kind, fault.where, fault.loses_data) for fault in cohort.faults] == [
        ("near_duplicate", "p1/f9.png", False),
        ("near_duplicate_across_patients", "p2/f9.webp", False),
    ]
    assert "the photograph of p1/f1.png again" in cohort.faults[0].found
    assert cohort.counts.images.n_out == 6
    assert read_cohort(root, decode=False).faults == ()
