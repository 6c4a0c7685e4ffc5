"""LabelMe: one JSON file next to each image; label = raw code, shape = polygon.

Rectangles and circles become polygons and are counted; points, lines and masks are refused one by one. The entry
``"exhaustive": false`` in the file's ``flags`` means that cells were left out on purpose.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import (
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    broken_shape,
    contour_from_points,
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

_FORMAT_VERSION = "5.5.0"
_EXHAUSTIVE_FLAG = "exhaustive"
_CIRCLE_POINTS = 64


def _is_labelme(file: AnnotationFile) -> bool:
    """Tell whether a file is LabelMe: an object with a list of shapes."""
    return isinstance(file.document, dict) and isinstance(file.document.get("shapes"), list)


def read_labelme(file: AnnotationFile) -> tuple[AnnotatedImage]:
    """Read one LabelMe file; everything wrong with it is a fault in the result, and nothing is raised.

    Of an image path with folders, in the style of any operating system, only the last part is kept: the image is next
    to the file.
    """
    where = file.where
    if not _is_labelme(file):
        expected = "a LabelMe file with a list of shapes"
        return (unreadable("", where, broken_file(where, file.holds(), expected)),)
    document = file.document
    shapes: list[Annotation] = []
    faults: list[Fault] = []
    for index, shape in enumerate(document["shapes"]):
        taken = _read_shape(shape, index, where, faults)
        if taken is not None:
            shapes.append(taken)
    flags = document.get("flags")
    image_path = document.get("imagePath")
    image = AnnotatedImage(
        image_path=image_path.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(image_path, str) else "",
        width_px=size_px(document.get("imageWidth")),
        height_px=size_px(document.get("imageHeight")),
        shapes=tuple(shapes),
        exhaustive=not (isinstance(flags, dict) and flags.get(_EXHAUSTIVE_FLAG) is False),
        faults=tuple(faults),
        where=where,
    )
    return (image,)


def write_labelme(
    path: Path,
    image_name: str,
    width_px: int,
    height_px: int,
    shapes: Sequence[Annotation],
    *,
    exhaustive: bool = True,
    descriptions: Sequence[str] | None = None,
) -> None:
    """Write ``shapes`` as a file that LabelMe can open; floats keep all digits.

    LabelMe shows ``descriptions`` (one per shape) next to each shape.
    """
    document: JsonDict = {
        "version": _FORMAT_VERSION,
        "flags": {} if exhaustive else {_EXHAUSTIVE_FLAG: False},
        "shapes": [
            {
                "label": shape.code,
                "points": points_from_contour(shape.contour_xy),
                "group_id": None,
                "description": descriptions[number] if descriptions else "",
                "shape_type": "polygon",
                "flags": {},
            }
            for number, shape in enumerate(shapes)
        ],
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": height_px,
        "imageWidth": width_px,
    }
    write_text(path, json.dumps(document, ensure_ascii=False))


def _write_image(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write the annotation of the only image in ``images``."""
    (image,) = images
    name, width_px, height_px = image.image_path.rsplit("/", 1)[-1], image.width_px or 0, image.height_px or 0
    descriptions = image.descriptions or None
    exhaustive = image.exhaustive
    write_labelme(path, name, width_px, height_px, image.shapes, exhaustive=exhaustive, descriptions=descriptions)


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
    shape_type = shape.get("shape_type") or "polygon"
    if shape_type == "polygon":
        return Annotation(label, points, index)
    contour = _contour_of(str(shape_type), points)
    if contour is None:
        found = f"shape type {shape_type!r} with {len(points)} points"
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
    return Annotation(label, contour, index)


def _contour_of(shape_type: str, points: ContourArray) -> ContourArray | None:
    """Compute the outline of a rectangle (two corners) or circle (center, point on the rim); None for anything else."""
    if len(points) != 2:  # noqa: PLR2004 - both are two points in LabelMe
        return None
    (x0, y0), (x1, y1) = points
    if shape_type == "rectangle":
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if shape_type == "circle":
        angle = np.linspace(0.0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        radius = float(np.hypot(x1 - x0, y1 - y0))
        return np.column_stack([x0 + radius * np.cos(angle), y0 + radius * np.sin(angle)])
    return None


FORMAT = AnnotationFormat(
    name="labelme",
    title="LabelMe",
    beside=(".json",),
    in_root=(),
    recognize=_is_labelme,
    read=read_labelme,
    write=_write_image,
)
