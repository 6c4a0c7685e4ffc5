"""The regions of one Label Studio annotation: outlines in percent of the image's sides become shapes in pixels.

Everything with one region id is one region: its outline, its label, and a choice made for it, which goes before the
label. Rectangles and ellipses, turned or not, become polygons. What has no outline at all (a choice for the whole
image, a relation, a comment) is no shape; it is counted and noted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

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
from marrowscope.records import Annotation, ContourArray, Fault, JsonDict
from marrowscope.wording import count_of

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


def read_regions(
    result: object, where: str, faults: list[Fault]
) -> tuple[tuple[Annotation, ...], tuple[int, int] | None]:
    """Return the shapes of an annotation and the size of its image in pixels (None where it is not stated, or twice).

    ``shape_index`` is the position among the regions. Whatever cannot be taken is added to ``faults``.
    """
    if not isinstance(result, list):
        found, action = f"result {shorten(result)}", "export the tasks again"
        faults.append(Fault("broken_annotation", where, found, "a list of regions", action))
        return (), None
    regions = _gather(result, where, faults)
    sizes = {size for region in regions if (size := _size_of(region.entry)) is not None}
    shapes: list[Annotation] = []
    for index, region in enumerate(regions):
        read = partial(_read_region, region, index, where, faults, sizes)
        shape = taken_or_fault(read, where, index, faults)
        if shape is not None:
            shapes.append(shape)
    return tuple(shapes), next(iter(sizes)) if len(sizes) == 1 else None


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
    region: _Region, index: int, where: str, faults: list[Fault], sizes: set[tuple[int, int]]
) -> Annotation | None:
    """Take one region, or add the fault that says why not."""
    fault = _fault_of(region, index, where, sizes)
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


def _fault_of(region: _Region, index: int, where: str, sizes: set[tuple[int, int]]) -> Fault | None:
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
    if item_id(turn) != 0 or item_id(number) != 0:
        found = f"image_rotation {shorten(turn)}, item_index {shorten(number)}"
        return broken_shape(where, index, found, "a region of the only image of its task, which is not turned")
    if _size_of(entry) is None or len(sizes) > 1:
        found = (
            "no size of the image" if len(sizes) <= 1 else f"images of {count_of(len(sizes), 'size')} in one annotation"
        )
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
