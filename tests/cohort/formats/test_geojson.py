"""GeoJSON files: what is written comes back, QuPath's form is read, and whatever is wrong is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats.geojson import read_geojson, write_geojson
from marrowscope.geometry import area

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.cohort.annotations import AnnotatedImage
    from marrowscope.records import Annotation, JsonDict

RING = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.0, 0.0]]
HOLE = [[1.0, 1.0], [2.0, 1.0], [1.0, 2.0], [1.0, 1.0]]


def feature(geometry: object, label: object = "N", **properties: object) -> JsonDict:
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {"objectType": "annotation", "classification": {"name": label}} | properties,
    }


def polygon(*rings: object) -> JsonDict:
    return {"type": "Polygon", "coordinates": list(rings)}


def geojson(tmp_path: Path, document: object) -> tuple[AnnotatedImage, ...]:
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_geojson(AnnotationFile(path, "p1/f.geojson"))


def collection(*features: object, **members: object) -> JsonDict:
    return {"type": "FeatureCollection", "features": list(features)} | members


def test_written_rings_are_closed(tmp_path: Path, one_shape: tuple[Annotation, ...]) -> None:
    path = tmp_path / "f.geojson"
    write_geojson(path, "f.jpg", 100, 80, one_shape, descriptions=["p(CBLC) 0.93"])
    (item,) = json.loads(path.read_text(encoding="utf-8"))["features"]
    (ring,) = item["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert item["properties"]["description"] == "p(CBLC) 0.93"


@pytest.fixture
def one_shape(tmp_path: Path) -> tuple[Annotation, ...]:
    return geojson(tmp_path, collection(feature(polygon(RING))))[0].shapes


def test_a_bare_list_of_features_and_a_plain_label_are_read(tmp_path: Path) -> None:
    (read,) = geojson(tmp_path, [{"geometry": polygon(RING), "properties": {"label": "L2"}}])
    assert (read.shapes[0].code, read.image_path, read.width_px) == ("L2", "", None)
    np.testing.assert_array_equal(read.shapes[0].contour_xy, RING[:-1])


def test_holes_are_filled_and_the_largest_part_kept(tmp_path: Path) -> None:
    big = [[x * 3, y * 3] for x, y in RING]
    parts = {"type": "MultiPolygon", "coordinates": [[RING], [big, HOLE]]}
    (read,) = geojson(tmp_path, collection(feature(parts)))
    np.testing.assert_array_equal(read.shapes[0].contour_xy, big[:-1])
    assert [(fault.kind, fault.loses_data) for fault in read.faults] == [
        ("filled_hole", False),
        ("several_parts", False),
    ]
    assert "found a cell with 1 hole, expected one outline; the outer outline is kept" in read.faults[0].sentence()


@pytest.mark.parametrize("in_geometry", [True, False])
def test_an_ellipse_is_the_one_inside_its_box(tmp_path: Path, *, in_geometry: bool) -> None:
    box = polygon([[10, 20], [40, 20], [40, 40], [10, 40], [10, 20]])
    item = feature(box | {"isEllipse": True}) if in_geometry else feature(box, isEllipse=True)
    (read,) = geojson(tmp_path, collection(item))
    assert area(read.shapes[0].contour_xy) == pytest.approx(np.pi * 15 * 10, rel=0.002)


def test_an_inner_ring_beside_its_outline_is_no_hole(tmp_path: Path) -> None:
    beside = [[x + 100, y] for x, y in HOLE]
    reaching = [[x, y + 12] for x, y in HOLE]
    cells = [feature({"type": "Polygon", "coordinates": [RING, ring]}) for ring in (beside, reaching)]
    (read,) = geojson(tmp_path, collection(*cells))
    assert not read.shapes
    assert [(fault.kind, fault.loses_data) for fault in read.faults] == [("broken_shape", True)] * 2
    assert "found an inner ring outside of its outline, expected holes inside" in read.faults[0].sentence()


def test_an_inner_ring_in_a_bay_of_its_outline_is_no_hole_but_a_rounded_one_is(tmp_path: Path) -> None:
    bent = [[10, 10], [100, 10], [100, 30], [30, 30], [30, 100], [10, 100], [10, 10]]
    in_bay = [[60, 60], [90, 60], [90, 90], [60, 90], [60, 60]]
    rounded = [[9, 9], [20, 12], [12, 20], [9, 9]]
    (read,) = geojson(tmp_path, collection(feature(polygon(bent, in_bay)), feature(polygon(bent, rounded))))
    assert [shape.shape_index for shape in read.shapes] == [1]
    assert [(fault.kind, fault.shape_index) for fault in read.faults] == [("broken_shape", 0), ("filled_hole", 1)]
    assert "found an inner ring outside of its outline" in read.faults[0].sentence()


def nested(*children: JsonDict, label: str = "N") -> JsonDict:
    return feature(polygon([[x * 9, y * 9] for x, y in RING]), label, childObjects=list(children))


def test_a_child_of_its_parents_class_inside_it_is_no_second_cell(tmp_path: Path) -> None:
    (read,) = geojson(tmp_path, collection(nested(feature(polygon(RING))), feature(polygon(RING))))
    assert [shape.shape_index for shape in read.shapes] == [0, 2]
    (note,) = read.faults
    assert (note.kind, note.shape_index, note.loses_data) == ("nested_shape", 0, False)
    assert "found shape 1 of its class 'N' inside it" in note.sentence()


def test_a_child_beside_its_parent_is_a_cell(tmp_path: Path) -> None:
    (read,) = geojson(tmp_path, collection(nested(feature(polygon([[x + 200, y] for x, y in RING])))))
    assert (len(read.shapes), read.faults) == (2, ())


def test_several_children_of_one_class_are_all_left_out_with_their_parent(tmp_path: Path) -> None:
    moved = [[x + 12, y + 12] for x, y in RING]
    (read,) = geojson(tmp_path, collection(nested(feature(polygon(RING)), feature(polygon(moved)))))
    assert (read.shapes, read.n_shapes) == ((), 3)
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in read.faults] == [
        ("nested_shape", index, True) for index in range(3)
    ]
    assert "found 2 shapes of its class 'N' inside it, stated as its children" in read.faults[0].sentence()
    assert "found one of 2 shapes of class 'N' inside their parent, shape 0" in read.faults[1].sentence()


def test_shapes_of_several_planes_are_not_laid_over_each_other(tmp_path: Path) -> None:
    planes = [{"c": -1, "z": 2, "t": 0}, None, {"c": -1, "z": 0, "t": 0}, {"z": 1}, {"z": "x"}, "z"]
    features = [feature(polygon(RING) | ({"plane": plane} if plane else {})) for plane in planes]
    (read,) = geojson(tmp_path, collection(*features))
    assert [shape.shape_index for shape in read.shapes] == [1, 2]
    assert sorted((fault.kind, fault.shape_index) for fault in read.faults) == [
        ("broken_shape", 4),
        ("broken_shape", 5),
        ("other_plane", 0),
        ("other_plane", 3),
    ]
    assert "found a shape on plane z 2, t 0, c -1, expected shapes of one plane, plane z 0, t 0, c -1" in (
        next(fault.sentence() for fault in read.faults if fault.shape_index == 0)
    )
    (alone,) = geojson(tmp_path, collection(features[0]))
    assert (len(alone.shapes), alone.faults) == (1, ())


def test_an_id_counts_once_in_an_image_and_a_type_is_none(tmp_path: Path) -> None:
    ids = ["a", "a", 1, "1.0", "PathAnnotationObject", "PathAnnotationObject", [1]]
    features = [feature(polygon(RING)) | {"id": own} for own in ids]
    (read,) = geojson(tmp_path, collection(*features))
    assert [(shape.shape_index, shape.cell_id) for shape in read.shapes] == [(0, "a"), (2, "1"), (4, ""), (5, "")]
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in read.faults] == [
        ("duplicate_id", 1, True),
        ("duplicate_id", 3, True),
        ("broken_shape", 6, True),
    ]
    two = [feature(polygon(RING), image=name) | {"id": "a"} for name in ("p1/a.jpg", "p1/b.jpg")]
    assert [image.faults for image in geojson(tmp_path, collection(*two))] == [(), ()]


@pytest.mark.parametrize("key", ["childObjects", "children"])
@pytest.mark.parametrize("in_properties", [True, False])
def test_cells_nested_in_a_feature_are_read_with_their_holes(tmp_path: Path, key: str, *, in_properties: bool) -> None:
    outer, child = feature(polygon(RING)), feature({"type": "Polygon", "coordinates": [RING, HOLE]}, "L2")
    (outer["properties"] if in_properties else outer)[key] = [child]
    (read,) = geojson(tmp_path, collection(outer))
    assert [shape.code for shape in read.shapes] == ["N", "L2"]
    assert [(fault.kind, fault.loses_data) for fault in read.faults] == [
        ("filled_hole", False),
        ("nested_shape", False),
    ]
    assert "found 1 shape inside a parent of another class" in read.faults[1].sentence()


def test_a_hole_that_is_no_ring_is_a_fault(tmp_path: Path) -> None:
    (read,) = geojson(tmp_path, collection(feature({"type": "Polygon", "coordinates": [RING, [["a", 1]]]})))
    assert [(fault.kind, fault.loses_data) for fault in read.faults] == [("broken_shape", True)]


def test_a_list_of_class_names_is_its_only_name(tmp_path: Path) -> None:
    items = [feature(polygon(RING)) for _ in range(2)]
    items[0]["properties"]["classification"] = {"names": ["L2"]}
    items[1]["properties"]["classification"] = {"names": ["L2", "large"]}
    (read,) = geojson(tmp_path, collection(*items))
    assert [shape.code for shape in read.shapes] == ["L2", "L2: large"]


def test_one_file_for_many_images(tmp_path: Path) -> None:
    read = geojson(
        tmp_path,
        collection(
            feature(polygon(RING), image="p1/a.jpg"),
            feature(polygon(RING), "L2", image="p2\\b.jpg"),
            feature(polygon(RING), "N5", image="p1/a.jpg"),
        ),
    )
    assert [(image.image_path, [(s.code, s.shape_index) for s in image.shapes]) for image in read] == [
        ("p1/a.jpg", [("N", 0), ("N5", 2)]),
        ("p2/b.jpg", [("L2", 1)]),
    ]


@pytest.mark.parametrize(
    ("item", "kind", "found"),
    [
        (1, "broken_shape", "found 1, expected a feature with a geometry"),
        ({"geometry": None}, "broken_shape", "expected a feature with a geometry"),
        (feature(polygon(RING), None), "broken_shape", "expected a raw code as its name"),
        (feature({"type": "Point", "coordinates": [1, 2]}), "shape_type", "found geometry 'Point', expected a polygon"),
        (feature({"type": "MultiPolygon", "coordinates": []}), "shape_type", "found geometry 'MultiPolygon'"),
        (feature({"type": "Polygon", "coordinates": []}), "broken_shape", "found coordinates [], expected rings"),
        (feature(polygon([[0, "a"]])), "broken_shape", "found coordinates [[[0, 'a']]], expected rings of [x, y]"),
    ],
)
def test_a_feature_that_cannot_be_taken_is_named_and_the_rest_kept(
    tmp_path: Path, item: object, kind: str, found: str
) -> None:
    (read,) = geojson(tmp_path, collection(item, feature(polygon(RING))))
    assert [shape.shape_index for shape in read.shapes] == [1]
    (fault,) = read.faults
    assert (fault.kind, fault.shape_index, fault.loses_data) == (kind, 0, True)
    assert found in fault.sentence()
    assert read.n_shapes == 2


def test_no_feature_is_an_annotated_image_without_cells(tmp_path: Path) -> None:
    (read,) = geojson(tmp_path, collection(image="p1/a.jpg"))
    assert (read.readable, read.image_path, read.n_shapes) == (True, "p1/a.jpg", 0)


@pytest.mark.parametrize("document", [{"type": "Feature"}, 3])
def test_a_file_that_is_no_collection_is_one_fault(tmp_path: Path, document: object) -> None:
    (read,) = geojson(tmp_path, document)
    assert (read.readable, read.faults[0].kind) == (False, "broken_annotation")
    assert "expected a GeoJSON FeatureCollection" in read.faults[0].sentence()


def test_broken_json_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "f.geojson"
    path.write_text("{", encoding="utf-8")
    (read,) = read_geojson(AnnotationFile(path))
    assert "found broken JSON" in read.faults[0].sentence()
