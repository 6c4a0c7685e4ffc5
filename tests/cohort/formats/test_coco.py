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
        ({"image_id": 1, "category_id": 9, "segmentation": [FLAT]}, "broken_shape", "found category_id 9"),
        ({"image_id": 1, "category_id": [3], "segmentation": [FLAT]}, "broken_shape", "found category_id [3]"),
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
