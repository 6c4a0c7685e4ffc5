"""LabelMe files: what is written comes back, and whatever is wrong is named, never raised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats.labelme import read_labelme, write_labelme
from marrowscope.geometry import area
from marrowscope.records import Annotation

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.cohort.annotations import AnnotatedImage

TRIANGLE = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]


def labelme(tmp_path: Path, *shapes: object, **members: object) -> AnnotatedImage:
    """Read a file of these shapes; ``members`` replace or add members of the document."""
    document: dict[str, Any] = {
        "version": "5.0.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "f.jpg",
        "imageWidth": 100,
        "imageHeight": 80,
    } | members
    path = tmp_path / "f.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_labelme(AnnotationFile(path, "p1/f.json"))[0]


def test_written_file_has_what_labelme_needs(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_labelme(path, "f.jpg", 100, 80, [Annotation("N", np.array(TRIANGLE), 0)], descriptions=["p(CBLC) 0.93"])
    document = json.loads(path.read_text(encoding="utf-8"))
    assert {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"} <= document.keys()
    (shape,) = document["shapes"]
    assert {"label", "points", "group_id", "shape_type", "flags"} <= shape.keys()
    assert (shape["shape_type"], shape["description"]) == ("polygon", "p(CBLC) 0.93")


def test_image_path_keeps_its_folders_with_forward_slashes(tmp_path: Path) -> None:
    assert labelme(tmp_path, imagePath="C:\\scans\\p1\\f.jpg").image_path == "C:/scans/p1/f.jpg"
    assert labelme(tmp_path, imagePath=None).image_path == ""


def test_no_shapes_is_an_annotated_image_without_cells(tmp_path: Path) -> None:
    read = labelme(tmp_path)
    assert (read.readable, read.shapes, read.n_shapes, read.exhaustive) == (True, (), 0, True)


def test_numbers_as_labels_are_their_digits(tmp_path: Path) -> None:
    assert labelme(tmp_path, {"label": 0, "points": TRIANGLE}).shapes[0].code == "0"


def test_closing_point_is_dropped(tmp_path: Path) -> None:
    read = labelme(tmp_path, {"label": "N", "points": [*TRIANGLE, TRIANGLE[0]]})
    np.testing.assert_array_equal(read.shapes[0].contour_xy, TRIANGLE)


def test_rectangle_and_circle_become_polygons_and_say_so(tmp_path: Path) -> None:
    read = labelme(
        tmp_path,
        {"label": "N", "points": [[10, 20], [30, 50]], "shape_type": "rectangle"},
        {"label": "L2", "points": [[50, 40], [50, 50]], "shape_type": "circle"},
    )
    assert area(read.shapes[0].contour_xy) == 600
    assert area(read.shapes[1].contour_xy) == pytest.approx(np.pi * 100, rel=0.002)
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in read.faults] == [
        ("converted_shape", 0, False),
        ("converted_shape", 1, False),
    ]
    assert read.faults[0].sentence().startswith("p1/f.json, shape 0: found a rectangle, expected a polygon; it is read")


CORNERS = [[40, 10], [60, 20], [50, 40], [30, 30]]


@pytest.mark.parametrize("shape_type", ["rectangle", "rotation", "oriented_rectangle", "rotated_rectangle"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 1, 3), (0, 1, 3, 2)])
def test_four_corners_are_a_closed_outline_in_any_order(
    tmp_path: Path, shape_type: str, order: tuple[int, ...]
) -> None:
    read = labelme(tmp_path, {"label": "N", "points": [CORNERS[n] for n in order], "shape_type": shape_type})
    (shape,) = read.shapes
    assert area(shape.contour_xy) == 500
    assert sorted(map(tuple, shape.contour_xy.tolist())) == sorted(map(tuple, CORNERS))
    assert [(fault.kind, fault.loses_data) for fault in read.faults] == [("converted_shape", False)]


def scaled(factor: float, label: str = "N", group_id: object = 1) -> dict[str, Any]:
    return {"label": label, "group_id": group_id, "points": [[factor * x, factor * y] for x, y in TRIANGLE]}


def test_parts_of_one_group_are_one_cell(tmp_path: Path) -> None:
    read = labelme(tmp_path, scaled(0.5), scaled(2), scaled(1, "L2"), scaled(0.4, group_id="1"), scaled(1, group_id=2))
    assert [(shape.code, shape.shape_index) for shape in read.shapes] == [("N", 1), ("L2", 2), ("N", 4)]
    assert area(read.shapes[0].contour_xy) == 200
    (fault,) = read.faults
    assert (fault.kind, fault.shape_index, fault.loses_data) == ("several_parts", 1, False)
    assert "found a cell of 3 parts, group_id 1, expected one outline; the largest is kept" in fault.sentence()


def test_a_part_as_large_as_a_cell_is_a_fault(tmp_path: Path) -> None:
    read = labelme(tmp_path, scaled(1), scaled(1.1), scaled(0.2))
    assert [shape.shape_index for shape in read.shapes] == [1]
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in read.faults] == [
        ("several_parts", 0, True),
        ("several_parts", 1, False),
    ]
    assert read.n_shapes == 2


def test_shapes_without_a_group_stay_apart(tmp_path: Path) -> None:
    read = labelme(tmp_path, *(scaled(1, group_id=group_id) for group_id in (None, None, [1], [1], "", "")))
    assert (len(read.shapes), read.faults) == (6, ())


@pytest.mark.parametrize(
    ("shape", "kind", "found"),
    [
        ("cell", "broken_shape", "found 'cell', expected a shape with label and points"),
        ({"label": None, "points": TRIANGLE}, "broken_shape", "found label None, expected a raw code as label"),
        ({"label": " ", "points": TRIANGLE}, "broken_shape", "found label ' ', expected"),
        ({"label": True, "points": TRIANGLE}, "broken_shape", "found label True, expected"),
        ({"label": "N"}, "broken_shape", "found points None, expected a list of [x, y]"),
        ({"label": "N", "points": [[1, 2], [3]]}, "broken_shape", "found points [[1, 2], [3]], expected"),
        ({"label": "N", "points": [[1, "a"]]}, "broken_shape", "found points [[1, 'a']], expected"),
        ({"label": "N", "points": [[1, float("nan")]]}, "broken_shape", "found points [[1, nan]], expected"),
        ({"label": "N", "points": [[1, 2]], "shape_type": "point"}, "shape_type", "found shape type 'point' with 1"),
        ({"label": "N", "points": TRIANGLE, "shape_type": "circle"}, "shape_type", "'circle' with 3 points"),
        ({"label": "N", "points": [[1, 2], [3, 4]], "shape_type": "mask"}, "shape_type", "expected a polygon"),
    ],
)
def test_a_shape_that_cannot_be_taken_is_named_and_the_rest_kept(
    tmp_path: Path, shape: object, kind: str, found: str
) -> None:
    read = labelme(tmp_path, {"label": "N", "points": TRIANGLE}, shape, {"label": "N5", "points": TRIANGLE})
    assert [(item.code, item.shape_index) for item in read.shapes] == [("N", 0), ("N5", 2)]
    (fault,) = read.faults
    assert (fault.kind, fault.shape_index, fault.loses_data) == (kind, 1, True)
    assert found in fault.sentence()
    assert read.n_shapes == 3


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"{", "found broken JSON"),
        (b"", "found broken JSON"),
        (b"\xff\xfe\x00", "found broken JSON"),
        (b"[1, 2]", "found [1, 2], expected a LabelMe file with a list of shapes"),
        (b'{"a": 1}', "found keys ['a'], expected a LabelMe file"),
        (b'{"shapes": {}}', "expected a LabelMe file with a list of shapes"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path, text: bytes, found: str) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(text)
    read = read_labelme(AnnotationFile(path))[0]
    (fault,) = read.faults
    assert (fault.kind, fault.loses_data, read.readable, read.n_shapes) == ("broken_annotation", True, False, 0)
    assert found in fault.sentence()
    assert fault.sentence().startswith(str(path))


def test_a_file_that_is_not_there_is_one_fault(tmp_path: Path) -> None:
    (fault,) = read_labelme(AnnotationFile(tmp_path / "none.json"))[0].faults
    assert "found a file that cannot be opened (No such file" in fault.sentence()


@pytest.mark.parametrize(
    ("width", "expected", "noted"),
    [
        (None, None, False),
        (0, None, False),
        ("100", 100, False),
        (100.0, 100, False),
        (10.5, None, True),
        (float("nan"), None, True),
        (float("inf"), None, True),
        ("wide", None, True),
        ([100], None, True),
        (-3, None, True),
    ],
)
def test_stated_size(tmp_path: Path, width: object, expected: int | None, *, noted: bool) -> None:
    read = labelme(tmp_path, imageWidth=width)
    assert read.width_px == expected
    assert [(fault.kind, fault.loses_data) for fault in read.faults] == [("bad_size", False)] * noted


def test_a_contour_that_a_network_drew_keeps_its_flag(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    drawn = [Annotation("N", np.array(TRIANGLE), 0), Annotation("N", np.array(TRIANGLE), 1, network_contour=True)]
    write_labelme(path, "f.jpg", 100, 80, drawn)
    (image,) = read_labelme(AnnotationFile(path))
    assert [shape.network_contour for shape in image.shapes] == [False, True]
    assert [entry["flags"] for entry in json.loads(path.read_text(encoding="utf-8"))["shapes"]] == [
        {},
        {"network_contour": True},
    ]
