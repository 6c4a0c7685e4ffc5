"""GeoJSON as QuPath writes it: polygon features, classification name = raw code.

One file an image (a top-level member ``image`` names it, else the file's own name does), or one file for many, where
each feature's property ``image`` names its own. A feature of several polygons keeps its largest, holes are filled, and
both are noted. Objects that QuPath nests in others are read like the others, but none as a second cell of its parent's
class inside it (``nested_shapes``); their planes and ids are checked (``qupath_objects``). An ellipse of QuPath is a
polygon of its corners that says ``"isEllipse": true``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import (
    CELL_ID,
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    broken_shape,
    contour_from_points,
    ellipse,
    filled_hole,
    has_suffix,
    id_text,
    join_parts,
    label_text,
    path_text,
    points_from_contour,
    remark,
    shape_type_fault,
    shorten,
    size_fault,
    size_px,
    taken_or_fault,
    unreadable,
)
from marrowscope.cohort.label_colors import label_rgb
from marrowscope.cohort.nested_shapes import join_nested
from marrowscope.cohort.qupath_objects import Plane, checked_plane, flat, nuclei_left_out, object_id, on_one_plane
from marrowscope.cohort.written_json import json_text, object_with_list, write_pieces
from marrowscope.geometry import Rings, bounding_box, lies_within, signed_areas
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_SUFFIX = ".geojson"
_DESCRIPTION = "ANNOTATION_DESCRIPTION"
"""The key under which QuPath keeps the description of an annotation."""
_TURNED = "clockwise"
_ROUNDED_PX = 1.0
"""How far programs that round coordinates may move a hole beyond its outline."""
_DIGITS = 6
"""Digits of a measurement; outlines keep all of theirs."""


def _is_geojson(file: AnnotationFile) -> bool:
    """Tell whether a file is GeoJSON: an object with a list of features, or a bare list of them as QuPath may write.

    A list that is empty or does not begin with a feature is GeoJSON only if the file has the suffix .geojson.
    """
    document = file.document
    if isinstance(document, list):
        first = document[0] if document else None
        return has_suffix(file.path, (_SUFFIX,)) or (isinstance(first, dict) and "geometry" in first)
    return isinstance(document, dict) and (isinstance(document.get("features"), list) or _is_feature(document))


def _is_feature(document: object) -> bool:
    """Tell whether a document is one feature alone, as QuPath exports a single object."""
    return isinstance(document, dict) and document.get("type") == "Feature" and "geometry" in document


def read_geojson(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read a GeoJSON file as one annotation per image; nothing is raised.

    A file that names no image gives one annotation with an empty image path. ``shape_index`` is the position in the
    file's list of features.
    """
    where, document = file.where, file.document
    features = document.get("features") if isinstance(document, dict) else document
    if _is_feature(document):
        features, document = [document], {}
    if not isinstance(features, list):
        fault = broken_file(where, file.holds(), "a GeoJSON FeatureCollection")
        return (unreadable("", where, fault),)
    head = document.get("image") if isinstance(document, dict) else None
    image = head if isinstance(head, dict) else {"path": head if isinstance(head, str) else ""}
    default_path = path_text(image.get("path"))
    sides = {key: image.get(key) for key in ("width_px", "height_px")}
    shapes: defaultdict[str, list[Annotation]] = defaultdict(list)
    faults: defaultdict[str, list[Fault]] = defaultdict(list)
    seen: defaultdict[str, dict[str, int]] = defaultdict(dict)
    planes: dict[int, Plane] = {}
    parent_of: dict[int, int] = {}
    n_nuclei = 0
    for index, (feature, properties, parent) in enumerate(flat(features)):
        n_nuclei += isinstance(feature, dict) and isinstance(feature.get("nucleusGeometry"), dict)
        image_path = path_text(properties.get("image")) or default_path
        mine = faults[image_path]
        read = partial(_read_feature, feature, properties, index, where, (seen[image_path], planes), mine)
        taken = taken_or_fault(read, where, index, mine)
        if taken is not None:
            shapes[image_path].append(taken)
        if parent is not None:
            parent_of[index] = parent
    for name, items in shapes.items():
        on_plane = on_one_plane(items, planes, where, faults[name])
        shapes[name] = list(join_nested(on_plane, parent_of, where, faults[name]))
    paths = list(dict.fromkeys([*faults, *shapes])) or [default_path]
    left_out = [remark(where, nuclei_left_out(where, n_nuclei))] if n_nuclei else []
    return tuple(
        AnnotatedImage(
            image_path=name,
            width_px=size_px(sides["width_px"]) if name == default_path else None,
            height_px=size_px(sides["height_px"]) if name == default_path else None,
            shapes=tuple(shapes[name]),
            exhaustive=image.get("exhaustive") is not False,
            faults=(*faults[name], *(size_fault(where, sides) if name == default_path else ())),
            where=where,
            reader=id_text(image.get("reader")),
        )
        for name in paths
    ) + tuple(left_out)


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
    image = AnnotatedImage(
        image_name, width_px, height_px, tuple(shapes), exhaustive=exhaustive, descriptions=tuple(descriptions or ())
    )
    _write(path, image)


