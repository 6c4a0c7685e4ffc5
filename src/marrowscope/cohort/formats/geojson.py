"""GeoJSON as QuPath writes it: polygon features, classification name = raw code.

One file per image (named by a top-level member ``image``, else by the file's own name), or one file for many images,
each named by the features' property ``image``. Of a feature with several polygons, the largest is kept. Holes are
filled.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import (
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    broken_shape,
    contour_from_points,
    join_parts,
    label_text,
    points_from_contour,
    shape_type_fault,
    shorten,
    size_px,
    unreadable,
)
from marrowscope.disk import write_text
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_SUFFIX = ".geojson"


def _is_geojson(file: AnnotationFile) -> bool:
    """Tell whether a file is GeoJSON: an object with a list of features, or a bare list of them as QuPath may write.

    A list that is empty or does not begin with a feature is GeoJSON only if the file has the suffix .geojson.
    """
    document = file.document
    if isinstance(document, list):
        first = document[0] if document else None
        return file.path.suffix == _SUFFIX or (isinstance(first, dict) and "geometry" in first)
    return isinstance(document, dict) and isinstance(document.get("features"), list)


def read_geojson(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read a GeoJSON file as one annotation per image; nothing is raised.

    A file that names no image gives one annotation with an empty image path. ``shape_index`` is the position in the
    file's list of features.
    """
    where, document = file.where, file.document
    features = document.get("features") if isinstance(document, dict) else document
    if not isinstance(features, list):
        fault = broken_file(where, file.holds(), "a GeoJSON FeatureCollection")
        return (unreadable("", where, fault),)
    head = document.get("image") if isinstance(document, dict) else None
    image = head if isinstance(head, dict) else {"path": head if isinstance(head, str) else ""}
    default_path = str(image.get("path", ""))
    shapes: defaultdict[str, list[Annotation]] = defaultdict(list)
    faults: defaultdict[str, list[Fault]] = defaultdict(list)
    for index, feature in enumerate(features):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        properties = properties if isinstance(properties, dict) else {}
        image_path = str(properties.get("image") or default_path)
        taken = _read_feature(feature, properties, index, where, faults[image_path])
        if taken is not None:
            shapes[image_path].append(taken)
    paths = list(dict.fromkeys([*faults, *shapes])) or [default_path]
    return tuple(
        AnnotatedImage(
            image_path=name.replace("\\", "/"),
            width_px=size_px(image.get("width_px")) if name == default_path else None,
            height_px=size_px(image.get("height_px")) if name == default_path else None,
            shapes=tuple(shapes[name]),
            exhaustive=image.get("exhaustive") is not False,
            faults=tuple(faults[name]),
            where=where,
        )
        for name in paths
    )


def write_geojson(
    path: Path,
    image_name: str,
    width_px: int,
    height_px: int,
    shapes: Sequence[Annotation],
    *,
    exhaustive: bool = True,
    descriptions: Sequence[str] | None = None,
) -> None:
    """Write one image's annotation as a FeatureCollection that QuPath can open. Floats keep all digits."""
    document: JsonDict = {
        "type": "FeatureCollection",
        "image": {"path": image_name, "width_px": width_px, "height_px": height_px, "exhaustive": exhaustive},
        "features": [
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [_closed(points_from_contour(shape.contour_xy))],
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": shape.code},
                    **({"description": descriptions[number]} if descriptions else {}),
                },
            }
            for number, shape in enumerate(shapes)
        ],
    }
    write_text(path, json.dumps(document, ensure_ascii=False))


def _write_image(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write the annotation of the only image in ``images``."""
    (image,) = images
    name, width_px, height_px = image.image_path.rsplit("/", 1)[-1], image.width_px or 0, image.height_px or 0
    descriptions = image.descriptions or None
    exhaustive = image.exhaustive
    write_geojson(path, name, width_px, height_px, image.shapes, exhaustive=exhaustive, descriptions=descriptions)


def _closed(points: list[list[float]]) -> list[list[float]]:
    return [*points, points[0]] if points else points


def _read_feature(
    feature: object, properties: JsonDict, index: int, where: str, faults: list[Fault]
) -> Annotation | None:
    """Read one feature, or add the fault that explains why it cannot be read."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        faults.append(broken_shape(where, index, shorten(feature), "a feature with a geometry"))
        return None
    classification = properties.get("classification")
    named = classification.get("name") if isinstance(classification, dict) else properties.get("label")
    label = label_text(named)
    if label is None:
        faults.append(broken_shape(where, index, f"classification {shorten(classification)}", "a raw code as its name"))
        return None
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "Polygon":
        polygons = [coordinates]
    elif geometry.get("type") == "MultiPolygon" and isinstance(coordinates, list) and coordinates:
        polygons = coordinates
    else:
        faults.append(shape_type_fault(where, index, f"geometry {shorten(geometry.get('type'))}"))
        return None
    parts: list[ContourArray] = []
    for rings in polygons:
        outer = contour_from_points(rings[0]) if isinstance(rings, list) and rings else None
        if outer is None:
            faults.append(broken_shape(where, index, f"coordinates {shorten(coordinates)}", "rings of [x, y]"))
            return None
        parts.append(outer)
    return Annotation(label, join_parts(parts, where, index, faults), index)


FORMAT = AnnotationFormat(
    name="geojson",
    title="GeoJSON",
    beside=(_SUFFIX,),
    in_root=(_SUFFIX,),
    recognize=_is_geojson,
    read=read_geojson,
    write=_write_image,
)
