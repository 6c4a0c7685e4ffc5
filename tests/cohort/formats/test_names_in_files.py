"""The image that an annotation file names is looked for among the cohort's images; the name is never opened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.convert import import_annotations
from marrowscope.errors import MarrowscopeError
from marrowscope.imaging import write_image
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = [
    "../outside/f1.png",
    "..\\outside\\f1.png",
    "P1/../../outside/f1.png",
    "ABSOLUTE",
    "C:\\outside\\f1.png",
    "\\\\host\\share\\f1.png",
    "P1/link/f1.png",
    "f1\0.png",
    "/dev/stdin",
    "nul",
    "..",
    "",
    "x" * 5000,
]
RING = [[5.0, 5.0], [25.0, 5.0], [25.0, 25.0], [5.0, 25.0]]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Make a cohort of one image, and beside it a folder that is none of its business, with a link to it."""
    root, outside = tmp_path / "cohort", tmp_path / "outside"
    for number, path in enumerate([root / "P1" / "own.png", outside / "f1.png"]):
        path.parent.mkdir(parents=True)
        write_image(path, np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    (root / "patients.csv").write_text("patient_id,center,diagnosis,um_per_px\nP1,A,AML,0.15\n", encoding="utf-8")
    (root / "P1" / "link").symlink_to(outside)
    return root


def coco(name: str) -> dict[str, Any]:
    flat = [value for point in RING for value in point]
    return {
        "images": [{"id": 1, "file_name": name, "width": 60, "height": 40}],
        "categories": [{"id": 1, "name": "N"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [flat], "bbox": [5, 5, 20, 20]}],
    }


def labelme(name: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": "N", "points": RING, "shape_type": "polygon", "flags": {}, "group_id": None}
    sizes = {"imageHeight": 40, "imageWidth": 60, "imageData": None}
    return {"version": "5.0", "flags": {}, "shapes": [shape], "imagePath": name, **sizes}


def geojson(name: str) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [[*RING, RING[0]]]}
    properties = {"objectType": "annotation", "classification": {"name": "N"}, "image": name}
    return {
        "type": "FeatureCollection",
        "image": name,
        "features": [{"type": "Feature", "geometry": geometry, "properties": properties}],
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [coco, labelme, geojson])
def test_no_name_leads_out_of_the_folder(
    cohort: Path, tmp_path: Path, make: Callable[[str], dict[str, Any]], name: str
) -> None:
    name = str(tmp_path / "outside" / "f1.png") if name == "ABSOLUTE" else name
    text = json.dumps(make(name))
    source = tmp_path / f"annotations.{'geojson' if make is geojson else 'coco.json'}"
    source.write_text(text, encoding="utf-8")
    outside = sorted((tmp_path / "outside").iterdir())
    with pytest.raises(MarrowscopeError):
        import_annotations(source, cohort, None, load_vocabulary())
    (cohort / source.name).write_text(text, encoding="utf-8")
    read = read_cohort(cohort)
    assert all(field.path.is_relative_to(cohort) and "link" not in str(field.path) for field in read.fields)
    assert not [shape for field in read.fields for shape in field.annotations]
    assert read.faults
    assert sorted((tmp_path / "outside").iterdir()) == outside
