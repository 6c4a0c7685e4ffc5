"""LabelMe: one JSON file next to each image; label = raw code, shape = polygon.

Rectangles (two corners, or four, turned or not) and circles become polygons and are counted; points, lines and masks
are refused shape by shape. Shapes of one label and one ``group_id`` are parts of one cell: the largest is kept, smaller
parts are noted. A part of at least half its area may as well be a second cell: it is left out with a fault. The flag
``"exhaustive": false`` in the file's ``flags`` says that cells were left out on purpose; ``"network_contour": true`` in
the ``flags`` of a shape says that a network drew its outline, and an expert only named the cell.
"""

from __future__ import annotations

from collections import defaultdict
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
    id_text,
    item_id,
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
from marrowscope.cohort.written_json import json_text, object_with_list, write_pieces
from marrowscope.geometry import area, is_valid
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FORMAT_VERSION = "5.5.0"
_EXHAUSTIVE_FLAG = "exhaustive"
_READER = "reader"
_NETWORK_FLAG = "network_contour"
_CORNERS = 4
_FOUR_CORNERS = ("rectangle", "rotation", "rotated_rectangle", "oriented_rectangle", "quadrilateral")
_SECOND_CELL = 0.5
"""A part of a group of at least this share of the largest one's area may be a cell of its own."""


def _is_labelme(file: AnnotationFile) -> bool:
    """Tell whether a file is LabelMe: an object with a list of shapes."""
    return isinstance(file.document, dict) and isinstance(file.document.get("shapes"), list)


def read_labelme(file: AnnotationFile) -> tuple[AnnotatedImage]:
    """Read one LabelMe file; everything wrong with it is a fault in the result, and nothing is raised.

    The image path keeps its folders, written with forward slashes.
    """
    where = file.where
    if not _is_labelme(file):
        expected = "a LabelMe file with a list of shapes"
        return (unreadable("", where, broken_file(where, file.holds(), expected)),)
    document = file.document
    shapes: list[Annotation] = []
    faults: list[Fault] = []
    for index, shape in enumerate(document["shapes"]):
        taken = taken_or_fault(partial(_read_shape, shape, index, where, faults), where, index, faults)
        if taken is not None:
            shapes.append(taken)
    shapes = _join_groups(shapes, document["shapes"], where, faults)
    sides = {key: document.get(key) for key in ("imageWidth", "imageHeight")}
    flags = document.get("flags")
    image = AnnotatedImage(
        image_path=path_text(document.get("imagePath")),
        width_px=size_px(sides["imageWidth"]),
        height_px=size_px(sides["imageHeight"]),
        shapes=tuple(shapes),
        exhaustive=not (isinstance(flags, dict) and flags.get(_EXHAUSTIVE_FLAG) is False),
        faults=(*faults, *size_fault(where, sides)),
        where=where,
        reader=id_text(document.get(_READER)),
    )
    return (image,)


def labelme_pieces(
    image_name: str,
    width_px: int,
    height_px: int,
    shapes: Sequence[Annotation],
    *,
    exhaustive: bool = True,
    descriptions: Sequence[str] | None = None,
    reader: str = "",
) -> Iterator[str]:
    """Return ``shapes`` as a file that LabelMe can open, in pieces; floats keep all digits.

    LabelMe shows ``descriptions`` (one per shape) next to each shape. It keeps ``reader`` and the ids of cells, which
    it does not know, when it saves the file again.
    """
    members: JsonDict = {
        "version": _FORMAT_VERSION,
        "flags": {} if exhaustive else {_EXHAUSTIVE_FLAG: False},
        **({_READER: reader} if reader else {}),
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": height_px,
        "imageWidth": width_px,
    }
    texts = (
        json_text(
            {
                "label": shape.code,
                "points": points_from_contour(shape.contour_xy),
                "group_id": None,
                "description": descriptions[number] if descriptions else "",
                "shape_type": "polygon",
                "flags": {_NETWORK_FLAG: True} if shape.network_contour else {},
                **({CELL_ID: shape.cell_id} if shape.cell_id else {}),
            }
        )
        for number, shape in enumerate(shapes)
    )
    return object_with_list(members, "shapes", texts)


def write_labelme(
    path: Path,
    image_name: str,
    width_px: int,
    height_px: int,
    shapes: Sequence[Annotation],
    *,
    exhaustive: bool = True,
    descriptions: Sequence[str] | None = None,
    reader: str = "",
) -> None:
    """Write ``shapes`` to ``path``, as ``labelme_pieces`` gives them."""
    write_pieces(
        path,
        labelme_pieces(
            image_name, width_px, height_px, shapes, exhaustive=exhaustive, descriptions=descriptions, reader=reader
        ),
    )


