"""GeoJSON as QuPath writes it: polygon features, classification name = raw code.

One file an image (a top-level member ``image`` names it, else the file's own name does), or one file for many, where
each feature's property ``image`` names its own. A feature of several polygons keeps its largest, holes are filled, and
both are noted. An ellipse of QuPath is a polygon of its corners that says ``"isEllipse": true``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import (
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    broken_shape,
    contour_from_points,
    ellipse,
    filled_hole,
    has_suffix,
    join_parts,
    label_text,
    path_text,
    points_from_contour,
    shape_type_fault,
    shorten,
    size_fault,
    size_px,
    taken_or_fault,
    unreadable,
)
from marrowscope.disk import write_text
from marrowscope.geometry import bounding_box
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
        return has_suffix(file.path, (_SUFFIX,)) or (isinstance(first, dict) and "geometry" in first)
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
    default_path = path_text(image.get("path"))
    sides = {key: image.get(key) for key in ("width_px", "height_px")}
    shapes: defaultdict[str, list[Annotation]] = defaultdict(list)
    faults: defaultdict[str, list[Fault]] = defaultdict(list)
    for index, feature in enumerate(features):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        properties = properties if isinstance(properties, dict) else {}
        image_path = path_text(properties.get("image")) or default_path
        read = partial(_read_feature, feature, properties, index, where, faults[image_path])
        taken = taken_or_fault(read, where, index, faults[image_path])
        if taken is not None:
            shapes[image_path].append(taken)
    paths = list(dict.fromkeys([*faults, *shapes])) or [default_path]
    return tuple(
        AnnotatedImage(
            image_path=name,
            width_px=size_px(sides["width_px"]) if name == default_path else None,
            height_px=size_px(sides["height_px"]) if name == default_path else None,
            shapes=tuple(shapes[name]),
            exhaustive=image.get("exhaustive") is not False,
            faults=(*faults[name], *(size_fault(where, sides) if name == default_path else ())),
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
    label = _label(classification) if isinstance(classification, dict) else label_text(properties.get("label"))
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
    n_holes = 0
    for rings in polygons:
        outlines = [contour_from_points(ring) for ring in rings] if isinstance(rings, list) and rings else [None]
        outer = outlines[0]
        if outer is None or any(hole is None for hole in outlines):
            faults.append(broken_shape(where, index, f"coordinates {shorten(coordinates)}", "rings of [x, y]"))
            return None
        n_holes += len(outlines) - 1
        parts.append(outer)
    if n_holes:
        faults.append(filled_hole(n_holes, where, index))
    contour = join_parts(parts, where, index, faults)
    if geometry.get("isEllipse") is True or properties.get("isEllipse") is True:
        contour = ellipse(*bounding_box(contour))
    return Annotation(label, contour, index)


def _label(classification: JsonDict) -> str | None:
    """Return the class of a feature; of a list of names, which newer QuPath writes, the only one."""
    names = classification.get("names")
    if "name" not in classification and isinstance(names, list):
        return ": ".join(str(label_text(name)) for name in names) or None
    return label_text(classification.get("name"))


FORMAT = AnnotationFormat(
    name="geojson",
    title="GeoJSON",
    beside=(_SUFFIX,),
    in_root=(_SUFFIX,),
    recognize=_is_geojson,
    read=read_geojson,
    write=_write_image,
)
