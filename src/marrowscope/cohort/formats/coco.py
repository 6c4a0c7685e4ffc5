"""COCO: one JSON file for many images; category name = raw code, segmentation = polygons.

Of a cell with several polygons, the largest is kept; run-length masks and crowd regions are refused one by one. The
extra key ``"exhaustive": false`` of an image means that cells were left out on purpose.
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
    shape_type_fault,
    shorten,
    size_px,
    unreadable,
)
from marrowscope.disk import write_text
from marrowscope.geometry import area, bounding_box
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _is_coco(file: AnnotationFile) -> bool:
    """Tell whether a file is COCO: an object with lists of images, annotations and categories."""
    document = file.document
    return (
        isinstance(document, dict)
        and all(isinstance(document.get(key), list) for key in ("images", "annotations", "categories"))
        and all(isinstance(entry, dict) for entry in document["images"])
    )


def read_coco(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read a COCO file as one annotation per image, in the file's order; nothing is raised.

    ``shape_index`` is the position in the file's list of annotations. Annotations of an image that the file does not
    list are returned with an image path that says so.
    """
    where, document = file.where, file.document
    if not _is_coco(file):
        expected = "a COCO file with lists of images, annotations and categories"
        return (unreadable("", where, broken_file(where, file.holds(), expected)),)
    listed = [item for item in document["categories"] if isinstance(item, dict)]
    labels = {_hashable(item.get("id")): label_text(item.get("name")) for item in listed}
    shapes: defaultdict[object, list[Annotation]] = defaultdict(list)
    faults: defaultdict[object, list[Fault]] = defaultdict(list)
    for index, item in enumerate(document["annotations"]):
        image_id = _hashable(item.get("image_id")) if isinstance(item, dict) else None
        taken = _read_annotation(item, index, where, labels, faults[image_id])
        if taken is not None:
            shapes[image_id].append(taken)
    result = []
    for entry in document["images"]:
        image_id = _hashable(entry.get("id"))
        result.append(
            AnnotatedImage(
                image_path=str(entry.get("file_name", "")).replace("\\", "/"),
                width_px=size_px(entry.get("width")),
                height_px=size_px(entry.get("height")),
                shapes=tuple(shapes.pop(image_id, ())),
                exhaustive=entry.get("exhaustive") is not False,
                faults=tuple(faults.pop(image_id, ())),
                where=where,
            )
        )
    for image_id in list(dict.fromkeys([*shapes, *faults])):
        left, left_faults = shapes.get(image_id, []), faults.get(image_id, [])
        if left or left_faults:
            name = f"(image id {image_id}, not listed)"
            result.append(AnnotatedImage(name, None, None, tuple(left), faults=tuple(left_faults), where=where))
    return tuple(result)


def write_coco(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write annotations as one COCO file; categories are the labels that occur, sorted. Floats keep all digits."""
    labels = sorted({shape.code for image in images for shape in image.shapes})
    document: JsonDict = {
        "images": [
            {
                "id": number,
                "file_name": image.image_path,
                "width": image.width_px,
                "height": image.height_px,
                **({} if image.exhaustive else {"exhaustive": False}),
            }
            for number, image in enumerate(images, start=1)
        ],
        "annotations": [],
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, start=1)],
    }
    for number, image in enumerate(images, start=1):
        for shape in image.shapes:
            x0, y0, x1, y1 = bounding_box(shape.contour_xy)
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": labels.index(shape.code) + 1,
                    "segmentation": [[float(value) for value in shape.contour_xy.ravel()]],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area(shape.contour_xy),
                    "iscrowd": 0,
                }
            )
    write_text(path, json.dumps(document, ensure_ascii=False))


def _hashable(value: object) -> object:
    return value if isinstance(value, int | str) else None


def _read_annotation(
    item: object, index: int, where: str, labels: dict[object, str | None], faults: list[Fault]
) -> Annotation | None:
    """Read one annotation, or add the fault that explains why it cannot be read."""
    if not isinstance(item, dict):
        faults.append(broken_shape(where, index, shorten(item), "an annotation"))
        return None
    label = labels.get(_hashable(item.get("category_id")))
    if label is None:
        faults.append(broken_shape(where, index, f"category_id {shorten(item.get('category_id'))}", "a listed one"))
        return None
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict) or item.get("iscrowd"):
        faults.append(shape_type_fault(where, index, "a run-length mask or crowd region"))
        return None
    parts = _read_parts(segmentation)
    if parts is None:
        found = f"segmentation {shorten(segmentation)}"
        faults.append(broken_shape(where, index, found, "a list of polygons [x0, y0, x1, y1, ...]"))
        return None
    return Annotation(label, join_parts(parts, where, index, faults), index)


def _read_parts(segmentation: object) -> list[ContourArray] | None:
    """Read flat coordinate lists as contours; None if one of them is not a list of coordinate pairs."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    parts: list[ContourArray] = []
    for flat in segmentation:
        if not isinstance(flat, list) or len(flat) % 2:
            return None
        contour = contour_from_points([flat[start : start + 2] for start in range(0, len(flat), 2)])
        if contour is None:
            return None
        parts.append(contour)
    return parts


FORMAT = AnnotationFormat(
    name="coco",
    title="COCO",
    beside=(),
    in_root=(".coco.json",),
    recognize=_is_coco,
    read=read_coco,
    write=write_coco,
)
