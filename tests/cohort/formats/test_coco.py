"""COCO files: what is written comes back, and whatever is wrong is named, never raised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.formats.coco import read_coco, write_coco
from marrowscope.records import Annotation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.records import JsonDict

FLAT = [0.0, 0.0, 10.0, 0.0, 0.0, 10.0]


def coco(tmp_path: Path, *annotations: object, images: list[JsonDict] | None = None) -> tuple[AnnotatedImage, ...]:
    document = {
        "images": images or [{"id": 1, "file_name": "p1/f.jpg", "width": 100, "height": 80}],
        "annotations": list(annotations),
        "categories": [{"id": 3, "name": "N"}, {"id": 4, "name": "L2"}],
    }
    path = tmp_path / "a.coco.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_coco(AnnotationFile(path, "a.coco.json"))


def test_written_box_and_area_are_those_of_the_polygon(tmp_path: Path) -> None:
    path = tmp_path / "a.coco.json"
    shape = Annotation("N", np.array(FLAT).reshape(-1, 2) + 5, 0)
    write_coco(path, [AnnotatedImage("f.jpg", 100, 80, (shape,))])
    (item,) = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    assert (item["bbox"], item["area"], item["iscrowd"]) == ([5, 5, 10, 10], 50, 0)


def test_image_without_annotation_is_annotated_and_empty(tmp_path: Path) -> None:
    (image,) = coco(tmp_path)
    assert (image.readable, image.n_shapes, image.width_px, image.height_px) == (True, 0, 100, 80)


def test_largest_of_several_parts_is_kept_and_said(tmp_path: Path) -> None:
    small, large = [0, 0, 1, 0, 0, 1], [50, 50, 70, 50, 50, 70]
    (image,) = coco(tmp_path, {"image_id": 1, "category_id": 3, "segmentation": [small, large]})
    np.testing.assert_array_equal(image.shapes[0].contour_xy, np.array(large).reshape(-1, 2))
    assert [(fault.kind, fault.loses_data) for fault in image.faults] == [("several_parts", False)]
    assert "found a cell of 2 parts" in image.faults[0].sentence()


@pytest.mark.parametrize(
    ("item", "kind", "found"),
    [
        ({"image_id": 1, "category_id": 9, "segmentation": [FLAT]}, "unknown_category", "found category_id 9"),
        ({"image_id": 1, "category_id": [3], "segmentation": [FLAT]}, "unknown_category", "found category_id [3]"),
        ({"image_id": 1, "category_id": 3, "segmentation": [[1, 2, 3]]}, "broken_shape", "found segmentation [[1, 2"),
        ({"image_id": 1, "category_id": 3, "segmentation": []}, "broken_shape", "found segmentation []"),
        ({"image_id": 1, "category_id": 3, "segmentation": [["a", 2]]}, "broken_shape", "found segmentation [['a'"),
        ({"image_id": 1, "category_id": 3, "segmentation": {"counts": "x"}}, "shape_type", "a run-length mask"),
        ({"image_id": 1, "category_id": 3, "segmentation": [FLAT], "iscrowd": 1}, "shape_type", "crowd region"),
    ],
)
def test_an_annotation_that_cannot_be_taken_is_named_and_the_rest_kept(
    tmp_path: Path, item: JsonDict, kind: str, found: str
) -> None:
    (image,) = coco(tmp_path, item, {"image_id": 1, "category_id": 4, "segmentation": [FLAT]})
    assert [(shape.code, shape.shape_index) for shape in image.shapes] == [("L2", 1)]
    (fault,) = image.faults
    assert (fault.kind, fault.shape_index, fault.loses_data) == (kind, 0, True)
    assert found in fault.sentence()
    assert image.n_shapes == 2


def coco_of(tmp_path: Path, document: JsonDict) -> tuple[AnnotatedImage, ...]:
    path = tmp_path / "a.coco.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_coco(AnnotationFile(path, "a.coco.json"))


def kinds(images: tuple[AnnotatedImage, ...]) -> list[tuple[str, int | None]]:
    return [(fault.kind, fault.shape_index) for image in images for fault in image.faults]


@pytest.mark.parametrize("form", [int, float, str, lambda number: f"{number}.0"])
def test_ids_of_any_type_find_each_other(tmp_path: Path, form: Callable[[int], object]) -> None:
    images = coco_of(
        tmp_path,
        {
            "images": [{"id": number, "file_name": f"f{number}.png"} for number in (1, 2, 3)],
            "annotations": [
                {"id": form(n), "image_id": form(n), "category_id": form(n), "segmentation": [FLAT], "iscrowd": form(0)}
                for n in (1, 2, 3)
            ],
            "categories": [{"id": n, "name": name} for n, name in ((1, "N1"), (2, "L2"), (3, "V"))],
        },
    )
    assert [[shape.code for shape in image.shapes] for image in images] == [["N1"], ["L2"], ["V"]]
    assert kinds(images) == []


def test_an_id_of_two_images_belongs_to_neither(tmp_path: Path) -> None:
    cell = {"image_id": 1, "category_id": 3, "segmentation": [FLAT]}
    listed: list[JsonDict] = [
        {"id": 1, "file_name": "a.png"},
        {"id": "1", "file_name": "b.png"},
        {"id": 2, "file_name": "c.png"},
    ]
    images = coco(tmp_path, cell, cell | {"image_id": 2}, images=listed)
    assert [(image.image_path, image.n_shapes, image.placed) for image in images] == [
        ("c.png", 1, True),
        ("(image id 1, listed twice)", 1, False),
        ("", 0, False),
    ]
    assert "found image id 1 2 times, as 'a.png' and 'b.png', expected each id once" in images[2].faults[0].sentence()


def test_an_id_of_two_categories_names_no_cell(tmp_path: Path) -> None:
    document: JsonDict = {
        "images": [{"id": 1, "file_name": "f.png"}],
        "annotations": [{"image_id": 1, "category_id": n, "segmentation": [FLAT]} for n in (1, 2, 3)],
        "categories": [
            {"id": 1, "name": "N1"},
            {"id": 1.0, "name": "L2"},
            {"id": 2, "name": "V"},
            {"id": "2", "name": "V"},
            {"id": [3], "name": "N"},
        ],
    }
    images = coco_of(tmp_path, document)
    assert [shape.code for shape in images[0].shapes] == ["V"]
    assert kinds(images) == [
        ("unknown_category", 0),
        ("unknown_category", 2),
        ("duplicate_id", None),
        ("broken_id", None),
    ]
    assert "found category id 1 twice, as 'N1' and 'L2'" in images[1].faults[0].sentence()


def test_an_annotation_id_counts_once(tmp_path: Path) -> None:
    cells = [{"id": number, "image_id": 1, "category_id": 3, "segmentation": [FLAT]} for number in (7, "7", 7.0, 8)]
    (image,) = coco(tmp_path, *cells)
    assert [shape.shape_index for shape in image.shapes] == [0, 3]
    assert kinds((image,)) == [("duplicate_id", 1), ("duplicate_id", 2)]
    assert image.n_shapes == 4


@pytest.mark.parametrize("wrong", [None, [1], {"id": 1}, True, float("nan"), float("inf")])
def test_what_is_no_id_is_a_fault_of_its_image_or_shape(tmp_path: Path, wrong: object) -> None:
    cell = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [FLAT]}
    images = coco(tmp_path, cell, images=[{"id": wrong, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}])
    assert [(image.image_path, image.n_shapes) for image in images] == [("b.png", 1), ("", 0)]
    assert kinds(images) == [("broken_id", None)]
    images = coco(tmp_path, cell, cell | {"id": 2, "image_id": wrong}, cell | {"id": 3, "category_id": wrong})
    assert [(image.n_shapes, len(image.shapes)) for image in images] == [(2, 1), (1, 1)]
    assert not images[1].placed


def test_an_own_id_that_is_none_is_a_fault_but_may_be_absent(tmp_path: Path) -> None:
    cell = {"image_id": 1, "category_id": 3, "segmentation": [FLAT]}
    (image,) = coco(tmp_path, cell, cell | {"id": [1]}, cell | {"id": None}, cell | {"id": float("nan")})
    assert kinds((image,)) == [("broken_shape", 1), ("broken_shape", 3)]


def test_annotations_of_an_unlisted_image_are_not_lost_in_silence(tmp_path: Path) -> None:
    images = coco(tmp_path, {"image_id": 7, "category_id": 3, "segmentation": [FLAT]}, "nonsense")
    assert [image.image_path for image in images] == [
        "p1/f.jpg",
        "(image id 7, not listed)",
        "(image id None, not listed)",
    ]
    assert [image.n_shapes for image in images] == [0, 1, 1]


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": [1], "annotations": [], "categories": []}'])
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.coco.json"
    path.write_text(text, encoding="utf-8")
    (image,) = read_coco(AnnotationFile(path))
    assert (image.readable, image.faults[0].kind) == (False, "broken_annotation")
    assert "COCO file" in image.faults[0].sentence()


def test_real_annotations(packs_dir: Path) -> None:
    images = read_coco(AnnotationFile(packs_dir / "marrow-fields" / "annotations.coco.json"))
    assert (len(images), sum(image.n_shapes for image in images)) == (298, 1643)
    assert not any(fault.loses_data for image in images for fault in image.faults)


def test_two_categories_of_one_name_are_noted(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 1, "file_name": "f1.png"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "segmentation": [[5, 5, 20, 5, 20, 20 + n]]} for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "N1"}, {"id": 2, "name": "N1"}],
    }
    (tmp_path / "a.coco.json").write_text(json.dumps(document), encoding="utf-8")
    image, about_file = read_coco(AnnotationFile(tmp_path / "a.coco.json"))
    assert [shape.code for shape in image.shapes] == ["N1", "N1"]
    assert [(fault.kind, fault.loses_data) for fault in about_file.faults] == [("same_category", False)]
    assert "category ids 1 and 2, both 'N1'" in about_file.faults[0].sentence()


BOX = [40.0, 40.0, 60.0, 40.0, 60.0, 50.0, 40.0, 50.0]


def with_rotation(rotation: object, flat: list[float]) -> JsonDict:
    attributes = {"occluded": False, "rotation": rotation}
    return {"image_id": 1, "category_id": 3, "segmentation": [flat], "attributes": attributes}


@pytest.mark.parametrize("rotation", [90.0, 450, "90"])
def test_a_turned_rectangle_of_cvat_is_turned(tmp_path: Path, rotation: object) -> None:
    (image,) = coco(tmp_path, with_rotation(rotation, BOX))
    np.testing.assert_allclose(image.shapes[0].contour_xy, [[55, 35], [55, 55], [45, 55], [45, 35]], atol=1e-9)
    (note,) = image.faults
    assert (note.kind, note.loses_data) == ("converted_shape", False)
    assert "a rectangle turned by" in note.sentence()


def test_it_is_turned_clockwise_around_its_middle(tmp_path: Path) -> None:
    (image,) = coco(tmp_path, with_rotation(30, BOX))
    corner = image.shapes[0].contour_xy[0]  # (-10, -5) from the middle (50, 45); y points down
    np.testing.assert_allclose(corner, [50 - 10 * 3**0.5 / 2 + 2.5, 45 - 5 - 5 * 3**0.5 / 2])


@pytest.mark.parametrize("rotation", [0, 0.0, None, "", 360, False])
def test_no_rotation_changes_nothing(tmp_path: Path, rotation: object) -> None:
    (image,) = coco(tmp_path, with_rotation(rotation, FLAT))
    assert (image.shapes[0].contour_xy.ravel().tolist(), image.faults) == (FLAT, ())


@pytest.mark.parametrize(("rotation", "flat"), [(45, FLAT), (45, [*BOX[:6], 41.0, 51.0]), ("left", BOX), ([1], BOX)])
def test_a_rotation_that_may_be_drawn_already_is_a_fault(tmp_path: Path, rotation: object, flat: list[float]) -> None:
    (image,) = coco(tmp_path, with_rotation(rotation, flat))
    (fault,) = image.faults
    assert (image.shapes, fault.kind, fault.shape_index) == ((), "broken_shape", 0)
    assert "found attributes.rotation" in fault.sentence()
