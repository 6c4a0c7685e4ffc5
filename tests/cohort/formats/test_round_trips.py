"""What is written in any format comes back: labels, positions and, to the last digit, coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.formats.coco import read_coco, write_coco
from marrowscope.cohort.formats.geojson import read_geojson, write_geojson
from marrowscope.cohort.formats.labelme import read_labelme, write_labelme
from marrowscope.records import Annotation

if TYPE_CHECKING:
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
