"""COCO: one JSON file for many images; category name = raw code, segmentation = polygons.

A cell of several polygons keeps its largest; run-length masks and crowd regions are refused one by one. The extra key
``"exhaustive": false`` of an image says that cells were left out on purpose, ``"network_contour": true`` of an
annotation that an expert named the cell and a network outlined it.

CVAT writes a turned rectangle as the upright one, with the angle in ``attributes.rotation``: it is turned. That angle
beside any other outline is a fault, since nothing says whether the outline is turned already.

Ids are compared in one form: 1, 1.0 and "1" are one id. An id that stands for two things is a fault, and whatever
refers to it is refused: nothing in the file says which of the two is meant.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import (
    CELL_ID,
    SCORE,
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    broken_shape,
    contour_from_points,
    id_text,
    item_id,
    join_parts,
    label_text,
    path_text,
    remark,
    shape_type_fault,
    shorten,
    size_fault,
    size_px,
    taken_or_fault,
    unreadable,
)
from marrowscope.cohort.written_json import json_text, object_with_list, write_pieces
from marrowscope.geometry import area, bounding_box
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Id = int | float | str | None
"""An id in the form of ``item_id``."""

_NETWORK_CONTOUR = "network_contour"
_CORNERS = 4
_FULL_TURN_DEG = 360.0


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
    about_file: list[Fault] = []
    ids = _Ids(_read_categories(document["categories"], where, about_file))
    listed, unclear = _read_images(document["images"], where, about_file)
    shapes: defaultdict[Id, list[Annotation]] = defaultdict(list)
    faults: defaultdict[Id, list[Fault]] = defaultdict(list)
    for index, item in enumerate(document["annotations"]):
        image_id = item_id(item.get("image_id")) if isinstance(item, dict) else None
        read = partial(_read_annotation, item, index, where, ids, faults[image_id])
        taken = taken_or_fault(read, where, index, faults[image_id])
        if taken is not None:
            shapes[image_id].append(taken)
    result = []
    for image_id, entry in listed.items():
        sides = {key: entry.get(key) for key in ("width", "height")}
        result.append(
            AnnotatedImage(
                image_path=path_text(entry.get("file_name")),
                width_px=size_px(sides["width"]),
                height_px=size_px(sides["height"]),
                shapes=tuple(shapes.pop(image_id, ())),
                exhaustive=entry.get("exhaustive") is not False,
                faults=(*faults.pop(image_id, ()), *size_fault(where, sides)),
                where=where,
                reader=id_text(entry.get("reader")),
            )
        )
    for image_id in dict.fromkeys([*shapes, *faults]):
        left, left_faults = shapes.get(image_id, []), faults.get(image_id, [])
        if left or left_faults:
            state = "listed twice" if image_id in unclear else "not listed"
            name = f"(image id {shorten(image_id)}, {state})"
            result.append(
                AnnotatedImage(name, None, None, tuple(left), faults=tuple(left_faults), where=where, placed=False)
            )
    return (*result, remark(where, *about_file)) if about_file else tuple(result)


def write_coco(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write annotations as one COCO file; categories are the labels that occur, sorted. Floats keep all digits.

    COCO's own ids are numbers: the id of a cell stands beside them, in ``cell_id``.
    """
    labels = sorted({shape.code for image in images for shape in image.shapes})
    members: JsonDict = {
        "images": [
            {
                "id": number,
                "file_name": image.image_path,
                "width": image.width_px,
                "height": image.height_px,
                **({} if image.exhaustive else {"exhaustive": False}),
                **({"reader": image.reader} if image.reader else {}),
            }
            for number, image in enumerate(images, start=1)
        ],
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, start=1)],
    }
    number_of = {label: number for number, label in enumerate(labels, start=1)}
    write_pieces(path, object_with_list(members, "annotations", _annotation_texts(images, number_of)))


def _annotation_texts(images: Sequence[AnnotatedImage], number_of: Mapping[str, int]) -> Iterator[str]:
    annotation_id = 0
    for image_id, image in enumerate(images, start=1):
        scores = image.measures.get(SCORE)
        for index, shape in enumerate(image.shapes):
            annotation_id += 1
            x0, y0, x1, y1 = bounding_box(shape.contour_xy)
            yield json_text(
                {
                    "id": annotation_id,
                    "image_id": image_id,
                    "category_id": number_of[shape.code],
                    "segmentation": [shape.contour_xy.ravel().tolist()],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area(shape.contour_xy),
                    "iscrowd": 0,
                    **({CELL_ID: shape.cell_id} if shape.cell_id else {}),
                    **({_NETWORK_CONTOUR: True} if shape.network_contour else {}),
                    **({"score": float(scores[index])} if scores is not None and scores[index] >= 0 else {}),
                }
            )


def _read_categories(categories: list[object], where: str, faults: list[Fault]) -> dict[Id, str | None]:
    """Return the name of every category id; None for one that has no name, or two."""
    labels: dict[Id, str | None] = {}
    for item in categories:
        category_id = item_id(item.get("id")) if isinstance(item, dict) else None
        if not isinstance(item, dict) or category_id is None:
            faults.append(_broken_id(where, f"category {shorten(item)}"))
            continue
        name = label_text(item.get("name"))
        if category_id in labels and labels[category_id] != name:
            found = f"category id {category_id} twice, as {labels[category_id]!r} and {name!r}"
            faults.append(_id_twice(where, found, "give each category a unique id; its cells are left out"))
            name = None
        labels[category_id] = name
    for name in dict.fromkeys(filter(None, labels.values())):
        same = [str(category_id) for category_id, label in labels.items() if label == name]
        if len(same) > 1:
            found, action = f"category ids {' and '.join(same)}, both {name!r}", "their cells are read as one class"
            faults.append(Fault("same_category", where, found, "each name once", action, loses_data=False))
    return labels


