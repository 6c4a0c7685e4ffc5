"""Ids, sizes and points of foreign files are read in one form, and one border keeps what a file raises."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort.annotations import (
    AnnotationFile,
    contour_from_points,
    ellipse,
    item_id,
    label_text,
    shorten,
    taken_or_fault,
)
from marrowscope.cohort.formats import read_annotations
from marrowscope.geometry import area

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import Annotation, Fault


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (1.0, 1),
        ("1", 1),
        ("1.0", 1),
        (" 1 ", 1),
        (0, 0),
        ("-3", -3),
        ("01", "01"),
        ("a", "a"),
        ("1.5", "1.5"),
        (1.5, 1.5),
        (2**70, 2**70),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_an_id_has_one_form(value: object, expected: object) -> None:
    assert item_id(value) == expected
    assert type(item_id(value)) is type(expected)


@pytest.mark.parametrize("value", [None, True, False, float("nan"), float("inf"), 2.0**60, "", " ", [1], {"id": 1}])
def test_what_is_no_id(value: object) -> None:
    assert item_id(value) is None


def test_a_label_is_text_whatever_its_type() -> None:
    assert [label_text(value) for value in (0, 0.0, "0", " N1 ")] == ["0", "0", "0", "N1"]
    none: list[object] = [None, True, 1.5, float("nan"), [], ""]
    assert [label_text(value) for value in none] == [None] * 6


@pytest.mark.parametrize(
    "points",
    [
        [[10**400, 1], [2, 2]],
        [[1e300, 1], [2, 2]],
        [[float("inf"), 1]],
        [[1, 2, 3]],
        [[True, 2], [3, 4]],
        [[-2e7, 1]],
        7,
    ],
)
def test_points_that_no_image_can_have(points: object) -> None:
    assert contour_from_points(points) is None


def test_area_of_an_ellipse() -> None:
    assert area(ellipse(10, 20, 40, 40)) == pytest.approx(np.pi * 15 * 10, rel=0.002)


def read_text(tmp_path: Path, text: str | bytes, name: str = "f.json") -> tuple[int, list[tuple[str, bool]]]:
    """Give the number of shapes that can be used, and the faults with what they lose."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    read = read_annotations(AnnotationFile(path, name))
    faults = [(fault.kind, fault.loses_data) for annotated in read for fault in annotated.faults]
    return sum(len(annotated.shapes) for annotated in read), faults


CELL = '{"label": "N1", "points": [[1, 1], [9, 1], [9, 9]]}'


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 401, "1e400", "NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_costs_its_shape_alone(tmp_path: Path, number: str) -> None:
    broken = CELL.replace("[[1,", f"[[{number},")
    assert read_text(tmp_path, f'{{"shapes": [{CELL}, {broken}, {CELL}]}}') == (2, [("broken_shape", True)])
    assert read_text(tmp_path, f'{{"shapes": [{CELL}], "imageWidth": {number}}}') == (1, [("bad_size", False)])


@pytest.mark.parametrize("number", ["9" * 5000, "NaN", "-Infinity"])
def test_a_number_that_is_none_is_noted_where_nothing_stands_on_it(tmp_path: Path, number: str) -> None:
    assert read_text(tmp_path, f'{{"shapes": [{CELL}], "x": {number}}}') == (1, [("bad_number", False)])


def test_a_key_with_two_values_is_a_fault(tmp_path: Path) -> None:
    assert read_text(tmp_path, f'{{"shapes": [{CELL}], "shapes": []}}') == (0, [("broken_annotation", True)])
    assert read_text(tmp_path, f'{{"shapes": [{CELL}], "version": "5", "version": "5"}}') == (1, [])


def test_gzip_is_unpacked_and_a_cut_one_is_a_fault(tmp_path: Path) -> None:
    packed = gzip.compress(f'{{"shapes": [{CELL}]}}'.encode())
    assert read_text(tmp_path, packed, "f.json.gz") == (1, [])
    assert read_text(tmp_path, packed[:-12], "f.json.gz") == (0, [("broken_annotation", True)])
    assert read_text(tmp_path, packed[:12] + b"\xff" * 20, "f.json.gz") == (0, [("broken_annotation", True)])


def test_whatever_reading_a_shape_raises_is_its_fault() -> None:
    faults: list[Fault] = []

    def read() -> Annotation | None:
        raise KeyError("points")  # noqa: EM101 - any error of any library

    assert taken_or_fault(read, "p1/f.json", 3, faults) is None
    (fault,) = faults
    assert (fault.kind, fault.shape_index, fault.where) == ("broken_shape", 3, "p1/f.json")
    assert "KeyError" in fault.sentence()


