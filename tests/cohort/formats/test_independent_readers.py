"""What is exported is opened by others' code, not only by ours, and by the rules of the specifications.

A run of two photographs goes out in every format. The expected contours are those of its table.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import shapely.geometry

from marrowscope.cohort import read_cohort
from marrowscope.cohort.convert import import_annotations
from marrowscope.records import Patient
from marrowscope.runs.to_annotations import export_run
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import make_run

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VOCABULARY = load_vocabulary()
IMAGES = ("p1/field_0.png", "p1/field_1.png", "p2/field_0.png")
MAX_PX = 0.01
"""How far a contour may be from the one that was exported."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    return make_run(root, [Patient("p1", "A", "AML"), Patient("p2", "B", "control")]).folder


@pytest.fixture(scope="module")
def kept(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the kept cells of the run's table by image, in order."""
    cells = pl.read_parquet(run / "cells.parquet").filter(pl.col("reject_reason").is_null())
    return {name: cells.filter(pl.col("field_id") == name[:-4]).to_dicts() for name in IMAGES}


def export(run: Path, tmp_path: Path, file_format: str) -> Path:
    export_run(run, tmp_path / "out", file_format, VOCABULARY)
    return tmp_path / "out"


def points(cell: dict[str, Any]) -> NDArray[np.float64]:
    return np.reshape(cell["contour_xy"], (-1, 2))


def distance_px(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the Hausdorff distance of two closed outlines, whatever their first points and directions."""
    return float(shapely.hausdorff_distance(shapely.geometry.LinearRing(one), shapely.geometry.LinearRing(other)))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_coco_is_read_by_pycocotools(run: Path, kept: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(export(run, tmp_path, "coco") / "annotations.coco.json"))
    names = {image["file_name"]: image["id"] for image in coco.loadImgs(coco.getImgIds())}
    assert tuple(names) == IMAGES
    for name, cells in kept.items():
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[names[name]]))
        assert [item["cell_id"] for item in annotations] == [cell["cell_id"] for cell in cells]
        for item, cell in zip(annotations, cells, strict=True):
            contour = points(cell)
            (flat,) = item["segmentation"]
            assert distance_px(np.reshape(flat, (-1, 2)), contour) <= MAX_PX
            # Its masks count pixels by another rule than ours: half a pixel along the outline is allowed.
            polygon = shapely.geometry.Polygon(contour)
            assert abs(coco.annToMask(item).sum() - polygon.area) <= polygon.length / 2
            assert item["bbox"][2] == pytest.approx(np.ptp(contour[:, 0]))
            assert coco.loadCats([item["category_id"]])[0]["name"]


def test_geojson_keeps_the_rules_of_rfc_7946(run: Path, kept: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    out = export(run, tmp_path, "geojson")
    for name, cells in kept.items():
        text = (out / name).with_suffix(".geojson").read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        assert document["type"] == "FeatureCollection"
        ids = [feature["id"] for feature in document["features"]]
        assert ids == [cell["cell_id"] for cell in cells]
        for feature, cell in zip(document["features"], cells, strict=True):
            assert_feature(feature)
            shape = shapely.geometry.shape(feature["geometry"])
            assert isinstance(shape, shapely.geometry.Polygon)
            assert shape.is_valid
            assert shape.exterior.is_ccw  # 3.1.6: the outer ring is counterclockwise
            assert distance_px(np.asarray(shape.exterior.coords), points(cell)) <= MAX_PX


def assert_feature(feature: dict[str, Any]) -> None:
    """Check the structure that RFC 7946 asks of a feature, member by member."""
    assert feature["type"] == "Feature"  # 3.2
    assert isinstance(feature["properties"], dict)
    assert isinstance(feature["id"], str)
    geometry = feature["geometry"]
    assert set(geometry) == {"type", "coordinates"}  # 7.1: no members of other types
    assert geometry["type"] == "Polygon"
    for ring in geometry["coordinates"]:
        assert len(ring) >= 4  # 3.1.6
        assert ring[0] == ring[-1]
        assert all(len(position) == 2 and all(map(math.isfinite, position)) for position in ring)  # 3.1.1
        assert all(one != other for one, other in pairwise(ring))


def test_geojson_has_what_qupath_shows(run: Path, kept: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """QuPath 0.4 and later read a class as {name, color: [r, g, b]}, and measurements as an object of numbers."""
    out = export(run, tmp_path, "geojson")
    colors: dict[str, tuple[int, ...]] = {}
    for name, cells in kept.items():
        document = json.loads((out / name).with_suffix(".geojson").read_text(encoding="utf-8"))
        for feature, cell in zip(document["features"], cells, strict=True):
            properties = feature["properties"]
            assert properties["objectType"] == "annotation"
            classification = properties["classification"]
            assert set(classification) == {"name", "color"}
            assert all(isinstance(part, int) and 0 <= part <= 255 for part in classification["color"])
            color = tuple(classification["color"])
            assert colors.setdefault(classification["name"], color) == color
            measurements = properties["measurements"]
            assert all(isinstance(value, float) and math.isfinite(value) for value in measurements.values())
            assert measurements["Probability: CBLC"] == pytest.approx(cell["p_cblc"], rel=1e-5)
            shares = [measurements[f"Probability: {category}"] for category in VOCABULARY.categories]
            assert shares == pytest.approx(cell["p_category"], rel=1e-5)
            assert measurements["area_um2"] == pytest.approx(cell["area_um2"], rel=1e-5)
            assert all(isinstance(value, str) for value in properties["metadata"].values())
            assert properties["metadata"]["cell_id"] == cell["cell_id"]
    assert len(set(colors.values())) > 2


def test_yolo_is_read_by_ultralytics(run: Path, kept: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    utils = pytest.importorskip("ultralytics.data.utils", reason="the extra train is not installed")
    out = export(run, tmp_path, "yolo")
    for name, cells in kept.items():
        size = np.array([480, 360])
        arguments = (str(out / name), str((out / name).with_suffix(".txt")), "", False, 20, 0, 0, False)
        _, labels, shape, segments, _, n_missing, n_found, n_empty, n_corrupt, message = utils.verify_image_label(
            arguments
        )
        assert (n_missing, n_found, n_empty, n_corrupt, message) == (0, 1, 0, 0, "")
        assert tuple(shape) == (360, 480)
        assert len(labels) == len(segments) == len(cells)
        for segment, cell in zip(segments, cells, strict=True):
            assert distance_px(np.asarray(segment, dtype=np.float64) * size, points(cell)) <= MAX_PX
    names = utils.check_det_dataset(str(out / "annotations.yolo.yaml"))["names"]
    assert set(names.values()) >= {"N", "L2"}


def test_label_studio_reads_its_tasks(run: Path, kept: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    pytest.importorskip(
        "label_studio_sdk", reason="label-studio-sdk (366 MiB with what it needs) is not among the dev packages"
    )
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    out = export(run, tmp_path, "labelstudio")
    interface = (out / "annotations.labelstudio.xml").read_text(encoding="utf-8")
    tasks = json.loads((out / "annotations.labelstudio.json").read_text(encoding="utf-8"))
    checker = LabelInterface(interface)
    for task in tasks:
        assert checker.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert checker.validate_prediction(prediction)
        # A reader who submits a prediction unchanged makes an annotation of the same regions.
        task["annotations"] = [{**task.pop("predictions")[0], "id": task["id"], "was_cancelled": False}]
    corrected = tmp_path / "export.json"
    corrected.write_text(json.dumps(tasks), encoding="utf-8")
    converter = Converter(interface, str(tmp_path), download_resources=False)
    converter.convert_to_coco(str(corrected), str(tmp_path / "coco"), is_dir=False)
    coco = json.loads((tmp_path / "coco/result.json").read_text(encoding="utf-8"))
    flat = [np.reshape(item["segmentation"][0], (-1, 2)) for item in coco["annotations"]]
    expected = [points(cell) for cells in kept.values() for cell in cells]
    for one, other in zip(flat, expected, strict=True):
        assert distance_px(one, other) <= MAX_PX


@pytest.mark.parametrize("file_format", ["labelme", "coco", "geojson", "yolo", "labelstudio"])
def test_export_and_import_lose_nothing(
    run: Path, kept: dict[str, list[dict[str, Any]]], tmp_path: Path, file_format: str
) -> None:
    """Contours to 0.01 px, labels, and ids where the format can state them, through a file that another tool has."""
    out = export(run, tmp_path, file_format)
    for path in [path for path in out.rglob("*.json") if path.parent != out and file_format == "labelme"]:
        image = path.with_suffix(".png")
        moved = tmp_path / f"{path.parent.name}-{path.name}"
        path.rename(moved)
        import_annotations(moved, None, None, VOCABULARY, image=image)
    for path in out.rglob("*.geojson"):
        import_annotations(path, out, None, VOCABULARY)
        path.unlink()
    for path in out.glob("annotations.*[yj][as][mo][ln]"):
        import_annotations(path, out, None, VOCABULARY)
        path.unlink()
    for path in out.rglob("*.txt") if file_format == "yolo" else ():  # labels without their names are a fault
        path.unlink()
    cohort = read_cohort(out)
    assert not cohort.loses_data
    assert [field.field_id for field in cohort.fields] == [name[:-4] for name in IMAGES]
    n_to_name = cohort.counts.shapes.rejected.get("to_name", 0)
    assert cohort.counts.shapes.n_in == sum(map(len, kept.values()))
    assert cohort.counts.shapes.n_out == cohort.counts.shapes.n_in - n_to_name
    for field, cells in zip(cohort.fields, kept.values(), strict=True):
        for annotation in field.annotations:
            cell = cells[annotation.shape_index]
            assert annotation.cell_id == ("" if file_format == "yolo" else cell["cell_id"])
            assert distance_px(annotation.contour_xy, points(cell)) <= MAX_PX