def _read_images(images: list[JsonDict], where: str, faults: list[Fault]) -> tuple[dict[Id, JsonDict], set[Id]]:
    """Return the entry of every image id, and the ids that stand for several images."""
    of_id: defaultdict[Id, list[JsonDict]] = defaultdict(list)
    for entry in images:
        image_id = item_id(entry.get("id"))
        if image_id is None:
            faults.append(_broken_id(where, f"image {shorten(entry)}"))
        else:
            of_id[image_id].append(entry)
    unclear: set[Id] = set()
    for image_id, entries in of_id.items():
        if len(entries) > 1:
            names = " and ".join(shorten(entry.get("file_name")) for entry in entries[:2])
            found = f"image id {image_id} {len(entries)} times, as {names}"
            faults.append(_id_twice(where, found, "give each image a unique id; its cells are left out"))
            unclear.add(image_id)
    return {image_id: entries[0] for image_id, entries in of_id.items() if len(entries) == 1}, unclear


def _broken_id(where: str, found: str) -> Fault:
    return Fault("broken_id", where, found, "a whole number or text as its id", "export the annotation again")


def _id_twice(where: str, found: str, action: str, index: int | None = None) -> Fault:
    return Fault("duplicate_id", where, found, "each id once", action, index)


@dataclass(slots=True)
class _Ids:
    """What ids stand for: the label of each category, and the position of each annotation seen so far."""

    labels: dict[Id, str | None]
    seen: dict[Id, int] = field(default_factory=dict)

    def fault_of(self, item: JsonDict, index: int, where: str) -> Fault | None:
        """Return the fault of an annotation's own id, None where it is absent or the only one."""
        own_id = item_id(item.get("id"))
        if own_id is None:
            return _broken_shape_id(item, index, where) if item.get("id") is not None else None
        if self.seen.setdefault(own_id, index) == index:
            return None
        found = f"annotation id {own_id} again, which shape {self.seen[own_id]} has"
        return _id_twice(where, found, "give each annotation a unique id", index)


def _broken_shape_id(item: JsonDict, index: int, where: str) -> Fault:
    return broken_shape(where, index, f"id {shorten(item['id'])}", "a whole number or text as its id")


def _read_annotation(item: object, index: int, where: str, ids: _Ids, faults: list[Fault]) -> Annotation | None:
    """Take one annotation, or add the fault that says why not."""
    if not isinstance(item, dict):
        faults.append(broken_shape(where, index, shorten(item), "an annotation"))
        return None
    id_fault = ids.fault_of(item, index, where)
    if id_fault is not None:
        faults.append(id_fault)
        return None
    label = ids.labels.get(item_id(item.get("category_id")))
    if label is None:
        found, action = f"category_id {shorten(item.get('category_id'))}", "list the category, with one name"
        expected = "a listed category that has one name"
        faults.append(Fault("unknown_category", where, found, expected, action, index))
        return None
    contour = _read_contour(item, index, where, faults)
    if contour is None:
        return None
    cell_id = id_text(item.get(CELL_ID)) or id_text(item.get("id"))
    return Annotation(label, contour, index, cell_id, network_contour=item.get(_NETWORK_CONTOUR) is True)


def _read_contour(item: JsonDict, index: int, where: str, faults: list[Fault]) -> ContourArray | None:
    """Return the outline of an annotation, or None with the fault."""
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict) or item_id(item.get("iscrowd") or 0) != 0:
        faults.append(shape_type_fault(where, index, "a run-length mask or crowd region"))
        return None
    parts = _read_parts(segmentation)
    if parts is None:
        found = f"segmentation {shorten(segmentation)}"
        faults.append(broken_shape(where, index, found, "a list of polygons [x0, y0, x1, y1, ...]"))
        return None
    return _turned(join_parts(parts, where, index, faults), item, index, where, faults)


def _turned(contour: ContourArray, item: JsonDict, index: int, where: str, faults: list[Fault]) -> ContourArray | None:
    """Return the outline turned by CVAT's ``attributes.rotation``: degrees, clockwise, around the middle of its box.

    None, and a fault, where that is no number or the outline no upright rectangle.
    """
    attributes = item.get("attributes")
    stated = attributes.get("rotation") if isinstance(attributes, dict) else None
    angle = item_id(stated or 0)
    if isinstance(angle, int | float) and angle % _FULL_TURN_DEG == 0:
        return contour
    low, high = contour.min(axis=0), contour.max(axis=0)
    on_corners = ((contour == low) | (contour == high)).all()
    is_upright = len(contour) == len(np.unique(contour, axis=0)) == _CORNERS and on_corners
    if not isinstance(angle, int | float) or not is_upright:
        found = f"attributes.rotation {shorten(stated)} of an outline of {count_of(len(contour), 'point')}"
        faults.append(broken_shape(where, index, found, "an angle in degrees, of an upright rectangle"))
        return None
    found, action = f"a rectangle turned by {angle:g} degrees", "it is read as a polygon with the same outline"
    faults.append(Fault("converted_shape", where, found, "a polygon", action, index, loses_data=False))
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    middle = (low + high) / 2
    return np.asarray((contour - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle, dtype=np.float64)


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
