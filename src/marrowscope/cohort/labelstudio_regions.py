"""The regions of one Label Studio annotation: outlines in percent of the image's sides become shapes in pixels.

Everything with one region id is one region: its outline, its label, and a choice made for it, which goes before the
label. Rectangles and ellipses, turned or not, become polygons. What has no outline at all (a choice for the whole
image, a relation, a comment) is no shape; it is counted and noted. A region belongs to the image that it is drawn on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import (
    broken_shape,
    contour_from_points,
    ellipse,
    id_text,
    item_id,
    label_text,
    shape_type_fault,
    shorten,
    size_px,
    taken_or_fault,
)
from marrowscope.cohort.nested_shapes import join_nested
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.cohort.labelstudio_images import TaskImages

_OUTLINES = ("polygon", "rectangle", "ellipse")
_CHOSEN = ("choices", "taxonomy")
_NO_OUTLINE = ("labels", *_CHOSEN, "textarea", "rating", "number", "relation", "pairwise", "ranker", "datetime")
_KEYS_OF = {"polygon": ("points",), "rectangle": ("x", "y", "width", "height"), "ellipse": ("x", "y", "radiusX")}
_OTHER = "no outline: "
"""What the kind of a region begins with whose outline is of a type that is not read."""
_PERCENT = 100.0


@dataclass(slots=True)
class _Region:
    """What the entries of one region id state; ``entry`` is the one with the outline, ``kind`` is what it is."""

    region_id: str
    kind: str = ""
    entry: JsonDict = field(default_factory=dict)
    labels: list[object] = field(default_factory=list)
    choices: list[object] = field(default_factory=list)
    n_outlines: int = 0


@dataclass(slots=True)
class ImageRegions:
    """What one annotation holds of one image; its size in pixels is None where it is not stated, or twice."""

    shapes: tuple[Annotation, ...] = ()
    size: tuple[int, int] | None = None
    faults: list[Fault] = field(default_factory=list)


def objects_of(result: object) -> set[str]:
    """Return the tags of the labeling interface that the regions of an annotation are drawn on."""
    entries = [entry for entry in result if isinstance(entry, dict)] if isinstance(result, list) else []
    return {str(entry["to_name"]) for entry in entries if entry.get("to_name") and "original_width" in entry}


def read_regions(result: object, where: str, images: TaskImages, faults: list[Fault]) -> dict[str | None, ImageRegions]:
    """Return the regions of an annotation, by name of the image that they are drawn on; None where it cannot be told.

    Every image that was annotated is there, without a region too. ``shape_index`` is the position among all regions.
    What cannot be taken is among the faults of the image, and in ``faults`` what is about the whole annotation.
    """
    read: dict[str | None, ImageRegions] = {name: ImageRegions() for name in images.annotated}
    if not isinstance(result, list):
        found, action = f"result {shorten(result)}", "export the tasks again"
        faults.append(Fault("broken_annotation", where, found, "a list of regions", action))
        return read
    regions = list(enumerate(_gather(result, where, faults)))
    index_of = {region.region_id: index for index, region in reversed(regions) if region.region_id}
    grouped: defaultdict[str | None, list[tuple[int, _Region]]] = defaultdict(list)
    for index, region in regions:
        grouped[images.name_of(region.entry.get("to_name"), region.entry.get("item_index"))].append((index, region))
    for name, mine in grouped.items():
        parent_of = {
            index: index_of[parent]
            for index, region in mine
            if (parent := id_text(region.entry.get("parentID"))) in index_of
        }
        read[name] = _read_image(mine, where, parent_of, has_one=images.only is not None)
    return read


def _read_image(
    regions: Sequence[tuple[int, _Region]], where: str, parent_of: dict[int, int], *, has_one: bool
) -> ImageRegions:
    """Read the regions of one image, each with its position; ``has_one`` tells that its task has no other image."""
    faults: list[Fault] = []
    sizes = {size for _, region in regions if (size := _size_of(region.entry)) is not None}
    shapes: list[Annotation] = []
    for index, region in regions:
        wrong_item = has_one and item_id(region.entry.get("item_index") or 0) != 0
        read = partial(_read_region, region, index, where, faults, sizes, wrong_item=wrong_item)
        shape = taken_or_fault(read, where, index, faults)
        if shape is not None:
            shapes.append(shape)
    size = next(iter(sizes)) if len(sizes) == 1 else None
    return ImageRegions(join_nested(shapes, parent_of, where, faults), size, faults)


def _gather(result: list[object], where: str, faults: list[Fault]) -> list[_Region]:
    """Return the regions in the order of their first entry; entries without any outline are noted."""
    regions: dict[str, _Region] = {}
    for number, item in enumerate(result):
        entry = item if isinstance(item, dict) else {}
        own_id = id_text(entry.get("id"))
        region = regions.setdefault(own_id or f"entry {number}", _Region(own_id))
        kind = str(entry.get("type"))
        stated = entry.get("value")
        value: JsonDict = stated if isinstance(stated, dict) else {}
        outline = kind.removesuffix("labels")
        if region.n_outlines and kind not in _NO_OUTLINE:  # a second outline of one id
            region = regions[f"entry {number} again"] = _Region(own_id, n_outlines=1)
        (region.choices if kind in _CHOSEN else region.labels).extend(_labels(kind, value))
        if outline in _OUTLINES:
            region.kind, region.entry, region.n_outlines = outline, entry, region.n_outlines + 1
        elif kind not in _NO_OUTLINE:
            region.kind, region.entry, region.n_outlines = f"{_OTHER}{shorten(kind)}", entry, region.n_outlines + 1
        elif not region.kind:
            region.kind = next((name for name, keys in _KEYS_OF.items() if all(key in value for key in keys)), "")
            region.entry = entry
    left_out = Counter(str(region.entry.get("type")) for region in regions.values() if not region.kind)
    if left_out:
        found = ", ".join(f"{n} {kind}" for kind, n in left_out.items())
        action = "these belong to no outline and are left out"
        faults.append(Fault("no_outline", where, found, "outlines with labels", action, loses_data=False))
    return [region for region in regions.values() if region.kind]


def _labels(kind: str, value: JsonDict) -> list[object]:
    """Return the labels of one entry; a path through a tree of labels ends in the one that is meant."""
    stated = value.get(kind) if kind.endswith("labels") or kind in _CHOSEN else None
    labels = stated if isinstance(stated, list) else [] if stated is None else [stated]
    return [label[-1] if isinstance(label, list) and label else label for label in labels]


def _size_of(entry: JsonDict) -> tuple[int, int] | None:
    width, height = size_px(entry.get("original_width")), size_px(entry.get("original_height"))
    return None if width is None or height is None else (width, height)


def _read_region(
    region: _Region, index: int, where: str, faults: list[Fault], sizes: set[tuple[int, int]], *, wrong_item: bool
) -> Annotation | None:
    """Take one region, or add the fault that says why not."""
    fault = _fault_of(region, index, where, sizes, wrong_item=wrong_item)
    if fault is not None:
        faults.append(fault)
        return None
    label = _one_label(region, index, where, faults)
    if label is None:
        return None
    value, size = region.entry["value"], np.array(_size_of(region.entry), dtype=np.float64)
    contour = _contour(region.kind, value, size)
    if contour is None:
        faults.append(broken_shape(where, index, shorten(value), f"a {region.kind} in percent of the image's sides"))
        return None
    if region.kind != "polygon":
        action = "it is read as a polygon with the same outline"
        note = Fault("converted_shape", where, f"a {region.kind}", "a polygon", action, index, loses_data=False)
        faults.append(note)
    return Annotation(label, contour, index, region.region_id)


def _fault_of(
    region: _Region, index: int, where: str, sizes: set[tuple[int, int]], *, wrong_item: bool
) -> Fault | None:
    """Return what is wrong with a region before its coordinates are read, None where nothing is."""
    entry, value = region.entry, region.entry.get("value")
    if region.n_outlines > 1:
        found, action = f"region id {region.region_id!r} again", "export the tasks again"
        return Fault("duplicate_id", where, found, "each region once", action, index)
    if region.kind not in _OUTLINES or not isinstance(value, dict):
        return shape_type_fault(where, index, region.kind.removeprefix(_OTHER))
    if value.get("closed") is False:
        return shape_type_fault(where, index, "a polygon that is not closed")
    turn, number = entry.get("image_rotation") or 0, entry.get("item_index") or 0
    if item_id(turn) != 0 or wrong_item:
        found = f"image_rotation {shorten(turn)}, item_index {shorten(number)}"
        return broken_shape(where, index, found, "a region of an image of its task, which is not turned")
    if _size_of(entry) is None or len(sizes) > 1:
        found = "no size of the image" if len(sizes) <= 1 else f"{count_of(len(sizes), 'size')} of one image"
        return broken_shape(where, index, found, "original_width and original_height, the same in all regions")
    return None


def _one_label(region: _Region, index: int, where: str, faults: list[Fault]) -> str | None:
    """Return the choice of a region, else its label; None, and a fault, where there is none or more than one."""
    stated = region.choices or region.labels
    texts = list(dict.fromkeys(label_text(label) for label in stated))
    if len(texts) != 1 or texts[0] is None:
        found = f"labels {shorten(stated)}" if stated else "no label"
        faults.append(broken_shape(where, index, found, "one label or one choice per region"))
        return None
    if region.choices and region.labels and region.labels != region.choices:
        found, action = f"label {shorten(region.labels[0])} and choice {texts[0]!r}", "the choice is read"
        faults.append(Fault("two_labels", where, found, "one label", action, index, loses_data=False))
    return texts[0]


def _contour(kind: str, value: JsonDict, size: ContourArray) -> ContourArray | None:
    """Return the outline of a region in pixels of its image; None where it is no numbers."""
    if kind == "polygon":
        points = contour_from_points(value.get("points"))
        return None if points is None else points / _PERCENT * size
    across, down = ("radiusX", "radiusY") if kind == "ellipse" else ("width", "height")
    turn = value.get("rotation") or 0
    numbers = contour_from_points([[value.get("x"), value.get("y")], [value.get(across), value.get(down)], [turn, 0]])
    if numbers is None or len(numbers) != 3:  # noqa: PLR2004 - corner, sides, turn
        return None
    (x, y), (wide, high) = numbers[:2] / _PERCENT * size
    if kind == "ellipse":
        outline = ellipse(-wide, -high, wide, high)
    else:
        outline = np.array([[0.0, 0.0], [wide, 0.0], [wide, high], [0.0, high]])
    angle = np.deg2rad(numbers[2, 0])
    turned = outline @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(turned + np.array([x, y]), dtype=np.float64)
