"""What is written in any format comes back: labels, positions and, to the last digit, coordinates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.formats import format_named, read_annotations
from marrowscope.cohort.formats.coco import read_coco, write_coco
from marrowscope.cohort.formats.geojson import read_geojson, write_geojson
from marrowscope.cohort.formats.labelme import read_labelme, write_labelme
from marrowscope.imaging import write_image
from marrowscope.records import Annotation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

coordinates = st.floats(-1e4, 1e4, allow_nan=False)
points = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12, unique=True)
labels = st.sampled_from(
    ["N", "BLA{N,M,J,L; mainly N; cblc yes}", "N1", "0", "J2", "plasma cell", "名", 'quo"te']
) | st.text(min_size=1).map(str.strip).filter(bool)


@st.composite
def shape_lists(draw: st.DrawFn) -> tuple[Annotation, ...]:
    """Draw annotations numbered as a file would number them."""
    drawn = draw(st.lists(st.tuples(labels, points), max_size=6))
    return tuple(Annotation(label, np.array(contour), index) for index, (label, contour) in enumerate(drawn))


def assert_same_shapes(read: tuple[Annotation, ...], written: tuple[Annotation, ...]) -> None:
    """Assert equal labels, positions and, to the last digit, coordinates."""
    assert [(shape.code, shape.shape_index) for shape in read] == [(s.code, s.shape_index) for s in written]
    for one, other in zip(read, written, strict=True):
        np.testing.assert_array_equal(one.contour_xy, other.contour_xy)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=shape_lists(), width=st.integers(1, 9999), height=st.integers(1, 9999), exhaustive=st.booleans())
def test_labelme_round_trip(
    tmp_path: Path, shapes: tuple[Annotation, ...], width: int, height: int, *, exhaustive: bool
) -> None:
    path = tmp_path / "f.json"
    write_labelme(path, "bild 名.jpg", width, height, shapes, exhaustive=exhaustive)
    read = read_labelme(AnnotationFile(path))[0]
    assert (read.image_path, read.width_px, read.height_px) == ("bild 名.jpg", width, height)
    assert read.exhaustive is exhaustive
    assert read.faults == ()
    assert read.n_shapes == len(shapes)
    assert_same_shapes(read.shapes, shapes)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists=st.lists(st.tuples(shape_lists(), st.booleans()), max_size=4))
def test_coco_round_trip(tmp_path: Path, lists: list[tuple[tuple[Annotation, ...], bool]]) -> None:
    written = [
        AnnotatedImage(f"p1/f{number}.jpg", 100 + number, 80, shapes, exhaustive=exhaustive)
        for number, (shapes, exhaustive) in enumerate(lists)
    ]
    path = tmp_path / "a.coco.json"
    write_coco(path, written)
    read = read_coco(AnnotationFile(path))
    assert len(read) == len(written)
    numbering = 0
    for one, other in zip(read, written, strict=True):
        assert (one.image_path, one.width_px, one.height_px) == (other.image_path, other.width_px, other.height_px)
        assert one.exhaustive is other.exhaustive
        assert one.faults == ()
        renumbered = tuple(Annotation(s.code, s.contour_xy, numbering + i) for i, s in enumerate(other.shapes))
        assert_same_shapes(one.shapes, renumbered)
        numbering += len(other.shapes)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=shape_lists(), exhaustive=st.booleans())
def test_geojson_round_trip(tmp_path: Path, shapes: tuple[Annotation, ...], *, exhaustive: bool) -> None:
    path = tmp_path / "f.geojson"
    write_geojson(path, "f.jpg", 100, 80, shapes, exhaustive=exhaustive)
    (read,) = read_geojson(AnnotationFile(path))
    assert (read.image_path, read.width_px, read.height_px, read.exhaustive) == ("f.jpg", 100, 80, exhaustive)
    assert read.faults == ()
    assert_same_shapes(read.shapes, shapes)


FORMATS = ("labelme", "coco", "geojson", "yolo", "labelstudio")
SQUARE = [[5.0, 5.0], [25.0, 5.0], [25.0, 25.0], [5.0, 25.0]]
HOLE, SMALL = [[10, 10], [15, 10], [15, 15], [10, 10]], [[40, 5], [44, 5], [44, 9], [40, 9]]
TURNED = [[50.0, 20.0], [58.0, 28.0], [54.0, 32.0], [46.0, 24.0]]


def closed(ring: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    return [*ring, ring[0]]


def feature(kind: str, coordinates: object, name: str) -> dict[str, object]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def relations(tmp_path: Path) -> AnnotatedImage:
    """Read cells with a hole, of several polygons, grouped, turned and of four corners."""
    of_polygons = [
        feature("Polygon", [closed(SQUARE), HOLE], "N"),
        feature("MultiPolygon", [[closed(SMALL)], [closed(TURNED)]], "L2"),
    ]
    (tmp_path / "q.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": of_polygons}))
    shapes = [
        {"label": "R2", "points": SQUARE, "group_id": 1, "shape_type": "polygon"},
        {"label": "R2", "points": SMALL, "group_id": 1, "shape_type": "polygon"},
        {"label": "E", "points": TURNED, "shape_type": "rotation"},
        {"label": "V", "points": [[30, 30], [38, 36]], "shape_type": "rectangle"},
        {"label": "V", "points": [[30, 30], [38, 36], [38, 30], [30, 36]], "shape_type": "rectangle"},
    ]
    document = {"shapes": shapes, "imagePath": "f.png", "imageWidth": 60, "imageHeight": 40}
    (tmp_path / "l.json").write_text(json.dumps(document))
    read = (*read_geojson(AnnotationFile(tmp_path / "q.geojson")), *read_labelme(AnnotationFile(tmp_path / "l.json")))
    kinds = [fault.kind for image in read for fault in image.faults]
    assert sorted(kinds) == ["converted_shape"] * 3 + ["filled_hole"] + ["several_parts"] * 2
    assert not any(fault.loses_data for image in read for fault in image.faults)
    taken = [shape for image in read for shape in image.shapes]
    assert [shape.code for shape in taken] == ["N", "L2", "R2", "E", "V", "V"]
    np.testing.assert_array_equal(taken[1].contour_xy, TURNED)
    return AnnotatedImage("p1/f.png", 60, 40, tuple(Annotation(s.code, s.contour_xy, i) for i, s in enumerate(taken)))


@pytest.mark.parametrize("file_format", FORMATS)
def test_holes_parts_groups_and_rectangles_stay_as_they_were_read(tmp_path: Path, file_format: str) -> None:
    written = relations(tmp_path)
    (tmp_path / "c/p1").mkdir(parents=True)
    write_image(tmp_path / "c/p1/f.png", np.zeros((40, 60, 3), dtype=np.uint8))
    item = format_named(file_format)
    path = tmp_path / "c" / (f"p1/f{item.beside[0]}" if item.beside else f"a{item.in_root[0]}")
    item.write(path, [written])
    (read,) = read_annotations(AnnotationFile(path))
    assert read.faults == ()
    assert [shape.code for shape in read.shapes] == [shape.code for shape in written.shapes]
    for one, other in zip(read.shapes, written.shapes, strict=True):
        np.testing.assert_allclose(one.contour_xy, other.contour_xy, atol=0.01)


def test_objects_nested_in_others_and_one_object_alone_are_read(tmp_path: Path) -> None:
    child, grandchild = feature("Polygon", [closed(SMALL)], "L2"), feature("Polygon", [closed(TURNED)], "E")
    child["properties"] |= {"childObjects": [grandchild]}  # type: ignore[operator]
    parent = feature("Polygon", [closed(SQUARE)], "N")
    parent["properties"] |= {"childObjects": [child]}  # type: ignore[operator]
    parent["nucleusGeometry"] = {"type": "Polygon", "coordinates": [HOLE]}
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps(parent), encoding="utf-8")
    image, note = read_geojson(AnnotationFile(path))
    assert [shape.code for shape in image.shapes] == ["N", "L2", "E"]
    assert [fault.kind for fault in note.faults] == ["nucleus_outline"]
