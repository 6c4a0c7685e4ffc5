"""A format is one module: the cohort reader, import and export find it without knowing its name."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cli.cohort import FORMATS
from marrowscope.cohort import read_cohort, require_clean
from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile, AnnotationFormat
from marrowscope.cohort.convert import import_annotations
from marrowscope.cohort.formats import annotation_formats, format_named, read_annotations
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.errors import InputError
from marrowscope.imaging import write_image
from marrowscope.records import Annotation, Patient
from marrowscope.runs.to_annotations import export_run
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import make_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEAD = ["image", "code", "shape", "x", "y"]
SQUARE = np.array([[5.1, 5.2], [15.3, 5.0], [15.0, 1 / 3 + 15], [5.0, 15.0]])


def write_points(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write a row per point."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for image in images:
            for number, shape in enumerate(image.shapes):
                writer.writerows((image.image_path, shape.code, number, x, y) for x, y in shape.contour_xy.tolist())


def read_points(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read the rows of each image."""
    with file.path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return tuple(
        AnnotatedImage(image, None, None, tuple(_shapes(list(of_image))), where=file.where)
        for image, of_image in groupby(rows, key=lambda row: row["image"])
    )


def _shapes(rows: list[dict[str, str]]) -> list[Annotation]:
    shapes = []
    for number, of_shape in groupby(rows, key=lambda row: row["shape"]):
        points = list(of_shape)
        contour = np.array([[float(row["x"]), float(row["y"])] for row in points])
        shapes.append(Annotation(points[0]["code"], contour, int(number)))
    return shapes


POINTS = AnnotationFormat(
    name="points",
    title="CSV of points",
    beside=(),
    in_root=(".points.csv",),
    recognize=lambda file: file.path.read_bytes().startswith(",".join(HEAD).encode()),
    read=read_points,
    write=write_points,
)


@pytest.fixture
def with_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a format of points beside those that are there."""
    known = (*annotation_formats(), POINTS)
    for module in ("marrowscope.cohort.formats", "marrowscope.cohort.sources", "marrowscope.cohort.listing"):
        monkeypatch.setattr(f"{module}.annotation_formats", lambda: known)


def test_every_module_is_a_format_of_its_own_name() -> None:
    assert [item.name for item in annotation_formats()] == ["coco", "geojson", "labelme", "labelstudio", "yolo"]
    assert "|".join(item.name for item in annotation_formats()) == FORMATS
    for item in annotation_formats():
        assert item.suffixes
        assert item.title


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="format 'pascal', expected one of coco, geojson, labelme, labelstudio, yolo;"):
        format_named("pascal")


@pytest.mark.usefixtures("with_points")
def test_a_new_format_is_exported_read_as_a_cohort_and_imported(tmp_path: Path) -> None:
    run, out = make_run(tmp_path, [Patient("p1", "A", "AML"), Patient("p2", "B", "control")]).folder, tmp_path / "out"
    done = export_run(run, out, "points", load_vocabulary())
    assert (out / "annotations.points.csv").is_file()
    cohort = read_cohort(out)
    assert cohort.counts.shapes.n_in == done.n_cells > 0
    by_labelme = tmp_path / "labelme"
    export_run(run, by_labelme, "labelme", load_vocabulary())
    other = read_cohort(by_labelme)
    for one, two in zip(cohort.fields, other.fields, strict=True):
        assert [item.code for item in one.annotations] == [item.code for item in two.annotations]
        for a, b in zip(one.annotations, two.annotations, strict=True):
            np.testing.assert_array_equal(a.contour_xy, b.contour_xy)


@pytest.mark.usefixtures("with_points")
@pytest.mark.parametrize("named", ["points", None])
def test_a_new_format_is_imported(tmp_path: Path, named: str | None) -> None:
    image = tmp_path / "images/p1/f1.png"
    image.parent.mkdir(parents=True)
    write_image(image, np.zeros((40, 60, 3), dtype=np.uint8))
    source = tmp_path / "theirs.csv"
    write_points(source, [AnnotatedImage("p1/f1.png", 60, 40, (Annotation("N1", SQUARE, 0),))])
    assert import_annotations(source, tmp_path / "images", named, load_vocabulary()).n_cells == 1
    (read,) = read_labelme(AnnotationFile(image.with_suffix(".json")))
    np.testing.assert_array_equal(read.shapes[0].contour_xy, SQUARE)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("f.json", '{"cells": []}', "found keys ['cells']"),
        ("f.json", "[]", "found []"),
        ("f.json", '[{"x": 1}]', "found [{'x': 1}]"),
        ("f.json", "3", "found 3"),
        ("f.json", "{", "found broken JSON"),
        ("f.csv", "a,b", "found a .csv file with other content"),
    ],
)
def test_an_unknown_file_is_of_no_format(tmp_path: Path, name: str, text: str, found: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (read,) = read_annotations(AnnotationFile(tmp_path / name, name))
    assert not read.readable
    (fault,) = read.faults
    assert fault.loses_data
    assert found in fault.sentence()
    assert "COCO (.coco.json), GeoJSON (.geojson), LabelMe (.json)" in fault.sentence()


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"shapes": []}, "labelme"),
        ({"type": "FeatureCollection", "features": []}, "geojson"),
        ([{"geometry": None}], "geojson"),
        ({"images": [], "annotations": [], "categories": []}, "coco"),
    ],
)
def test_content_tells_the_format_whatever_the_suffix(tmp_path: Path, document: object, name: str) -> None:
    path = tmp_path / "f.txt"
    path.write_text(json.dumps(document), encoding="utf-8")
    file = AnnotationFile(path)
    assert [item.name for item in annotation_formats() if item.recognize(file)] == [name]


def test_unknown_json_of_a_cohort_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis,um_per_px\np1,A,AML,0.2\n", encoding="utf-8")
    (tmp_path / "p1").mkdir()
    write_image(tmp_path / "p1/f1.png", np.zeros((40, 60, 3), dtype=np.uint8))
    (tmp_path / "p1/f1.json").write_text('{"cells": [1]}', encoding="utf-8")
    (fault,) = read_cohort(tmp_path).faults
    assert (fault.kind, fault.where) == ("broken_annotation", "p1/f1.json")
    (tmp_path / "p1/f1.json").write_text(json.dumps({"features": []}), encoding="utf-8")
    assert require_clean(read_cohort(tmp_path)).fields[0].annotated