VALUES: list[object] = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    float("nan"),
    "",
    "x",
    "1",
    [],
    [1],
    [[]],
    {},
    {"a": [1]},
    "\ud800",
    10**30,
]
DOCUMENTS = [
    {"shapes": [{"label": "N1", "points": [[1, 1], [9, 1], [9, 9]], "group_id": 1, "shape_type": "polygon"}]},
    {
        "images": [{"id": 1, "file_name": "p1/f.png", "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}],
        "categories": [{"id": 1, "name": "N1"}],
    },
    {
        "image": {"path": "f.png", "width_px": 60},
        "features": [
            {
                "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9], [1, 1]]]},
                "properties": {"classification": {"name": "N1"}},
            }
        ],
    },
]


def mutants(value: object) -> list[object]:
    """Give a document with one of its values replaced, for every value and every replacement."""
    result: list[object] = list(VALUES)
    if isinstance(value, dict):
        for key, member in value.items():
            result += [{**value, key: other} for other in mutants(member)]
            result.append({other: member for other, member in value.items() if other != key})
    if isinstance(value, list):
        for number, member in enumerate(value):
            result += [[*value[:number], other, *value[number + 1 :]] for other in mutants(member)]
        result.append(value * 2)
    return result


@pytest.mark.parametrize("document", DOCUMENTS, ids=["labelme", "coco", "geojson"])
def test_no_mutant_raises_and_every_count_reconciles(
    tmp_path: Path, document: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("marrowscope.cohort.annotations._reason", refuse)  # the border is a net, not the way
    tried = 0
    for mutant in mutants(document):
        path = tmp_path / "f.json"
        path.write_text(json.dumps(mutant), encoding="utf-8")
        read = read_annotations(AnnotationFile(path, "f.json"))
        for annotated in read:
            assert len(annotated.shapes) + len(annotated.refused) == annotated.n_shapes
            assert not {shape.shape_index for shape in annotated.shapes} & set(annotated.refused)
            assert all(fault.sentence().isprintable() for fault in annotated.faults)
        tried += 1
    assert tried > 250


def _document(folder: Path, points: object) -> object:
    path = folder / "a.json"
    path.write_text(json.dumps({"shapes": [{"label": "N", "points": points}], "outline": [[points]]}), encoding="utf-8")
    return AnnotationFile(path).document


def test_outlines_of_a_document_are_arrays_at_any_depth_and_read_as_the_same_contours(tmp_path: Path) -> None:
    points = [[x, x / 4] for x in range(9)]
    document = _document(tmp_path, points)
    assert isinstance(document, dict)
    for found in (document["shapes"][0]["points"], document["outline"][0][0]):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(contour_from_points(found), contour_from_points(points))
    closed = contour_from_points(np.array([*points, points[0]], dtype=np.float64))
    np.testing.assert_array_equal(closed, points)
    assert contour_from_points(np.array([*points, [1e9, 0]])) is None


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param([True, 2], id="truth value"),
        pytest.param(["a", 2], id="text"),
        pytest.param([1], id="one number"),
        pytest.param([1, 2, 3], id="three numbers"),
        pytest.param([10**320, 2], id="a number that no float holds"),
        pytest.param(None, id="nothing"),
    ],
)
def test_what_is_no_outline_stays_a_list(tmp_path: Path, odd: object) -> None:
    points = [*([x, x / 4] for x in range(9)), odd]
    document = _document(tmp_path, points)
    assert isinstance(document, dict)
    assert document["shapes"][0]["points"] == points
    assert contour_from_points(points) is None


def test_a_message_shows_an_outline_as_it_is_written(tmp_path: Path) -> None:
    points = [[float(x), x / 4] for x in range(9)]
    document = _document(tmp_path, points)
    assert isinstance(document, dict)
    for found, written in ((document["shapes"][0]["points"], points), (document["outline"], [[points]])):
        assert shorten(found) == shorten(written) != shorten(points[:2])


@pytest.mark.parametrize("half", ["\\ud83d", "x\\uDE00", "\\ud83d\\ud83d\\ude00"])
@pytest.mark.parametrize("text", ['{{"shapes": [{{"label": "{}"}}]}}', '{{"a": {{"{}": 1}}}}', '["{}"]'])
def test_half_a_letter_which_no_file_can_hold_is_broken_json(tmp_path: Path, text: str, half: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text.format(half), encoding="utf-8")
    file = AnnotationFile(path)
    assert file.document is None
    assert "half a letter, a lone surrogate" in file.broken
    path.write_text(text.format("\\ud83d\\ude00"), encoding="utf-8")
    assert not AnnotationFile(path).broken