def _write_image(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write the annotation of the only image in ``images``, which lies beside it."""
    (image,) = images
    _write(path, replace(image, image_path=image.image_path.rsplit("/", 1)[-1]))


def _write(path: Path, image: AnnotatedImage) -> None:
    head = {
        "path": image.image_path,
        "width_px": image.width_px or 0,
        "height_px": image.height_px or 0,
        "exhaustive": image.exhaustive,
        **({"reader": image.reader} if image.reader else {}),
    }
    members: JsonDict = {"type": "FeatureCollection", "image": head}
    write_pieces(path, object_with_list(members, "features", map(json_text, _features(image))))


def _features(image: AnnotatedImage) -> Iterator[JsonDict]:
    """Return the shapes as features, in the members that QuPath shows: class, color, measurements, description.

    The specification (RFC 7946) has outer rings counterclockwise. An outline that runs the other way is turned, which
    is stated, so that it is read back as it was drawn.
    """
    signed = signed_areas(Rings.of([shape.contour_xy for shape in image.shapes]))
    for number, (shape, signed_area) in enumerate(zip(image.shapes, signed, strict=True)):
        ring = shape.contour_xy if signed_area >= 0 else shape.contour_xy[::-1]
        text = image.descriptions[number] if image.descriptions else ""
        kept = {CELL_ID: shape.cell_id, _DESCRIPTION: text}
        measurements = {
            name: float(f"{values[number]:.{_DIGITS}g}")
            for name, values in image.measures.items()
            if np.isfinite(values[number])
        }
        yield {
            "type": "Feature",
            **({"id": shape.cell_id} if shape.cell_id else {}),
            "geometry": {"type": "Polygon", "coordinates": [_closed(points_from_contour(ring))]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": shape.code, "color": label_rgb(shape.code)},
                **({"description": text} if text else {}),
                **({"measurements": measurements} if measurements else {}),
                **({"metadata": {key: value for key, value in kept.items() if value}} if any(kept.values()) else {}),
                **({_TURNED: True} if signed_area < 0 else {}),
            },
        }


def _closed(points: list[list[float]]) -> list[list[float]]:
    return [*points, points[0]] if points else points


def _read_feature(  # noqa: PLR0917 - one feature, its place, and what is known of the others
    feature: object,
    properties: JsonDict,
    index: int,
    where: str,
    known: tuple[dict[str, int], dict[int, Plane]],
    faults: list[Fault],
) -> Annotation | None:
    """Read one feature, or add the fault that explains why it cannot be read.

    ``known`` has the ids of its image's features, and the planes of all, to which its own are added.
    """
    seen, planes = known
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(feature, dict) or not isinstance(geometry, dict):
        faults.append(broken_shape(where, index, shorten(feature), "a feature with a geometry"))
        return None
    plane = checked_plane(feature, geometry, seen, index, where)
    if isinstance(plane, Fault):
        faults.append(plane)
        return None
    planes[index] = plane
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
    parts = _read_parts(polygons, index, where, faults)
    if parts is None:
        return None
    contour = join_parts(parts, where, index, faults)
    if geometry.get("isEllipse") is True or properties.get("isEllipse") is True:
        contour = ellipse(*bounding_box(contour))
    elif properties.get(_TURNED) is True:
        contour = contour[::-1]
    metadata = properties.get("metadata")
    stated = id_text(metadata.get(CELL_ID)) if isinstance(metadata, dict) else ""
    return Annotation(label, contour, index, stated or object_id(feature))


def _read_parts(polygons: list[object], index: int, where: str, faults: list[Fault]) -> list[ContourArray] | None:
    """Return the outer outline of each polygon of a feature, or None with the fault; holes are noted."""
    parts: list[ContourArray] = []
    n_holes = 0
    for rings in polygons:
        outlines = [contour_from_points(ring) for ring in rings] if isinstance(rings, list) and rings else [None]
        outer, *holes = outlines
        if outer is None or any(hole is None for hole in holes):
            faults.append(broken_shape(where, index, f"coordinates {shorten(rings)}", "rings of [x, y]"))
            return None
        if not all(lies_within(hole, outer, _ROUNDED_PX) for hole in holes if hole is not None):
            found = "an inner ring outside of its outline"
            faults.append(broken_shape(where, index, found, "holes inside the outline"))
            return None
        n_holes += len(holes)
        parts.append(outer)
    if n_holes:
        faults.append(filled_hole(n_holes, where, index))
    return parts


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