def _write_image(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write the annotation of the only image in ``images``."""
    (image,) = images
    write_labelme(
        path,
        image.image_path.rsplit("/", 1)[-1],
        image.width_px or 0,
        image.height_px or 0,
        image.shapes,
        exhaustive=image.exhaustive,
        descriptions=image.descriptions or None,
        reader=image.reader,
    )


def _read_shape(shape: object, index: int, where: str, faults: list[Fault]) -> Annotation | None:
    """Read one shape, or add the fault that explains why it cannot be read."""
    if not isinstance(shape, dict):
        faults.append(broken_shape(where, index, shorten(shape), "a shape with label and points"))
        return None
    label = label_text(shape.get("label"))
    if label is None:
        faults.append(broken_shape(where, index, f"label {shorten(shape.get('label'))}", "a raw code as label"))
        return None
    points = contour_from_points(shape.get("points"))
    if points is None:
        faults.append(broken_shape(where, index, f"points {shorten(shape.get('points'))}", "a list of [x, y]"))
        return None
    flags = shape.get("flags")
    network_contour = isinstance(flags, dict) and flags.get(_NETWORK_FLAG) is True
    shape_type = shape.get("shape_type") or "polygon"
    cell_id = id_text(shape.get(CELL_ID))
    if shape_type == "polygon":
        return Annotation(label, points, index, cell_id, network_contour=network_contour)
    contour = _contour_of(str(shape_type), points)
    if contour is None:
        found = f"shape type {shape_type!r} with {count_of(len(points), 'point')}"
        faults.append(shape_type_fault(where, index, found))
        return None
    faults.append(
        Fault(
            "converted_shape",
            where,
            f"a {shape_type}",
            "a polygon",
            "it is read as a polygon with the same outline",
            shape_index=index,
            loses_data=False,
        )
    )
    return Annotation(label, contour, index, cell_id, network_contour=network_contour)


def _contour_of(shape_type: str, points: ContourArray) -> ContourArray | None:
    """Outline of a rectangle (two or four corners) or circle (center, point on the rim); None for anything else."""
    if len(points) == _CORNERS and shape_type in _FOUR_CORNERS:
        return points if is_valid(points) else _around_center(points)
    if len(points) != 2:  # noqa: PLR2004 - both are two points in LabelMe
        return None
    (x0, y0), (x1, y1) = points
    if shape_type == "rectangle":
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if shape_type == "circle":
        radius = float(np.hypot(x1 - x0, y1 - y0))
        return ellipse(x0 - radius, y0 - radius, x0 + radius, y0 + radius)
    return None


def _around_center(corners: ContourArray) -> ContourArray:
    """Return the corners in the order in which they surround their center: any other order crosses itself."""
    x, y = (corners - corners.mean(axis=0)).T
    return corners[np.argsort(np.arctan2(y, x))]


def _join_groups(shapes: list[Annotation], entries: list[object], where: str, faults: list[Fault]) -> list[Annotation]:
    """Return one shape per cell: the largest of those that share label and group_id, in the file's order."""
    groups: defaultdict[tuple[str, int | float | str | None, int | None], list[Annotation]] = defaultdict(list)
    for shape in shapes:
        entry = entries[shape.shape_index]
        group_id = item_id(entry.get("group_id")) if isinstance(entry, dict) else None
        alone = shape.shape_index if group_id is None else None
        groups[shape.code, group_id, alone].append(shape)
    kept: list[Annotation] = []
    for (_, group_id, _), parts in groups.items():
        largest = max(parts, key=lambda part: area(part.contour_xy))
        kept.append(largest)
        others = [part for part in parts if part is not largest]
        second = [part for part in others if area(part.contour_xy) >= _SECOND_CELL * area(largest.contour_xy)]
        for part in second:
            found = f"a part of group_id {group_id} nearly as large as shape {largest.shape_index}, its largest"
            action = "give each cell a unique group_id, or join its parts"
            faults.append(Fault("several_parts", where, found, "one outline per cell", action, part.shape_index))
        if len(others) > len(second):
            found, index = (
                f"a cell of {count_of(len(parts) - len(second), 'part')}, group_id {group_id}",
                largest.shape_index,
            )
            action = "the largest is kept"
            faults.append(Fault("several_parts", where, found, "one outline", action, index, loses_data=False))
    return sorted(kept, key=lambda shape: shape.shape_index)


FORMAT = AnnotationFormat(
    name="labelme",
    title="LabelMe",
    beside=(".json",),
    in_root=(),
    recognize=_is_labelme,
    read=read_labelme,
    write=_write_image,
)
